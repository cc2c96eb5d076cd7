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
fn a_version_is_needed_and_must_be_known() {
    for (text, place, what) in [
        ("", "/e/config.toml [top level]", "missing or below 2"),
        ("version = 1", "/e/config.toml:1 [top level]", "missing or below 2"),
        ("version = 9", "/e/config.toml:1 [top level]", "2 to 4 are"),
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
