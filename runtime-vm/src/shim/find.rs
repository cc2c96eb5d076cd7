//! Where the binary of a shim is.

use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};

/// Finds a shim by its path, or on `PATH` by its containerd name: `io.containerd.runc.v2` is the binary
/// `containerd-shim-runc-v2`. What is neither is looked for on `PATH` as it is.
///
/// # Errors
/// `Unavailable` when there is no such binary, `ConfigInvalid` for the name of containerd's first generation, whose shims
/// are something else, and for an empty one.
pub fn find(reference: &str) -> Result<PathBuf> {
    let name = binary_name(reference)?;
    let path = Path::new(&name);
    let found = if path.is_absolute() { which::which(path) } else { which::which(&name) };
    found.map_err(|error| {
        let what = format!("there is no shim {name:?}");
        let error = Error::new(ErrorKind::Unavailable(what)).during_step("find the shim").caused_by(error);
        if path.is_absolute() {
            error.hint("install it, or name another path")
        } else {
            error.hint("install it in a directory of PATH, or name its path")
        }
    })
}

/// The name of the binary that a reference means.
///
/// # Errors
/// As [`find`].
fn binary_name(reference: &str) -> Result<String> {
    let invalid = |what: String| Error::new(ErrorKind::ConfigInvalid(what)).during_step("find the shim");
    if reference.is_empty() {
        return Err(invalid("the shim has no name".to_owned()));
    }
    if reference.contains('/') {
        if !reference.starts_with('/') {
            return Err(invalid(format!("the shim {reference:?} is neither a name nor an absolute path")));
        }
        return Ok(reference.to_owned());
    }
    let mut parts = reference.rsplit('.');
    let (Some(version), Some(name), Some(_before)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(reference.to_owned());
    };
    let numbered =
        version.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if reference == "io.containerd.runtime.v1.linux" {
        return Err(invalid(format!("{reference:?} is of containerd's first generation of shims")));
    }
    if !numbered || name.is_empty() {
        return Ok(reference.to_owned());
    }
    Ok(format!("containerd-shim-{name}-{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_binaries() {
        let rows = [
            ("io.containerd.runc.v2", "containerd-shim-runc-v2"),
            ("io.containerd.kata-qemu.v2", "containerd-shim-kata-qemu-v2"),
            ("com.example.x.v10", "containerd-shim-x-v10"),
            ("containerd-shim-runc-v2-rs", "containerd-shim-runc-v2-rs"),
            ("x.v2", "x.v2"),
            ("/opt/kata/bin/containerd-shim-kata-v2", "/opt/kata/bin/containerd-shim-kata-v2"),
            ("a.b.c", "a.b.c"),
        ];
        for (reference, name) in rows {
            assert_eq!(binary_name(reference).unwrap(), name);
        }
        for wrong in ["", "bin/shim", "./shim", "io.containerd.runtime.v1.linux"] {
            let error = binary_name(wrong).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{wrong:?}: {error:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_unavailable_and_named() {
        for reference in ["/nonexistent/shim", "io.containerd.no-such-shim.v2"] {
            let error = find(reference).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
            assert!(error.to_string().contains("shim"), "{error}");
            assert!(error.advice().is_some());
        }
        assert_eq!(find("/bin/sh").unwrap(), Path::new("/bin/sh"));
        assert!(find("sh").unwrap().is_absolute());
    }
}
