//! What was read of a container holds for as long as nothing in its directory changes.
//!
//! Records are replaced, and exit files arrive, by a rename inside the container's directory. That changes the
//! directory's times, so one look at these stands for reading both files. Times come in ticks of some milliseconds: what
//! was read of a directory that had changed within the last tick might miss a change and is not kept.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use runtime_api::{ContainerId, ExitStatus, Result};
use runtime_host::process::{Identity, Recognised};

use crate::layout::ContainerDir;
use crate::observe;
use crate::record::Record;

/// Longer than any tick by far.
const SETTLED: Duration = Duration::from_millis(200);

/// One container as it was read.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) record: Record,
    /// What the exit file said.
    pub(crate) exit: Option<ExitStatus>,
    init: Recognised,
}

impl Known {
    /// Whether the init lives.
    pub(crate) fn init_lives(&self, init: Identity) -> bool {
        self.init.lives(init)
    }
}

/// What a value has read of its containers.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<HashMap<ContainerId, (Stamp, Arc<Known>)>>);

impl Shelf {
    /// The container as it is now; `None` when there is none.
    pub(crate) fn read(&self, id: &ContainerId, dir: &ContainerDir) -> Result<Option<Arc<Known>>> {
        let stamp = Stamp::of(dir);
        if let (Some(now), Some((then, known))) = (stamp, self.entries().get(id))
            && now == *then
        {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(record) = Record::read(dir)? else {
            self.entries().remove(id);
            return Ok(None);
        };
        let exit = if observe::may_have_ended(&record) { observe::exit_file(&record, dir)? } else { None };
        let known = Arc::new(Known { record, exit, init: Recognised::default() });
        match stamp.filter(|stamp| stamp.is_settled() && Stamp::of(dir) == Some(*stamp)) {
            Some(stamp) => drop(self.entries().insert(id.clone(), (stamp, Arc::clone(&known)))),
            None => drop(self.entries().remove(id)),
        }
        Ok(Some(known))
    }

    /// Forgets one that is gone.
    pub(crate) fn forget(&self, id: &ContainerId) {
        self.entries().remove(id);
    }

    /// Forgets all that are not among these.
    pub(crate) fn keep_only(&self, ids: &[ContainerId]) {
        let mut entries = self.entries();
        if entries.len() > ids.len() {
            let ids: std::collections::HashSet<_> = ids.iter().collect();
            entries.retain(|id, _| ids.contains(id));
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, (Stamp, Arc<Known>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which directory it is and when it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(dir: &ContainerDir) -> Option<Self> {
        let meta = std::fs::metadata(dir.path()).ok()?;
        Some(Self {
            place: (meta.dev(), meta.ino()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Whether the last change is so long ago that another one would have another time.
    fn is_settled(&self) -> bool {
        let changed = u64::try_from(self.changed.0).ok().zip(u32::try_from(self.changed.1).ok());
        let since = changed
            .map(|(seconds, nanos)| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos))
            .and_then(|then| SystemTime::now().duration_since(then).ok());
        // A change in the future was made before the clock was set back: such a time may come again.
        since.is_some_and(|since| since > SETTLED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_at_once_and_what_holds_is_not_read_again() {
        let at = tempfile::tempdir().unwrap();
        let dir = ContainerDir::at(at.path().to_owned());
        let id = ContainerId::new("a").unwrap();
        let shelf = Shelf::default();
        assert!(shelf.read(&id, &dir).unwrap().is_none());

        let mut record = Record::new(id.clone(), "/b".into(), "boot".into());
        record.phase = crate::record::Phase::Started;
        for number in 0..50 {
            record.bundle = format!("/{number}").into();
            record.write(&dir).unwrap();
            let known = shelf.read(&id, &dir).unwrap().unwrap();
            assert_eq!(known.record.bundle, record.bundle);
        }
        loop {
            let written = std::time::Instant::now();
            record.write(&dir).unwrap();
            let before = shelf.read(&id, &dir).unwrap().unwrap();
            let again = shelf.read(&id, &dir).unwrap().unwrap();
            // A host that is too busy for that must try again.
            if written.elapsed() < SETTLED {
                assert!(!Arc::ptr_eq(&before, &again), "it changed within the last tick");
                break;
            }
        }

        let until = std::time::Instant::now() + SETTLED * 2;
        while std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        let before = shelf.read(&id, &dir).unwrap().unwrap();
        let again = shelf.read(&id, &dir).unwrap().unwrap();
        assert!(Arc::ptr_eq(&before, &again));
        assert!(again.exit.is_none());

        std::fs::write(at.path().join("exit.new"), "3").unwrap();
        std::fs::rename(at.path().join("exit.new"), dir.exit()).unwrap();
        let known = shelf.read(&id, &dir).unwrap().unwrap();
        assert_eq!(known.exit.as_ref().and_then(|exit| exit.code), Some(3));
        shelf.keep_only(&[]);
        assert!(shelf.entries().is_empty());
    }
}
