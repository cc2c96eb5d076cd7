//! Where the monitor's program is.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};

/// The name of the program.
pub const PROGRAM: &str = "manyrun-vm-io";

/// Where distributions put programs that are not for people.
const PLACES: [&str; 3] = ["/usr/local/libexec/manyrun", "/usr/libexec/manyrun", "/usr/lib/manyrun"];

/// Finds the monitor's program: what the handler names, else what is beside the program that runs now (or one directory
/// above it, as with the tests of a build), else in the directories for helpers, else on the search path.
///
/// # Errors
/// `Unavailable` when it is nowhere, or not where the handler says.
pub fn find(named: Option<&Path>) -> Result<PathBuf> {
    let own = std::env::current_exe().ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_among(named, own.as_deref(), &PLACES.map(Path::new), &path)
}

fn find_among(named: Option<&Path>, own: Option<&Path>, places: &[&Path], path: &OsStr) -> Result<PathBuf> {
    if let Some(named) = named {
        return if is_program(named) {
            Ok(named.to_owned())
        } else {
            let what = format!("the option monitor.path names {}, which is no program", named.display());
            Err(missing(what).hint("correct the option, or leave it out"))
        };
    }
    let beside = own.into_iter().flat_map(|own| own.ancestors().skip(1).take(2)).map(Path::to_owned);
    let places = places.iter().map(|place| PathBuf::from(*place));
    let searched = std::env::split_paths(path).filter(|directory| directory.is_absolute());
    let mut candidates = beside.chain(places).chain(searched).map(|directory| directory.join(PROGRAM));
    candidates.find(|candidate| is_program(candidate)).ok_or_else(|| {
        missing(format!("{PROGRAM}, which carries the output of programs behind a shim, is not installed"))
            .hint(format!(
                "`cargo install --path runtime-vm` installs it, and so does a copy of {PROGRAM} beside this program or on PATH; \
                 or name it in the option monitor.path"
            ))
    })
}

fn missing(what: String) -> Error {
    Error::new(ErrorKind::Unavailable(what))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_owned()
    }

    #[test]
    fn it_is_looked_for_in_order() {
        let at = tempfile::tempdir().unwrap();
        let at = at.path();
        let path =
            std::env::join_paths([Path::new("relative"), &at.join("nothing"), &at.join("bin")]).unwrap();
        let helpers = at.join("libexec");
        let own = at.join("build/deps/test");
        let look = |named| find_among(named, Some(&own), &[&helpers], &path);
        let error = look(None).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert!(error.advice().unwrap().contains("monitor.path"));
        // Nobody may run it.
        std::fs::create_dir_all(&helpers).unwrap();
        std::fs::write(helpers.join(PROGRAM), "").unwrap();
        for directory in ["bin", "libexec", "build", "build/deps"] {
            let there = program(&at.join(directory).join(PROGRAM));
            assert_eq!(look(None).unwrap(), there);
        }
        let named = program(&at.join("other"));
        assert_eq!(look(Some(&named)).unwrap(), named);
        let error = look(Some(&at.join("gone"))).unwrap_err();
        assert!(error.to_string().contains("gone"), "{error}");
    }
}
