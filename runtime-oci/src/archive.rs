//! Images in one file, to be carried to another host: a plain tar, as libpod and CRI-O export them.
//!
//! ```text
//! config.dump      what was saved: schema, id, runtime, times
//! spec.dump        the config.json of the container, as the runtime had it
//! checkpoint/      the image
//! container.log    the log up to then, if it was wanted
//! ```
//!
//! The root file system is not in it: whoever keeps root file systems carries that. The file holds the memory of programs,
//! so nobody else may read it. An archive from elsewhere is not trusted: every entry is checked before it is written.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use runtime_api::{ContainerId, Error, ErrorKind, Result};
use runtime_host::document::cannot_write;

/// The version of what an archive holds. A later one is refused.
const SCHEMA: u32 = 1;
const DETAILS: &str = "config.dump";
const SPEC: &str = "spec.dump";
const IMAGE: &str = "checkpoint";
const LOG: &str = "container.log";
/// The most that the two documents may hold.
const DOCUMENT_LIMIT: u64 = 16 * 1024 * 1024;
/// More entries than the largest image has: criu writes some for each process.
const MOST_ENTRIES: usize = 1 << 20;
/// Images are flat but for a directory or two.
const DEEPEST: usize = 8;

/// What an archive says of the container that was saved.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointDetails {
    /// The version of the archive.
    pub schema: u32,
    /// The id that the container had.
    pub id: ContainerId,
    /// The runtime that saved it, by its own name, and its version. Only the same can continue it.
    pub runtime: String,
    /// When the container was made.
    #[serde(with = "humantime_serde")]
    pub created_time: SystemTime,
    /// When it was packed.
    #[serde(with = "humantime_serde")]
    pub checkpointed_time: SystemTime,
}

/// What an archive was unpacked to.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointArchive {
    /// What it says of the container.
    pub details: CheckpointDetails,
    /// The image, for a restore.
    pub image: PathBuf,
    /// The container's `config.json`; paths in it are those of the host that saved it.
    pub spec: PathBuf,
    /// The log up to the checkpoint, if it was packed.
    pub log: Option<PathBuf>,
}

/// What goes into an archive.
pub(crate) struct Contents {
    pub(crate) details: CheckpointDetails,
    pub(crate) spec: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) log: Option<PathBuf>,
}

impl CheckpointDetails {
    pub(crate) fn new(id: ContainerId, runtime: String, created_time: SystemTime) -> Self {
        Self { schema: SCHEMA, id, runtime, created_time, checkpointed_time: SystemTime::now() }
    }
}

impl CheckpointArchive {
    /// Unpacks an archive into a directory that must not exist, which takes as long as reading it. At most `limit` bytes
    /// are written.
    ///
    /// # Errors
    /// `ConfigInvalid` for anything that an export does not write: paths that lead elsewhere, links, devices, unknown
    /// entries, another version, more than the limit. `AlreadyExists` (the directory). Nothing is left then.
    pub fn unpack(archive: &Path, into: &Path, limit: u64) -> Result<Self> {
        let named = |error: Error| {
            error.during_step("import checkpoint").on(format_args!("archive {}", archive.display()))
        };
        let file =
            File::open(archive).map_err(|error| named(invalid("it cannot be opened").caused_by(error)))?;
        let hidden = Hidden::beside(into)?;
        DirBuilder::new().mode(0o700).create(&hidden.0).map_err(|error| cannot_write(&hidden.0, error))?;
        unpack_entries(file, &hidden.0, limit).map_err(named)?;
        let details = check(&hidden.0).map_err(named)?;
        let has_log = hidden.0.join(LOG).exists();
        renameat_with(rustix::fs::CWD, &hidden.0, rustix::fs::CWD, into, RenameFlags::NOREPLACE).map_err(
            |error| match error {
                rustix::io::Errno::EXIST => {
                    Error::new(ErrorKind::AlreadyExists).on(format_args!("directory {}", into.display()))
                }
                _ => cannot_write(into, error.into()),
            },
        )?;
        Ok(Self {
            details,
            image: into.join(IMAGE),
            spec: into.join(SPEC),
            log: has_log.then(|| into.join(LOG)),
        })
    }
}

/// Writes an archive. It appears under its name when it is complete, in the place of what was there.
pub(crate) fn pack(contents: &Contents, to: &Path) -> Result<()> {
    let named =
        |error: Error| error.during_step("export checkpoint").on(format_args!("archive {}", to.display()));
    let hidden = Hidden::beside(to)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&hidden.0)
        .map_err(|error| named(cannot_write(&hidden.0, error)))?;
    let io = |error: io::Error| {
        named(Error::new(ErrorKind::Internal("the archive cannot be written".into())).caused_by(error))
    };
    let mut tar = Builder::new(io::BufWriter::new(file));
    let details = serde_json::to_vec_pretty(&contents.details).map_err(|error| io(error.into()))?;
    append(&mut tar, Path::new(DETAILS), details.len() as u64, details.as_slice()).map_err(io)?;
    append_file(&mut tar, Path::new(SPEC), &contents.spec).map_err(io)?;
    if let Some(log) = contents.log.as_deref().filter(|log| log.exists()) {
        append_file(&mut tar, Path::new(LOG), log).map_err(io)?;
    }
    append_image(&mut tar, &contents.image, Path::new(IMAGE)).map_err(named)?;
    tar.into_inner().and_then(|mut file| file.flush()).map_err(io)?;
    std::fs::rename(&hidden.0, to).map_err(io)
}

fn append_image(tar: &mut Builder<impl io::Write>, from: &Path, at: &Path) -> Result<()> {
    let io = |error: io::Error| {
        Error::new(ErrorKind::ConfigInvalid("the image cannot be read".into())).caused_by(error)
    };
    let mut entries: Vec<_> = std::fs::read_dir(from).map_err(io)?.collect::<io::Result<_>>().map_err(io)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (kind, name) = (entry.file_type().map_err(io)?, at.join(entry.file_name()));
        if kind.is_file() {
            append_file(tar, &name, &entry.path()).map_err(io)?;
        } else if kind.is_dir() {
            append_image(tar, &entry.path(), &name)?;
        } else {
            return Err(Error::new(ErrorKind::ConfigInvalid(format!(
                "{} of the image is no file: it builds on another image, or is none",
                entry.file_name().to_string_lossy()
            )))
            .hint("export a checkpoint that was made without a parent"));
        }
    }
    Ok(())
}

/// The size that a file has when it is opened counts: a log may grow meanwhile.
fn append_file(tar: &mut Builder<impl io::Write>, name: &Path, from: &Path) -> io::Result<()> {
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    append(tar, name, size, file.take(size))
}

fn append(tar: &mut Builder<impl io::Write>, name: &Path, size: u64, data: impl io::Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(size);
    tar.append_data(&mut header, name, data)
}

fn unpack_entries(file: File, into: &Path, limit: u64) -> Result<()> {
    let damaged = |error: io::Error| invalid("it is damaged").caused_by(error);
    let mut archive = Archive::new(io::BufReader::new(file));
    let mut left = limit;
    for (number, entry) in archive.entries().map_err(damaged)?.enumerate() {
        let mut entry = entry.map_err(damaged)?;
        if number >= MOST_ENTRIES {
            return Err(invalid("it has too many entries"));
        }
        let name = entry.path().map_err(damaged)?.into_owned();
        let (kind, size) = (entry.header().entry_type(), entry.size());
        let place = place_of(&name, kind).ok_or_else(|| {
            invalid(&format!("{:?}, of kind {kind:?}, has no place in it", name.display().to_string()))
        })?;
        if kind == EntryType::Directory {
            continue;
        }
        let most =
            if name.starts_with(IMAGE) || name == Path::new(LOG) { left } else { left.min(DOCUMENT_LIMIT) };
        if size > most {
            return Err(invalid(&format!(
                "{} holds {size} bytes, more than the {most} left",
                name.display()
            )));
        }
        left -= size;
        let path = into.join(place);
        let above = path.parent().unwrap_or(into);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(above)
            .map_err(|error| cannot_write(above, error))?;
        let mut out =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::AlreadyExists => invalid(&format!("{} is in it twice", name.display())),
                    _ => cannot_write(&path, error),
                }
            })?;
        let copied = io::copy(&mut entry, &mut out).map_err(damaged)?;
        if copied != size {
            return Err(invalid(&format!("{} ends early", name.display())));
        }
    }
    Ok(())
}

/// Where an entry goes, if it is one that an export writes: files and directories, and only below our own names.
fn place_of(name: &Path, kind: EntryType) -> Option<PathBuf> {
    if !matches!(kind, EntryType::Regular | EntryType::Directory) {
        return None;
    }
    let parts: Option<Vec<_>> = name
        .components()
        .map(|part| match part {
            Component::Normal(part) => Some(part),
            _ => None,
        })
        .collect();
    let parts = parts.filter(|parts| parts.len() <= DEEPEST)?;
    let first = parts.first()?.to_str()?;
    let file = matches!(first, DETAILS | SPEC | LOG) && parts.len() == 1 && kind == EntryType::Regular;
    let image = first == IMAGE && (parts.len() > 1 || kind == EntryType::Directory);
    (file || image).then(|| parts.iter().collect())
}

/// Reads what an archive says of itself, and looks whether all is there.
fn check(at: &Path) -> Result<CheckpointDetails> {
    /// The version is read first: a later one may have other keys.
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let read = |name: &str| {
        let text = std::fs::read(at.join(name));
        text.map_err(|error| invalid(&format!("it has no {name}")).caused_by(error))
    };
    let broken =
        |name: &str, error: serde_json::Error| invalid(&format!("its {name} is damaged")).caused_by(error);
    let text = read(DETAILS)?;
    let Version { schema } = serde_json::from_slice(&text).map_err(|error| broken(DETAILS, error))?;
    if schema != SCHEMA {
        return Err(invalid(&format!("it has schema {schema}, this version knows {SCHEMA}")));
    }
    let details = serde_json::from_slice(&text).map_err(|error| broken(DETAILS, error))?;
    let _: serde_json::Value = serde_json::from_slice(&read(SPEC)?).map_err(|error| broken(SPEC, error))?;
    if !at.join(IMAGE).is_dir() {
        return Err(invalid("it has no image"));
    }
    Ok(details)
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid(what.to_owned())).hint("an archive is a file that an export made")
}

/// A path beside another one, removed with whatever is there unless that was renamed away.
struct Hidden(PathBuf);

impl Hidden {
    fn beside(path: &Path) -> Result<Self> {
        Ok(Self(runtime_host::image::ImagePlace::beside(path)?))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // One of the two applies, and none after the rename.
        let _ = std::fs::remove_file(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
#[path = "archive/tests.rs"]
mod tests;
