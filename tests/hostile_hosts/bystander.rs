//! Processes that have nothing to do with any container, and must survive whatever is done to one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A child of the test. It ends with the value.
pub(crate) struct Bystander(Child);

impl Bystander {
    pub(crate) fn run(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.current_dir("/").spawn().unwrap())
    }

    pub(crate) fn sleeps() -> Self {
        Self::run("sleep", &["600"])
    }

    #[track_caller]
    pub(crate) fn assert_lives(&mut self) {
        let ended = self.0.try_wait().unwrap();
        assert!(ended.is_none(), "a stranger's process was ended: {ended:?}");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cgroup of the test in the hierarchy by which processes are frozen. It is removed with the value.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn make(name: &str) -> Self {
        let freezer = Path::new("/sys/fs/cgroup/freezer");
        let root = if freezer.is_dir() { freezer } else { Path::new("/sys/fs/cgroup") };
        let path = root.join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn child(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// Puts a process in it that is no container's.
    pub(crate) fn inhabit(&self) -> Bystander {
        let bystander = Bystander::sleeps();
        std::fs::write(self.procs(), bystander.0.id().to_string()).unwrap();
        bystander
    }

    pub(crate) fn children(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Cgroup {
    #[expect(clippy::disallowed_methods, reason = "a drop cannot wait in another way")]
    fn drop(&mut self) {
        // Fails as long as somebody is in it, and who was killed is for a moment; what is left then is removed with the place,
        // or reported.
        for _ in 0..1000 {
            match std::fs::remove_dir(&self.0) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}
