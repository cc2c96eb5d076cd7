//! Containers' identities in files, for several processes and for the time after a restart.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use runtime_api::{Container, ContainerId, ContainerStore, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::regular_file;
use crate::replace::replace;

const SCHEMA: u32 = 1;
/// Labels and annotations are what can be large in a record.
const LARGEST: u64 = 16 << 20;

/// One file for each container. Any number of processes may use a directory: each change is one rename or one removal, so
/// that a reader sees a record whole or not at all.
///
/// Changes survive the end of the process, not a loss of power: the backends alone know what runs, and are asked anyway.
#[derive(Clone, Debug)]
pub struct DiskStore(PathBuf);

/// What can be said of a record of any release.
#[derive(Deserialize)]
struct Format {
    schema: u32,
}

#[derive(Serialize, Deserialize)]
struct Record {
    schema: u32,
    container: Container,
}

impl DiskStore {
    /// A store in this directory, which is made when the first container is added.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    fn path(&self, id: &ContainerId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    /// Every record, in no order: those that are whole, and what is wrong with the others.
    fn records(&self) -> Result<(Vec<Container>, Vec<Error>)> {
        let (mut whole, mut damaged) = (Vec::new(), Vec::new());
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((whole, damaged)),
            Err(error) => return Err(failed(&self.0, error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| failed(&self.0, error))?.path();
            let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path.extension() == Some(OsStr::new("json")) {
                match read(&path) {
                    // What was deleted meanwhile is none of them.
                    Ok(found) => whole.extend(found),
                    Err(error) => damaged.push(error),
                }
            }
        }
        Ok((whole, damaged))
    }

    fn write(&self, container: Container) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let path = self.path(&container.id);
        let text = serde_json::to_vec_pretty(&Record { schema: SCHEMA, container })?;
        replace(&path, &text)
    }
}

impl ContainerStore for DiskStore {
    fn add(&self, container: Container) -> Result<()> {
        let path = self.path(&container.id);
        self.write(container).map_err(|error| failed(&path, error))
    }

    fn get(&self, id: &ContainerId) -> Result<Option<Container>> {
        read(&self.path(id))
    }

    fn delete(&self, id: &ContainerId) -> Result<()> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }

    fn list(&self) -> Result<Vec<Container>> {
        let (mut all, damaged) = self.records()?;
        for error in damaged {
            tracing::warn!(record = error.subject().unwrap_or_default(), "left out: {}", error.report());
        }
        all.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    fn damaged(&self) -> Result<Vec<Error>> {
        self.records().map(|(_, damaged)| damaged)
    }
}

/// The record in this file; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Container>> {
    let text = match regular_file::read(path, LARGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error)),
    };
    let damaged = |what: String| {
        Error::new(ErrorKind::ConfigInvalid(what))
            .during_step("read store")
            .on(path.display())
            .hint("the container itself is not touched by deleting this file")
    };
    let of = |error| damaged(format!("it is damaged: {error}"));
    let Format { schema } = serde_json::from_slice(&text).map_err(of)?;
    if schema != SCHEMA {
        // It is whole, and a newer release can read it.
        let what = format!("its format is {schema}, and only {SCHEMA} is known");
        return Err(Error::new(ErrorKind::Unavailable(what)).during_step("read store").on(path.display()));
    }
    let record: Record = serde_json::from_slice(&text).map_err(of)?;
    let named = path.file_stem().and_then(OsStr::to_str);
    if named != Some(record.container.id.as_str()) {
        return Err(damaged(format!("it holds the container \"{}\"", record.container.id)));
    }
    Ok(Some(record.container))
}

fn failed(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull => ErrorKind::Exhausted("the disk is full".to_owned()),
        _ => ErrorKind::Internal("the store cannot be read or written".to_owned()),
    };
    Error::new(kind).during_step("use store").on(path.display()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;
    use runtime_api::{HandlerName, Signal};
    use std::time::{Duration, SystemTime};

    fn container(name: &str, age: u64) -> Container {
        let created = SystemTime::UNIX_EPOCH + Duration::new(1000 - age, 7);
        let mut container = Container::new(id(name), "/b", HandlerName::new("h").unwrap(), "0", created);
        container.labels.insert("owner".into(), "test".into());
        container.stop_signal = Some(Signal::TERM);
        container
    }

    #[test]
    fn another_process_finds_what_was_added() {
        let place = tempfile::tempdir().unwrap();
        let store = DiskStore::new(place.path().join("new/store"));
        assert!(store.list().unwrap().is_empty() && store.get(&id("a")).unwrap().is_none());
        for (name, age) in [("old", 9), ("b", 1), ("a", 1), ("a.json", 3)] {
            store.add(container(name, age)).unwrap();
        }
        let again = DiskStore::new(place.path().join("new/store"));
        let names: Vec<_> = again.list().unwrap().into_iter().map(|each| each.name).collect();
        assert_eq!(names, ["a", "b", "a.json", "old"]);
        assert_eq!(again.get(&id("b")).unwrap().unwrap(), container("b", 1));
        again.add(container("b", 20)).unwrap();
        assert_eq!(store.list().unwrap().last().unwrap().name, "b", "it was replaced");
        again.delete(&id("b")).unwrap();
        again.delete(&id("b")).unwrap();
        assert_eq!(store.size().unwrap(), 3);
    }

    #[test]
    fn records_of_earlier_releases_are_read() {
        let place = tempfile::tempdir().unwrap();
        let store = DiskStore::new(place.path());
        store.add(container("a", 1)).unwrap();
        let path = place.path().join("a.json");
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for later in
            ["volumes", "mount_point", "id_mappings", "infra", "spoofed", "restored_from", "start_failure"]
        {
            assert!(record["container"].as_object_mut().unwrap().remove(later).is_some(), "{later}");
        }
        std::fs::write(&path, record.to_string()).unwrap();
        assert_eq!(store.get(&id("a")).unwrap(), Some(container("a", 1)));
    }

    #[test]
    fn a_reducer_may_change_the_store() {
        let place = tempfile::tempdir().unwrap();
        let store = DiskStore::new(place.path());
        store.add(container("a", 1)).unwrap();
        store.apply_all(&|each| store.delete(&each.id).unwrap()).unwrap();
        assert_eq!(store.size().unwrap(), 0);
    }

    #[test]
    fn a_damaged_record_is_named_and_hides_no_other() {
        let place = tempfile::tempdir().unwrap();
        let store = DiskStore::new(place.path());
        store.add(container("a", 1)).unwrap();
        std::fs::write(place.path().join(".1.1"), "left over").unwrap();
        std::fs::write(place.path().join("notes.txt"), "of somebody else").unwrap();
        assert_eq!(store.size().unwrap(), 1);
        std::fs::copy(place.path().join("a.json"), place.path().join("b.json")).unwrap();
        let error = store.get(&id("b")).unwrap_err();
        assert!(error.to_string().contains("it holds the container \"a\""), "{error}");
        std::fs::write(place.path().join("b.json"), "{").unwrap();
        std::fs::create_dir(place.path().join("c.json")).unwrap();
        std::fs::write(place.path().join("d.json"), [0xff, 0]).unwrap();
        assert_eq!(store.list().unwrap(), [container("a", 1)]);
        assert_eq!((store.size().unwrap(), store.first(&|_| true).unwrap()), (1, Some(container("a", 1))));
        let mut told: Vec<_> =
            store.damaged().unwrap().iter().filter_map(Error::subject).map(str::to_owned).collect();
        told.sort();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().zip(["b", "c", "d"]).all(|(path, name)| path.ends_with(&format!("{name}.json"))));
        assert!(store.get(&id("b")).unwrap_err().to_string().contains("b.json: it is damaged"));
        store.add(container("b", 2)).unwrap();
        assert_eq!((store.size().unwrap(), store.damaged().unwrap().len()), (2, 2), "it was replaced");
        std::fs::write(place.path().join("e.json"), r#"{"schema": 2, "of": "a newer release"}"#).unwrap();
        let error = store.get(&id("e")).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("its format is 2"), "{error}");
    }
}
