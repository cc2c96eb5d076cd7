use std::os::unix::fs::PermissionsExt as _;

use super::*;

const LIMIT: u64 = 1 << 20;

fn contents(at: &Path) -> Contents {
    let image = at.join("image");
    std::fs::create_dir_all(image.join("deep")).unwrap();
    std::fs::write(image.join("inventory.img"), "inventory").unwrap();
    std::fs::write(image.join("deep/pages.img"), vec![7; 100_000]).unwrap();
    std::fs::write(at.join("config.json"), "{\"ociVersion\":\"1.0.2\"}").unwrap();
    std::fs::write(at.join("log"), "line\n").unwrap();
    let id = ContainerId::new("web").unwrap();
    Contents {
        details: CheckpointDetails::new(id, "runc 1.1.5".into(), SystemTime::UNIX_EPOCH),
        spec: at.join("config.json"),
        image,
        log: Some(at.join("log")),
    }
}

fn names(at: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_packed_is_unpacked() {
    let at = tempfile::tempdir().unwrap();
    let contents = contents(at.path());
    let archive = at.path().join("out.tar");
    // What was there, and was longer, leaves no tail.
    std::fs::write(&archive, vec![1; 1_000_000]).unwrap();
    pack(&contents, &archive).unwrap();
    let file = std::fs::metadata(&archive).unwrap();
    assert!(file.len() < 200_000);
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let into = at.path().join("in");
    let unpacked = CheckpointArchive::unpack(&archive, &into, LIMIT).unwrap();
    assert_eq!(unpacked.details.id.as_str(), "web");
    assert_eq!(unpacked.details.created_time, SystemTime::UNIX_EPOCH);
    assert_eq!(std::fs::read(unpacked.image.join("deep/pages.img")).unwrap(), vec![7; 100_000]);
    assert_eq!(std::fs::read_to_string(unpacked.log.unwrap()).unwrap(), "line\n");
    assert!(std::fs::read_to_string(unpacked.spec).unwrap().contains("1.0.2"));
    let again = CheckpointArchive::unpack(&archive, &into, LIMIT).unwrap_err();
    assert_eq!(again.kind(), &ErrorKind::AlreadyExists);
    assert_eq!(names(at.path()), ["config.json", "image", "in", "log", "out.tar"]);
}

#[test]
fn an_image_that_needs_another_is_not_packed() {
    let at = tempfile::tempdir().unwrap();
    let contents = contents(at.path());
    std::os::unix::fs::symlink("../earlier", contents.image.join("parent")).unwrap();
    let error = pack(&contents, &at.path().join("out.tar")).unwrap_err();
    assert!(error.report().contains("parent"), "{}", error.report());
    assert_eq!(names(at.path()), ["config.json", "image", "log"]);
}

/// An archive of these entries: name, kind, content.
fn archive(at: &Path, entries: &[(&str, EntryType, &str)]) -> PathBuf {
    let path = at.join("bad.tar");
    let mut tar = Builder::new(File::create(&path).unwrap());
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        // The crate refuses some of these names, so they are written as they are.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_mode(0o777);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap();
    path
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    use EntryType::{Block, Char, Directory, Fifo, GNUSparse, Link, Regular, Symlink};
    let details = |schema: u32| {
        format!(
            "{{\"schema\":{schema},\"id\":\"a\",\"runtime\":\"r\",\"createdTime\":\"1970-01-01T00:00:00Z\",\"checkpointedTime\":\"1970-01-01T00:00:00Z\"}}"
        )
    };
    let (good, later) = (details(1), details(2));
    let whole: Vec<(&str, EntryType, &str)> = vec![
        ("config.dump", Regular, &good),
        ("spec.dump", Regular, "{}"),
        ("checkpoint/", Directory, ""),
        ("checkpoint/inventory.img", Regular, "x"),
    ];
    let odd: Vec<(&str, EntryType, &str)> = vec![
        ("/etc/manyrun-evil", Regular, "x"),
        ("../evil", Regular, "x"),
        ("checkpoint/../../evil", Regular, "x"),
        ("checkpoint/link", Symlink, ""),
        ("checkpoint/hard", Link, ""),
        ("checkpoint/null", Char, ""),
        ("checkpoint/disk", Block, ""),
        ("checkpoint/pipe", Fifo, ""),
        ("checkpoint/sparse", GNUSparse, ""),
        ("checkpoint", Regular, "x"),
        ("config.dump/x", Regular, "x"),
        ("rootfs-diff.tar", Regular, "x"),
        ("checkpoint/inventory.img", Regular, "twice"),
        ("checkpoint/1/2/3/4/5/6/7/8", Regular, "deep"),
    ];
    let refused = |what: &str, entries: &[(&str, EntryType, &str)], limit: u64| {
        let at = tempfile::tempdir().unwrap();
        let path = archive(at.path(), entries);
        let error = CheckpointArchive::unpack(&path, &at.path().join("in"), limit).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{what}: {error:?}");
        assert!(error.report().contains("bad.tar"), "{what}: {}", error.report());
        assert_eq!(names(at.path()), ["bad.tar"], "{what}");
    };
    for entry in odd {
        let mut entries = whole.clone();
        entries.push(entry);
        refused(entry.0, &entries, LIMIT);
    }
    assert!(!Path::new("/etc/manyrun-evil").exists());
    for missing in 0..2 {
        let mut entries = whole.clone();
        let gone = entries.remove(missing);
        refused(gone.0, &entries, LIMIT);
    }
    refused("no image", &whole[..2], LIMIT);
    refused("too large", &whole, 10);
    let mut entries = whole.clone();
    entries[0].2 = &later;
    refused("a later version", &entries, LIMIT);
    entries[0].2 = "{";
    refused("damaged details", &entries, LIMIT);

    let at = tempfile::tempdir().unwrap();
    let path = archive(at.path(), &whole);
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 1300]).unwrap();
    CheckpointArchive::unpack(&path, &at.path().join("in"), LIMIT).unwrap_err();
    std::fs::write(&path, vec![b'x'; 5000]).unwrap();
    CheckpointArchive::unpack(&path, &at.path().join("in"), LIMIT).unwrap_err();
    assert_eq!(names(at.path()), ["bad.tar"]);
}
