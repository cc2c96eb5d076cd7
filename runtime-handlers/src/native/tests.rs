use std::path::Path;
use std::time::Duration;

use runtime_api::{Capability, Error, ErrorKind};

use super::*;

fn read(text: &str) -> Result<HandlerTable> {
    parse(&[Source::new("/etc/manyrun/handlers.toml", text)])
}

fn refused(text: &str) -> Error {
    let error = read(text).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    error
}

fn name(text: &str) -> HandlerName {
    HandlerName::new(text).unwrap()
}

#[test]
fn a_full_handler_is_read() {
    let table = read(
        r#"
default = "crun"
[runtimes.crun]
kind = "oci"
paths = ["/a/crun", "/b/crun"]
args = ["--debug"]
min_memory = "12MiB"
[runtimes.crun.timeouts]
create = "1m 30s"
start = 7
[runtimes.crun.capabilities]
disable = ["checkpoint", "pause"]
[runtimes.crun.options]
systemd_cgroup = false
deep = { list = [1, 2] }
[runtimes.crun.monitor]
env = ["A=b"]
exec_cgroup = "container"
"#,
    )
    .unwrap();
    let crun = table.select(None).unwrap();
    assert_eq!(crun.paths, [Path::new("/a/crun"), Path::new("/b/crun")]);
    assert_eq!(crun.timeouts.create, Some(Duration::from_secs(90)));
    assert_eq!(crun.timeouts.start, Some(Duration::from_secs(7)));
    assert_eq!(crun.min_memory, Some(12 << 20));
    assert_eq!(crun.options["deep"]["list"][1], 2);
    assert_eq!(crun.disabled[0], (Capability::Checkpoint, "/etc/manyrun/handlers.toml:12".to_owned()));
    assert_eq!(crun.origin.to_string(), "/etc/manyrun/handlers.toml:3 [runtimes.crun]");
}

#[test]
fn an_unknown_key_names_file_line_table_and_neighbour() {
    let error = refused("[runtimes.crun]\nkind = 'oci'\npathz = ['/x']\n");
    assert_eq!(
        error.to_string(),
        "read handlers /etc/manyrun/handlers.toml:3 [runtimes.crun]: unknown key \"pathz\"; did you mean \"path\"?"
    );
    let inner = refused("[runtimes.crun]\nkind = 'oci'\n[runtimes.crun.timeouts]\ncraete = 1\n");
    assert_eq!(inner.subject(), Some("/etc/manyrun/handlers.toml:4 [runtimes.crun.timeouts]"));
    let top = refused("defaults = 'crun'\n");
    assert_eq!(top.subject(), Some("/etc/manyrun/handlers.toml:1 [top level]"));
}

#[test]
fn wrong_values_are_refused_at_their_line() {
    for (line, what) in [
        ("kind = 1", "must be a string, but there is the integer 1"),
        ("paths = '/x'", "must be an array of strings"),
        ("paths = ['/x', 1]", "must be an array of strings"),
        ("path = 'bin/crun'", "is not absolute"),
        ("min_memory = '12M'", "is not a size"),
        ("min_memory = -1", "is negative"),
        ("enabled = 'yes'", "must be a boolean"),
        ("timeouts = { create = '0s' }", "a time of zero"),
        ("timeouts = { create = 1.5 }", "must be a string or an integer"),
        ("timeouts = 3", "must be a table"),
        ("monitor = { env = ['nope'] }", "KEY=value"),
        ("monitor = { exec_cgroup = 'pod' }", "can only be \"container\""),
        ("exec_cpu_affinity = 'last'", "can only be \"first\""),
        ("capabilities = { disable = ['checkpont'] }", "did you mean \"checkpoint\"?"),
        ("annotations = { denied = [''] }", "empty prefix"),
        ("annotations = { allowed = ['a[b'] }", "is no pattern"),
        ("annotations = { allowed = [] }", "would allow every annotation"),
        ("annotations = { default = { a = 1 } }", "key \"a\" must be a string"),
        ("platform_paths = { arm64 = '/x' }", "is not a platform"),
        ("options = { x = nan }", "not finite"),
    ] {
        let kind = if line.starts_with("kind") { "" } else { "kind = 'oci'" };
        let error = refused(&format!("[runtimes.x]\n{kind}\n{line}\n"));
        assert!(error.to_string().contains(what), "{line}: {error}");
        assert!(error.subject().unwrap().starts_with("/etc/manyrun/handlers.toml:3 "), "{line}: {error}");
    }
}

#[test]
fn path_and_paths_exclude_each_other_in_one_file() {
    let error = refused("[runtimes.x]\nkind = 'oci'\npaths = ['/a']\npath = '/b'\n");
    assert!(error.to_string().contains("both \"path\" and \"paths\""), "{error}");
}

#[test]
fn a_handler_needs_a_kind_and_a_valid_name() {
    assert!(refused("[runtimes.x]\npath = '/a'\n").to_string().contains("\"kind\" is missing"));
    assert!(refused("[runtimes.\"a b\"]\nkind = 'oci'\n").to_string().contains("handler name \"a b\""));
    assert!(refused("[runtimes.x]\nkind = 'O C'\n").to_string().contains("runtime kind"));
    assert!(refused("runtimes = 3\n").to_string().contains("must be a table"));
}

#[test]
fn drop_ins_merge_deeply_and_are_noted() {
    let table = parse(&[
        Source::new(
            "/e/handlers.toml",
            "[runtimes.x]\nkind = 'oci'\npath = '/a'\nargs = ['-v']\noptions = { path = 1 }\n",
        ),
        Source::new("/e/handlers.toml.d/10.toml", "default = 'x'\n[runtimes.x]\npaths = ['/b', '/c']\n"),
        Source::new("/e/handlers.toml.d/20.toml", "[runtimes.x]\nargs = []\noptions = { paths = 2 }\n"),
    ])
    .unwrap();
    let x = table.select(None).unwrap();
    assert_eq!(x.paths, [Path::new("/b"), Path::new("/c")]);
    assert_eq!(x.options.len(), 2, "free options have no such rule");
    assert!(x.args.is_empty());
    assert_eq!(x.origin.to_string(), "/e/handlers.toml:1 [runtimes.x]");
    let notes: Vec<_> = table.notes.iter().filter(|note| note.is_about(&name("x"))).collect();
    assert_eq!(notes.len(), 2);
    assert_eq!(
        notes[0].to_string(),
        "/e/handlers.toml.d/10.toml:2 [runtimes.x]: it changes the handler that /e/handlers.toml:1 begins"
    );
}

#[test]
fn handlers_inherit_from_each_other() {
    let table = read(
        "[runtimes.base]\nkind = 'oci'\nenabled = false\nargs = ['-v']\nmonitor = { cgroup = 'm' }\n\
         [runtimes.x]\ninherits = 'base'\npath = '/x'\nmonitor = { no_sync_log = true }\n",
    )
    .unwrap();
    let x = table.select(Some(&name("x"))).unwrap();
    assert_eq!((x.args.len(), x.monitor.no_sync_log), (1, true));
    assert_eq!(x.monitor.cgroup.as_deref(), Some("m"));
    let places: Vec<_> =
        table.written[&name("x")].iter().map(|each| format!("{} {}", each.key, each.origin)).collect();
    assert!(places.contains(&"args /etc/manyrun/handlers.toml:4 [runtimes.base]".to_owned()), "{places:?}");
    assert!(
        places.contains(&"monitor.no_sync_log /etc/manyrun/handlers.toml:9 [runtimes.x.monitor]".to_owned()),
        "{places:?}"
    );
    let error = table.select(Some(&name("base"))).unwrap_err();
    assert!(error.is_not_found());
    assert!(error.advice().unwrap().contains("enabled = false at /etc/manyrun/handlers.toml:3"), "{error:?}");
}

#[test]
fn an_inheritance_must_end_at_a_known_handler() {
    let circle = refused("[runtimes.a]\ninherits = 'b'\n[runtimes.b]\ninherits = 'a'\n");
    assert!(circle.to_string().contains("it inherits itself: a -> b -> a"), "{circle}");
    let alone = refused("[runtimes.a]\ninherits = 'a'\n");
    assert!(alone.to_string().contains("a -> a"), "{alone}");
    let unknown = refused("[runtimes.crun]\nkind = 'oci'\n[runtimes.b]\ninherits = 'crum'\n");
    assert!(unknown.to_string().contains("did you mean \"crun\"?"), "{unknown}");
    assert_eq!(unknown.subject(), Some("/etc/manyrun/handlers.toml:4 [runtimes.b]"));
}

#[test]
fn the_default_must_be_usable() {
    let error = refused("default = 'y'\n[runtimes.x]\nkind = 'oci'\n");
    assert_eq!(error.subject(), Some("/etc/manyrun/handlers.toml:1 [top level]"));
    assert!(error.report().contains("known handlers are: x"), "{}", error.report());
    let off = refused("default = 'x'\n[runtimes.x]\nkind = 'oci'\nenabled = false\n");
    assert!(off.report().contains("switched off"), "{}", off.report());
}

#[test]
fn a_name_that_no_runtime_class_can_hold_is_noted() {
    let table = read("[runtimes.Kata_qemu]\nkind = 'vm'\n").unwrap();
    assert!(table.notes[0].text.contains("RuntimeClass"));
    assert!(table.handlers.contains_key(&name("Kata_qemu")));
}

#[test]
fn the_example_is_valid_and_shows_every_key() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/handlers.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let table = parse(&[Source::new(path, text.as_str())]).unwrap();
    assert_eq!(table.select(None).unwrap().name.as_str(), "crun");
    let document = document::parse(Path::new(path), &text).unwrap();
    let shown: Vec<String> =
        runtimes(&document).values().flat_map(|(_, section)| dotted(section, "")).collect();
    for key in keys::dotted() {
        let inner = format!("{key}.");
        assert!(shown.iter().any(|each| *each == key || each.starts_with(&inner)), "{key} is not shown");
    }
}

fn dotted(section: &Section, prefix: &str) -> Vec<String> {
    section
        .iter()
        .flat_map(|(key, item)| match &item.value {
            Value::Table(inner) => dotted(inner, &format!("{prefix}{key}.")),
            _ => vec![format!("{prefix}{key}")],
        })
        .collect()
}

#[test]
fn a_wrong_value_that_is_inherited_is_told_where_it_stands() {
    let error = refused(
        "[runtimes.base]\nkind = 'oci'\nenabled = false\nmonitor = { path = 'conmon' }\n[runtimes.a]\ninherits = 'base'\n",
    );
    assert_eq!(
        error.to_string(),
        "read handlers /etc/manyrun/handlers.toml:4 [runtimes.base.monitor]: key \"path\": the path \"conmon\" is not absolute"
    );
}

#[test]
fn names_with_strange_characters_are_written_as_toml() {
    let text = "[runtimes.a]\nkind = 'oci'\n[runtimes.a.annotations.default]\n\"com\\u065a.x\" = 'y'\n";
    let written = crate::convert::to_native(&read(text).unwrap()).text;
    assert_eq!(crate::convert::to_native(&read(&written).unwrap()).text, written);
}
