//! conmon's control fifo: how a monitor at work is told the size of its terminal, and to open its log anew.
//!
//! The fifo `ctl` carries lines. conmon 2.1.6 reads all that has come, and of two lines in one read it does the first
//! twice and the second never. It passes a size on to itself through a second fifo, `winsz`, with the same fault. So a
//! line is written only when both fifos are empty and the line before it has had time to get from one to the other.
//! Writers wait their turn by a flock on `ctl`, also between processes; the kernel drops that of a dead one.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::{Errno, ioctl_fionread};
use tokio::time::{Instant, sleep};

use runtime_api::{Error, ErrorKind, Peer, Result, WindowSize};
use runtime_host::attach::Terminal;

/// How long conmon may take to read a line, all writers before us included.
const LIMIT: Duration = Duration::from_secs(9);
/// The least time between two lines.
const SPACING: Duration = Duration::from_millis(10);
/// How long a size may take from one fifo to the other before it is taken for granted.
const PASSAGE: Duration = Duration::from_millis(200);

/// The fifos of one conmon.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    ctl: PathBuf,
    winsz: PathBuf,
}

impl Control {
    /// Those of the conmon that was given this bundle.
    pub(crate) fn of(bundle: &Path) -> Self {
        Self { ctl: bundle.join("ctl"), winsz: bundle.join("winsz") }
    }

    /// Asks for a size of the terminal. It counts from this call on: of the sizes that are wanted when it is somebody's
    /// turn in this process, only the newest is written.
    pub(crate) fn resize(&self, size: WindowSize) -> Resize {
        let number = wanted(|all| {
            let wishes = all.entry(self.ctl.clone()).or_default();
            wishes.callers += 1;
            wishes.last += 1;
            wishes.newest = Some(size);
            wishes.last
        });
        Resize { control: self.clone(), number }
    }

    /// Asks conmon to open its log anew, unless `is_open` says that it has the right file open, and waits until it does.
    /// `check` may still refuse before it is asked. Nobody else asks in between.
    pub(crate) async fn reopen_log(
        &self,
        is_open: impl Fn() -> Result<bool>,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let ctl = self.turn(deadline).await?;
        if is_open()? {
            return Ok(());
        }
        self.until_taken(&ctl, deadline, || true).await?;
        check()?;
        self.write(&ctl, "2 0 0\n").await?;
        let mut pause = Pause::new(deadline);
        while !is_open()? {
            pause.once().await?;
            open(&self.ctl)?;
        }
        self.until_taken(&ctl, deadline, || true).await
    }

    /// Waits until it is our turn to write.
    async fn turn(&self, deadline: Instant) -> Result<File> {
        let mut pause = Pause::new(deadline);
        loop {
            // Opened anew each time: without a reader, which is conmon, it cannot be opened.
            let ctl = open(&self.ctl)?;
            match flock(&ctl, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(ctl),
                Err(Errno::WOULDBLOCK | Errno::INTR) => pause.once().await?,
                Err(error) => return Err(broken(&self.ctl, error)),
            }
        }
    }

    /// Waits until conmon has read every line, and until more is true besides.
    async fn until_taken(&self, ctl: &File, deadline: Instant, more: impl Fn() -> bool) -> Result<()> {
        let mut pause = Pause::new(deadline);
        loop {
            let unread = ioctl_fionread(ctl).map_err(|error| broken(&self.ctl, error))?;
            if unread == 0 && more() {
                return Ok(());
            }
            pause.once().await?;
            open(&self.ctl)?;
        }
    }

    /// Writes one line, not too soon after the one before it.
    async fn write(&self, ctl: &File, line: &str) -> Result<()> {
        let last = ctl.metadata().and_then(|ctl| ctl.modified());
        let age = last.ok().and_then(|last| SystemTime::now().duration_since(last).ok());
        sleep(SPACING.saturating_sub(age.unwrap_or_default())).await;
        match rustix::io::write(ctl, line.as_bytes()) {
            Ok(count) if count == line.len() => Ok(()),
            Ok(_) => Err(broken(&self.ctl, Errno::IO)),
            Err(Errno::PIPE) => Err(lost(Errno::PIPE)),
            Err(error) => Err(broken(&self.ctl, error)),
        }
    }

    /// Whether no size is between the fifo and the terminal.
    fn sizes_have_arrived(&self) -> bool {
        // What cannot be opened is no reason to wait.
        open(&self.winsz).map_or(true, |winsz| ioctl_fionread(winsz).map_or(true, |unread| unread == 0))
    }

    /// When a size was last passed on.
    fn passed_on(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.winsz).and_then(|winsz| winsz.modified()).ok()
    }
}

impl Terminal for Control {
    async fn resize(&self, size: WindowSize) -> Result<()> {
        Control::resize(self, size).done().await
    }
}

/// A size that is wanted. Dropped, it may still be written, on behalf of a caller that wanted one earlier.
#[derive(Debug)]
pub(crate) struct Resize {
    control: Control,
    number: u64,
}

impl Resize {
    /// Waits until conmon has this size, or a newer one.
    pub(crate) async fn done(self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let control = &self.control;
        let ctl = control.turn(deadline).await?;
        let next = wanted(|all| {
            let wishes = all.get(&control.ctl)?;
            (wishes.written < self.number).then_some((wishes.last, wishes.newest?))
        });
        let Some((last, size)) = next else { return Ok(()) };
        control.until_taken(&ctl, deadline, || control.sizes_have_arrived()).await?;
        let before = control.passed_on();
        control.write(&ctl, &format!("1 {} {}\n", size.rows, size.columns)).await?;
        wanted(|all| {
            if let Some(wishes) = all.get_mut(&control.ctl) {
                wishes.written = wishes.written.max(last);
            }
        });
        let since = Instant::now();
        // Between the read from one fifo and the write to the other both are empty: the time of that write tells.
        let passed = || control.passed_on() != before || since.elapsed() >= PASSAGE;
        control.until_taken(&ctl, deadline, || passed() && control.sizes_have_arrived()).await
    }
}

impl Drop for Resize {
    fn drop(&mut self) {
        wanted(|all| {
            if let Some(wishes) = all.get_mut(&self.control.ctl) {
                wishes.callers -= 1;
                if wishes.callers == 0 {
                    all.remove(&self.control.ctl);
                }
            }
        });
    }
}

/// The sizes that are wanted in this process of one terminal.
#[derive(Debug, Default)]
struct Wishes {
    callers: usize,
    last: u64,
    newest: Option<WindowSize>,
    written: u64,
}

fn wanted<T>(work: impl FnOnce(&mut BTreeMap<PathBuf, Wishes>) -> T) -> T {
    static WANTED: Mutex<BTreeMap<PathBuf, Wishes>> = Mutex::new(BTreeMap::new());
    work(&mut WANTED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Growing pauses until a deadline.
struct Pause {
    next: Duration,
    deadline: Instant,
}

impl Pause {
    const fn new(deadline: Instant) -> Self {
        Self { next: Duration::from_micros(200), deadline }
    }

    async fn once(&mut self) -> Result<()> {
        if Instant::now() >= self.deadline {
            return Err(Error::new(ErrorKind::TimedOut(LIMIT)).hint(
                "the monitor does not read its control fifo; it may be stopped, or held up by a client",
            ));
        }
        sleep(self.next).await;
        self.next = (self.next * 2).min(Duration::from_millis(10));
        Ok(())
    }
}

/// Opens a fifo for writing. That fails at once where nobody reads it.
fn open(path: &Path) -> Result<File> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fifo) => Ok(fifo.into()),
        Err(error @ (Errno::NXIO | Errno::NOENT)) => Err(lost(error)),
        Err(error) => Err(broken(path, error)),
    }
}

fn lost(error: Errno) -> Error {
    Error::new(ErrorKind::PeerLost(Peer::Monitor))
        .caused_by(std::io::Error::from(error))
        .hint("the monitor does not read its control fifo; its container can still be stopped and deleted")
}

fn broken(path: &Path, error: Errno) -> Error {
    let kind = match error {
        Errno::ACCESS | Errno::PERM => ErrorKind::PermissionDenied,
        Errno::MFILE | Errno::NFILE => ErrorKind::Exhausted("no file descriptor is left".into()),
        _ => ErrorKind::Internal("the monitor's control fifo cannot be used".into()),
    };
    Error::new(kind).on(format_args!("fifo {}", path.display())).caused_by(std::io::Error::from(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    fn size(rows: u16) -> WindowSize {
        WindowSize::new(rows, 80).unwrap()
    }

    /// Two fifos and what a conmon keeps open of them.
    fn fifos() -> (tempfile::TempDir, [File; 2]) {
        let at = tempfile::tempdir().unwrap();
        let made = ["ctl", "winsz"].map(|name| {
            let path = at.path().join(name);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            File::from(rustix::fs::open(&path, flags, Mode::empty()).unwrap())
        });
        (at, made)
    }

    /// Does what conmon 2.1.6 does with what has come: of several lines in one read the first counts. Here more than one
    /// is a failure.
    fn read_line(mut from: &File) -> Option<String> {
        let mut text = [0; 199];
        let count = std::io::Read::read(&mut from, &mut text).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..count]).into_owned();
        assert!(text.lines().count() < 2, "conmon would lose a line of {text:?}");
        text.lines().next().map(str::to_owned)
    }

    /// A conmon that takes its time, until it is told and has nothing left to read.
    async fn conmon(
        [ctl, winsz]: [File; 2],
        reopened: Arc<AtomicUsize>,
        over: Arc<AtomicBool>,
    ) -> Vec<String> {
        let rest = |millis| sleep(Duration::from_millis(millis));
        let mut sizes = Vec::new();
        loop {
            let ending = over.load(Ordering::SeqCst);
            if let Some(line) = read_line(&ctl) {
                rest(5).await;
                match line.strip_prefix("1 ") {
                    Some(size) => {
                        rustix::io::write(&winsz, format!("{size}\n").as_bytes()).unwrap();
                    }
                    None => {
                        reopened.fetch_add(1, Ordering::SeqCst);
                    }
                }
                rest(15).await;
            }
            match read_line(&winsz) {
                Some(line) => sizes.push(line),
                None if ending => return sizes,
                None => rest(2).await,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_two_lines_come_in_one_read_and_the_last_size_wins() {
        let (at, fifos) = fifos();
        let (over, reopened) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let monitor = tokio::spawn(conmon(fifos, Arc::clone(&reopened), Arc::clone(&over)));
        let control = Control::of(at.path());
        // Another process has wishes of its own: so has another path to the same fifos.
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(at.path(), elsewhere.path().join("link")).unwrap();
        let other = Control::of(&elsewhere.path().join("link"));
        let burst: Vec<_> = (1..=100).map(|rows| tokio::spawn(control.resize(size(rows)).done())).collect();
        let count = Arc::clone(&reopened);
        let reopening = tokio::spawn(async move {
            for wanted in 1..=3 {
                let done = || Ok(count.load(Ordering::SeqCst) == wanted);
                other.reopen_log(done, || Ok(())).await.unwrap();
            }
        });
        for each in burst {
            each.await.unwrap().unwrap();
        }
        reopening.await.unwrap();
        for rows in 201..=205 {
            control.resize(size(rows)).done().await.unwrap();
        }
        over.store(true, Ordering::SeqCst);
        let sizes = monitor.await.unwrap();
        assert!(sizes.len() < 50, "a burst is written as its newest size: {sizes:?}");
        assert!(sizes.contains(&"100 80".to_owned()), "{sizes:?}");
        assert_eq!(sizes[sizes.len() - 5..], [201, 202, 203, 204, 205].map(|rows| format!("{rows} 80")));
        assert_eq!(reopened.load(Ordering::SeqCst), 3);
        assert!(wanted(|all| !all.contains_key(&control.ctl)), "nobody wants anything any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_monitor_and_one_that_does_not_read_are_told_apart() {
        let (at, fifos) = fifos();
        let control = Control::of(at.path());
        let error = control.resize(size(1)).done().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");
        let error = control.reopen_log(|| Ok(false), || Ok(())).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");
        drop(fifos);
        for done in [control.resize(size(2)).done().await, control.reopen_log(|| Ok(false), || Ok(())).await]
        {
            assert_eq!(done.unwrap_err().kind(), &ErrorKind::PeerLost(Peer::Monitor));
        }
        std::fs::remove_file(at.path().join("ctl")).unwrap();
        let error = control.reopen_log(|| Ok(true), || Ok(())).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PeerLost(Peer::Monitor));
    }
}
