use super::*;

fn read(text: &str) -> Result<HandlerTable> {
    parse(&[Source::new("/e/config.toml", text)])
}

#[test]
fn without_runtimes_there_is_runc() {
    let table = read("version = 3\n").unwrap();
    let runc = table.select(None).unwrap();
    assert_eq!((runc.kind.as_str(), runc.origin.to_string().as_str()), ("oci", BUILT_IN));
}

#[test]
fn a_version_must_be_known() {
    for (text, place, what) in [
        ("version = 9", "/e/config.toml:1 [top level]", "1 to 4 are"),
        ("version = -1", "/e/config.toml:1 [top level]", "1 to 4 are"),
        ("version = '2'", "/e/config.toml:1 [top level]", "must be an integer"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.subject(), Some(place), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let higher = parse(&[Source::new("a", "version = 2"), Source::new("b", "version = 3")]).unwrap_err();
    assert!(higher.to_string().contains("higher than that of the first file, 2"), "{higher}");
}

#[test]
fn a_file_without_a_version_is_one_of_version_1() {
    // As Docker brings it.
    let stock = read("disabled_plugins = [\"cri\"]\n\n#root = \"/var/lib/containerd\"\n").unwrap();
    assert_eq!(stock.select(None).unwrap().name.as_str(), "runc");
    let notes: Vec<_> = stock.notes.iter().map(ToString::to_string).collect();
    assert!(notes[0].starts_with("/e/config.toml [top level]: there is no key \"version\""), "{notes:?}");
    assert!(notes[1].starts_with("/e/config.toml:1 [top level]: key \"disabled_plugins\""), "{notes:?}");
    let runtime = "containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\n";
    for (version, plugin, is_read) in [
        ("", "plugins.cri", true),
        ("version = 1\n", "plugins.cri", true),
        ("version = 0\n", "plugins.\"io.containerd.grpc.v1.cri\"", true),
        ("", "plugins.\"io.containerd.cri.v1.runtime\"", true),
        ("version = 2\n", "plugins.\"io.containerd.cri.v1.runtime\"", true),
        ("version = 3\n", "plugins.\"io.containerd.grpc.v1.cri\"", false),
        ("version = 2\n", "plugins.cri", false),
        ("version = 3\n", "plugins.cri", false),
    ] {
        let table = read(&format!("{version}[{plugin}.{runtime}")).unwrap();
        assert_eq!(table.handlers.len(), 1 + usize::from(is_read), "{version}{plugin}");
        let told = table.notes.iter().any(|note| note.text.contains("is not read: in version"));
        assert_eq!(told, !is_read, "{version}{plugin}: {:?}", table.notes);
    }
}

#[test]
fn options_of_a_strange_shim_reach_it_as_one_text() {
    let text = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.w.options]\nb = 1\na = 'x'\n\
                [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.w]\nruntime_type = 'io.containerd.wasm.v1'\n";
    let table = read(text).unwrap();
    let any = &table.handlers[&HandlerName::new("w").unwrap()].options["any"];
    assert_eq!(any["type_url"], "runtimeoptions.v1.Options");
    // Field 3 with the length 14, and a document with sorted keys.
    assert_eq!(
        any["base64"],
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, b"\x1a\x0ea = \"x\"\nb = 1\n")
    );
}

#[test]
fn imports_are_paths() {
    let source = |text| Source::new("c", text);
    assert_eq!(imports(&source("imports = ['a', 'b/*.toml']")).unwrap(), ["a", "b/*.toml"]);
    assert!(imports(&source("")).unwrap().is_empty());
    assert!(imports(&source("imports = 1")).is_err());
    assert!(imports(&source("imports = [1]")).is_err());
}

#[test]
fn slips_outside_the_tables_of_runtimes_are_noted() {
    let told = |text: &str| -> Vec<String> {
        read(&format!("version = 3\n{text}")).unwrap().notes.iter().map(ToString::to_string).collect()
    };
    for (text, wanted) in [
        (
            "[plugin]",
            "/e/config.toml:2 [top level]: unknown key \"plugin\" has no effect; did you mean \"plugins\"?",
        ),
        (
            "[plugins.'io.containerd.cri.v1.runtim']",
            "/e/config.toml:2 [plugins]: unknown key \"io.containerd.cri.v1.runtim\" has no effect; did you mean \"io.containerd.cri.v1.runtime\"?",
        ),
        ("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtime]", "did you mean \"runtimes\"?"),
        (
            "[plugins.io.containerd.cri.v1.runtime.containerd]",
            "[plugins]: key \"io\" has no effect: the name of a plugin is one key",
        ),
        ("[plugins.'io.containerd.cri.v1.runtime'.contianerd]", "did you mean \"containerd\"?"),
    ] {
        let notes = told(text);
        assert!(notes.len() == 1 && notes[0].contains(wanted), "{text}: {notes:?}");
    }
    for fine in ["[plugins.'io.containerd.cri.v1.images']", "[Plugins]", "[proxy_plugins.x]", "[timeouts]"] {
        assert!(told(fine).is_empty(), "{fine}: {:?}", told(fine));
    }
}

#[test]
fn options_outside_their_table_and_old_types_are_told() {
    let text = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.x]\nruntime_type = 'io.containerd.runc.v2'\nbinaryname = '/x'\n\
                [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.y]\nruntime_type = 'io.containerd.runtime.v1.linux'\n\
                [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.z]\nruntime_type = 'io.containerd.runc.v2'\noptions = { Binary = 1, SystemdCgroup = 1 }\n";
    let table = read(text).unwrap();
    let notes: Vec<_> = table.notes.iter().map(ToString::to_string).collect();
    assert!(
        notes.iter().any(|note| note.starts_with("/e/config.toml:4 ")
            && note.contains("key \"BinaryName\" has no effect here: it is an option")),
        "{notes:?}"
    );
    assert!(
        notes.iter().any(|note| note.contains("unknown key \"Binary\"")),
        "beside an error, too: {notes:?}"
    );
    let reasons: Vec<_> = table.unavailable.values().map(|broken| broken.reason.as_str()).collect();
    assert!(reasons[0].contains("is no more") && reasons[1].contains("must be a boolean"), "{reasons:?}");
}
