//! The probe program: a static binary that runs a [`script`](crate::script) and needs nothing around it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The program's file name.
pub const NAME: &str = "manyrun-probe";

/// The program's path in the bundles that [`bundle::write`](crate::bundle::write) makes.
pub const PATH: &str = "/manyrun-probe";

/// The program itself.
pub static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/manyrun-probe"));

/// Puts the program into `dir`, executable by everybody, and gives its path.
///
/// # Errors
/// Those of creating, writing and renaming a file in `dir`.
pub fn install(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join(NAME);
    // Renamed into place, so that a program which runs already is replaced and not written to.
    let fresh = dir.join(format!(".{NAME}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&fresh)?;
    file.write_all(BYTES)?;
    drop(file);
    fs::rename(&fresh, &path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_program_is_static() {
        assert_eq!(&BYTES[..5], b"\x7fELF\x02", "a 64-bit ELF file");
        let word = |at: usize, size: usize| {
            BYTES[at..at + size].iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte))
        };
        let (table, entry_size, entries) = (word(32, 8), word(54, 2), word(56, 2));
        let interpreter = (0..entries).any(|n| word(table + n * entry_size, 4) == 3);
        assert!(!interpreter, "it asks for a dynamic linker");
    }

    #[test]
    fn it_is_installed_executable() {
        let dir = tempfile::tempdir().unwrap();
        let path = install(dir.path()).unwrap();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777 & 0o111, 0o111);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
