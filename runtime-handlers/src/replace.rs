//! Writing a file so that a reader in another process sees the whole of it or what was there before.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keeps writers in one process apart, as the pid does between processes.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes aside, under a hidden name, and renames. Only the owner may read it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let nth = WRITES.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_file_name(format!(".{}.{nth}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written
}
