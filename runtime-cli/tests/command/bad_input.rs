//! What bad input gets: a message that names the thing, the right exit code, and nothing left behind.

use runtime_test::{BundleOptions, Workload, bundle};

use crate::invoke::{Answer, Place};

#[track_caller]
fn assert_refused(answer: &Answer, code: i32, named: &[&str]) {
    assert_eq!(answer.code, code, "{answer:?}");
    assert_eq!(answer.stdout, "", "{answer:?}");
    for name in named {
        assert!(answer.stderr.contains(name), "{name:?} is not named in {answer:?}");
    }
}

#[test]
fn unknown_handlers_and_kinds_are_named_with_the_known_ones() {
    let place = Place::with(&Workload::exits(0));
    assert_refused(&place.run(&["--runtime", "jail:x", "bundle"]), 125, &["jail", "fake", "oci", "vm"]);
    let config =
        place.write("handlers.toml", "[runtimes.one]\nkind = 'fake'\n\n[runtimes.two]\nkind = 'jail'\n");
    let three = place.run(&["--config", &config, "--handler", "three", "bundle"]);
    assert_refused(&three, 125, &["\"three\"", &config, "one, two"]);
    let two = place.run(&["--config", &config, "--handler", "two", "bundle"]);
    assert_refused(&two, 125, &["\"jail\"", &format!("{config}:4"), "runtimes.two", "fake, oci, vm"]);
    assert_refused(&place.run(&["--config", &config, "bundle"]), 125, &["no default", "one, two"]);
    place.assert_untouched();
}

#[test]
fn broken_configuration_is_named_with_its_line() {
    let place = Place::with(&Workload::exits(0));
    for (text, named) in [
        ("[runtimes.one\n", ":1"),
        ("[runtimes.one]\nkind = 'fake'\ncolour = 'red'\n", ":3 [runtimes.one]: unknown key \"colour\""),
        ("[runtimes.one]\nkind = 'fake'\noptions = { profil = 'full' }\n", "profil"),
        ("[runtimes.one]\nkind = 3\n", ":2 [runtimes.one]: key \"kind\" must be a string"),
    ] {
        let config = place.write("handlers.toml", text);
        let answer = place.run(&["--config", &config, "--handler", "one", "bundle"]);
        assert_refused(&answer, 125, &["handlers.toml", named]);
    }
    let missing = place.run(&["--config", "/no/such/handlers.toml", "bundle"]);
    assert_refused(&missing, 125, &["/no/such/handlers.toml"]);
    place.assert_untouched();
}

#[test]
fn ids_that_are_no_ids_are_wrong_usage() {
    let place = Place::with(&Workload::exits(0));
    let long = "x".repeat(300);
    for (id, named) in [
        ("../x", "../x"),
        ("", "is empty"),
        (long.as_str(), "300 bytes long"),
        ("a\nb", "a\\nb"),
        ("-a", "--id"),
        ("a b", "a b"),
    ] {
        let answer = place.run(&["--runtime", "fake", &format!("--id={id}"), "bundle"]);
        assert_refused(&answer, 2, &["--id", named]);
    }
    place.assert_untouched();
}

#[test]
fn bundles_that_cannot_be_used_are_named() {
    let place = Place::with(&Workload::exits(0));
    assert_refused(&place.run(&["--runtime", "fake", "nowhere"]), 125, &["\"nowhere\"", "cannot be found"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    assert_refused(&place.run(&["--runtime", "fake", "empty"]), 125, &["\"empty\"", "config.json"]);
    std::fs::create_dir(place.path("broken")).unwrap();
    place.write("broken/config.json", "{\n  \"process\": {\n");
    assert_refused(&place.run(&["--runtime", "fake", "broken"]), 125, &["\"broken\"", "line 3"]);
    place.assert_untouched();
    place.write("broken/config.json", "[1, 2]");
    let answer = place.run(&["--runtime", "fake", "broken"]);
    assert_refused(&answer, 125, &["broken", "config.json"]);
    place.assert_nothing_left();
}

#[test]
fn a_missing_program_is_127_like_in_a_shell() {
    let place = Place::new();
    let options = BundleOptions::new().argv(["/no/such/program"]);
    bundle::write_with(&place.path("bundle"), &Workload::exits(0), &options).unwrap();
    let answer = place.run(&["--runtime", "fake", "bundle"]);
    assert_refused(&answer, 127, &["/no/such/program"]);
    place.assert_nothing_left();
}

#[test]
fn what_is_not_available_says_so() {
    let place = Place::with(&Workload::exits(0));
    assert_refused(&place.run(&["--runtime", "vm", "bundle"]), 125, &["not available", "virtual machine"]);
    place.assert_nothing_left();
    let nothing = place.run(&["--runtime", "oci:no-such-runtime", "bundle"]);
    assert_refused(&nothing, 125, &["no-such-runtime"]);
}

#[test]
fn wrong_usage_is_2() {
    let place = Place::with(&Workload::exits(0));
    for args in [
        &["--runtime", "FAKE!", "bundle"][..],
        &["--handler", "-x", "bundle"],
        &["--handler", "a", "--runtime", "fake", "bundle"],
        &["--stop-timeout", "soon", "bundle"],
        &["--colour", "bundle"],
        &[],
    ] {
        assert_refused(&place.run(args), 2, &["error:"]);
    }
    assert_refused(
        &place.run(&["--runtime", "fake", "--json", "/no/such/place/x", "bundle"]),
        125,
        &["/no/such/place/x"],
    );
    let log = place.run(&["--runtime", "fake", "--log", "/no/such/place/log", "bundle"]);
    assert_refused(&log, 125, &["/no/such/place"]);
    place.assert_nothing_left();
}

#[test]
fn pipes_and_devices_in_place_of_files_hold_nobody_up() {
    let place = Place::with(&Workload::exits(0));
    let pipe = place.path("bundle/config.json");
    std::fs::remove_file(&pipe).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert_refused(&place.run(&["--runtime", "fake", "bundle"]), 125, &["config.json", "not a regular file"]);
    let pipe = pipe.display().to_string();
    for file in [pipe.as_str(), "/dev/zero"] {
        let answer = place.call(&["handlers", "check", "--native", file]);
        assert!(answer.code != 0 && answer.stderr.contains(file), "{answer:?}");
        assert!(answer.stderr.contains("not a regular file"), "{answer:?}");
    }
    place.assert_untouched();
}

#[test]
fn a_conversion_that_cannot_be_written_is_no_success() {
    let place = Place::new();
    let config = place.write("handlers.toml", "[runtimes.one]\nkind = 'fake'\n");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = place.command(&["handlers", "convert", "--native", &config, "--to", "native"]);
    let answer = crate::invoke::finish(command.stdout(full).spawn().unwrap());
    assert!(answer.code == 125 && answer.stderr.contains("No space left"), "{answer:?}");
}
