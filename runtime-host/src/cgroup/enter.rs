//! Putting a process of ours into a cgroup of its own: the monitor, where a handler wants that.

use std::fs;
use std::io;
use std::path::Path;

use super::{Hierarchies, inside};

impl Hierarchies {
    /// Makes a cgroup in every hierarchy and moves a process there, with all of its threads. What was made before an
    /// error stays: [`Hierarchies::remove`] takes it away once the process has left.
    ///
    /// # Errors
    /// Why the kernel refuses to move it.
    pub fn enter(&self, cgroup: &str, pid: i32) -> io::Result<()> {
        for root in &self.roots {
            let at = inside(root, cgroup);
            make(root, &at)?;
            move_to(&at, pid)?;
        }
        Ok(())
    }
}

impl Hierarchies {
    /// Moves a process into a cgroup that somebody else made, in every hierarchy in which it is there.
    ///
    /// # Errors
    /// Why the kernel refuses to move it.
    pub fn join(&self, cgroup: &str, pid: i32) -> io::Result<()> {
        for root in &self.roots {
            let at = inside(root, cgroup);
            if at.is_dir() {
                move_to(&at, pid)?;
            }
        }
        Ok(())
    }
}

fn move_to(at: &Path, pid: i32) -> io::Result<()> {
    fs::write(at.join("cgroup.procs"), pid.to_string())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", at.display())))
}

/// Makes a cgroup and its parents below a root. Of version 1 a new cpuset is empty and takes no process, so each level is
/// given what the one above has.
fn make(root: &Path, at: &Path) -> io::Result<()> {
    let mut levels: Vec<&Path> = at.ancestors().take_while(|level| *level != root).collect();
    levels.reverse();
    for level in levels {
        match fs::create_dir(level) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", level.display())));
            }
            _ => {}
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = level.join(file);
            let is_empty = fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty());
            // Version 2 has these files too, where empty means all: there is nothing to copy then.
            if let (true, Some(above)) = (is_empty, level.parent().map(|above| above.join(file)))
                && let Ok(text) = fs::read_to_string(above)
                && !text.trim().is_empty()
            {
                fs::write(own, text.trim())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpuset_is_filled_from_above_at_each_new_level() {
        let at = tempfile::tempdir().unwrap();
        let root = at.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // The kernel makes these files with the directory; here they are there beforehand.
        write("cpuset.cpus", "0-3\n");
        write("cpuset.mems", "0\n");
        for level in ["a", "a/b"] {
            write(&format!("{level}/cpuset.cpus"), "\n");
            write(&format!("{level}/cpuset.mems"), "0");
        }
        let host = Hierarchies { roots: vec![root.to_owned()], ..Hierarchies::default() };
        host.enter("/a/b", 42).unwrap();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        assert_eq!((read("a/cpuset.cpus"), read("a/b/cpuset.cpus")), ("0-3".into(), "0-3".into()));
        assert_eq!((read("a/b/cpuset.mems"), read("a/b/cgroup.procs")), ("0".into(), "42".into()));
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let at = tempfile::tempdir().unwrap();
        let root = at.path().join("file");
        fs::write(&root, "").unwrap();
        let host = Hierarchies { roots: vec![root], ..Hierarchies::default() };
        let error = host.enter("/a", 42).unwrap_err().to_string();
        assert!(error.contains("file/a"), "{error}");
    }
}
