//! Control groups by name, in every hierarchy of either version.

use std::path::Path;

use super::{Descend, name_has, walk};

/// The control groups whose name has the token in it, one line each.
pub(super) fn named(token: &str) -> Vec<String> {
    let mut found = Vec::new();
    // The first level is a hierarchy each (version 1) or the groups themselves (version 2).
    walk(Path::new("/sys/fs/cgroup"), 8, &mut |path| {
        if name_has(path, token) {
            found.push(format!("cgroup {}", path.display()));
            return Descend::No;
        }
        Descend::Yes
    });
    found
}
