//! `manyrun logs`.

use runtime_test::{Step, Workload};
use rustix::process::Signal;
use serde_json::Value;

use crate::invoke::{Lines, Place, finish, signal};

const LOG: &str = "2024-01-02T03:04:05.000000006+01:00 stdout F one\n\
                   2024-01-02T03:04:06.000000006+01:00 stdout P tw\n\
                   2024-01-02T03:04:06.000000006+01:00 stderr F oh\n\
                   not a record\n\
                   2024-01-02T03:04:06.000000007+01:00 stdout F o\n\
                   2024-01-02T03:04:07.000000006+01:00 stdout F three\n";

#[test]
fn a_log_is_shown_as_it_was_printed() {
    let place = Place::new();
    let log = place.write("log", LOG);
    let answer = place.call(&["logs", &log]);
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "one\ntwo\nthree\n"), "{answer:?}");
    assert!(answer.stderr.starts_with("oh\n") && answer.stderr.contains("1 lines of the log"), "{answer:?}");
    assert_eq!(place.call(&["logs", "--tail", "2", &log]).stdout, "two\nthree\n");
    assert_eq!(place.call(&["logs", "--since", "2024-01-02T02:04:07Z", &log]).stdout, "three\n");
    assert_eq!(place.call(&["logs", "--since", "1h", &log]).stdout, "");
    let answer = place.call(&["logs", "--json", "-", &log]);
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((&document["lines"], &document["malformed"]), (&4.into(), &1.into()));
    assert!(answer.stderr.contains("three\n"));
}

#[test]
fn what_cannot_be_shown_is_refused() {
    let place = Place::new();
    let answer = place.call(&["logs", "missing"]);
    assert!(answer.code != 0 && answer.stderr.contains("log missing: not found"), "{answer:?}");
    let answer = place.call(&["logs", "--since", "yesterday", "missing"]);
    assert!(answer.code == 2 && answer.stderr.contains("how long ago"), "{answer:?}");
    let answer = place.call(&["logs", "tmp"]);
    assert!(answer.code == 125 && answer.stderr.matches("it is no file").count() == 1, "{answer:?}");
}

#[test]
fn what_a_run_logs_can_be_read_and_followed() {
    let place = Place::with(&Workload::new([Step::Out("hello".into()), Step::Err("oops".into())]));
    let (log, bundle) = (place.text("log"), place.text("bundle"));
    let mut following = place.command(&["logs", "--follow", &log]).spawn().unwrap();
    let lines = Lines::of(following.stdout.take().unwrap());
    let ran = place.run(&["--runtime", "fake", "--log", &log, &bundle]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer = place.call(&["logs", &log]);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("hello\n", "oops\n"));
    assert_eq!(lines.next(), "hello");
    signal(following.id(), Signal::INT);
    let followed = finish(following);
    assert_eq!(followed.code, 0);
    assert!(followed.stderr.contains("log, which does not exist yet"), "{followed:?}");
}
