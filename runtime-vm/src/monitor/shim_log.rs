//! What a shim logs, kept in two files of bounded size.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How large the newest file becomes before it becomes the older one.
const LIMIT: u64 = 1024 * 1024;
/// How much of it an error shows.
const TAIL: usize = 4096;

/// Copies what comes to `shim.log` in a directory, for as long as something can come. What cannot be written is lost: the
/// shim does not wait for a full disk.
pub(super) async fn keep(mut from: impl AsyncRead + Unpin, dir: PathBuf) {
    let mut kept = Kept { dir, file: None, size: 0 };
    let mut failed = false;
    let mut chunk = vec![0; 8192];
    loop {
        match from.read(&mut chunk).await {
            Ok(0) => return,
            Ok(count) => {
                if let Err(error) = kept.add(&chunk[..count])
                    && !std::mem::replace(&mut failed, true)
                {
                    tracing::warn!(%error, "the shim's log cannot be written");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the shim's log cannot be read");
                return;
            }
        }
    }
}

/// The end of what was kept.
pub(super) fn tail(dir: &Path) -> String {
    let text = std::fs::read(dir.join("shim.log")).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]).into_owned()
}

struct Kept {
    dir: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Kept {
    fn add(&mut self, text: &[u8]) -> io::Result<()> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if self.file.is_none() {
            let file = open(&self.dir.join("shim.log"))?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        if self.size > 0 && self.size + length > LIMIT {
            self.file = None;
            std::fs::rename(self.dir.join("shim.log"), self.dir.join("shim.log.1"))?;
            self.file = Some(open(&self.dir.join("shim.log"))?);
            self.size = 0;
        }
        if let Some(file) = &mut self.file {
            file.write_all(text)?;
            self.size += length;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_text_is_kept_and_the_files_are_bounded() {
        let at = tempfile::tempdir().unwrap();
        let text: String = (0..400_000).map(|n| format!("{n:09}\n")).collect();
        keep(text.as_bytes(), at.path().to_owned()).await;
        let read = |name: &str| std::fs::read_to_string(at.path().join(name)).unwrap();
        let (old, new) = (read("shim.log.1"), read("shim.log"));
        assert!(old.len() + 8192 > 1024 * 1024 && old.len() <= 1024 * 1024);
        assert!(new.len() <= 1024 * 1024);
        assert!(text.ends_with(&(old + &new)));
        // It goes on where another one left off.
        keep(&b"more"[..], at.path().to_owned()).await;
        assert_eq!(read("shim.log"), new + "more");
        assert!(tail(at.path()).ends_with("\nmore") && tail(at.path()).len() == TAIL);
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_is_read_all_the_same() {
        keep(vec![b'x'; 100_000].as_slice(), PathBuf::from("/nonexistent")).await;
    }
}
