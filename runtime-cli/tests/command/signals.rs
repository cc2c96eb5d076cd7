//! Signals to `manyrun run`.

use std::time::{Duration, Instant};

use runtime_test::{Step, Trap, Workload};
use rustix::process::Signal;

use crate::invoke::{Answer, Lines, Place, finish, signal};

/// Runs a program that says "ready", sends the signals, and gives what came after "ready" too.
fn signalled(place: &Place, args: &[&str], signals: &[Signal]) -> (Lines, Answer) {
    let mut command = place.command(&[]);
    let mut child = command.args(place.run_args(args)).spawn().unwrap();
    let lines = Lines::of(child.stdout.take().unwrap());
    assert_eq!(lines.next(), "ready");
    for each in signals {
        signal(child.id(), *each);
    }
    (lines, finish(child))
}

#[test]
fn the_program_gets_the_signal_and_its_own_code_is_kept() {
    let trap = Step::Trap(15, Trap::Exit(9));
    let place = Place::with(&Workload::new([trap, Step::Out("ready".into()), Step::Forever]));
    let (_, answer) = signalled(&place, &["--runtime", "fake", "bundle"], &[Signal::TERM]);
    assert_eq!(answer.code, 9, "{answer:?}");
    place.assert_nothing_left();
}

#[test]
fn signals_that_do_not_end_it_are_handed_on_too() {
    let say = |number| Step::Trap(number, Trap::Say);
    let end = Step::Trap(3, Trap::Exit(1));
    let steps = [say(1), say(10), say(12), end, Step::Out("ready".into()), Step::Forever];
    let place = Place::with(&Workload::new(steps));
    let mut command = place.command(&[]);
    let mut child = command.args(place.run_args(&["--runtime", "fake", "bundle"])).spawn().unwrap();
    let lines = Lines::of(child.stdout.take().unwrap());
    assert_eq!(lines.next(), "ready");
    for (each, number) in [(Signal::HUP, 1), (Signal::USR1, 10), (Signal::USR2, 12)] {
        signal(child.id(), each);
        assert_eq!(lines.next(), format!("signal {number}"));
    }
    signal(child.id(), Signal::QUIT);
    assert_eq!(finish(child).code, 1);
}

#[test]
fn a_program_that_does_not_end_is_killed_after_the_stop_timeout() {
    let ready = [Step::Trap(15, Trap::Ignore), Step::Out("ready".into()), Step::Forever];
    let place = Place::with(&Workload::new(ready));
    let began = Instant::now();
    let args = ["--runtime", "fake", "--stop-timeout", "300ms", "bundle"];
    let (_, answer) = signalled(&place, &args, &[Signal::TERM]);
    assert_eq!(answer.code, 137, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(300));
    place.assert_nothing_left();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test without a clock looks for a file")]
fn a_probe_that_is_interrupted_leaves_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    // Each has a program and a mark of its own: what the first leaves must not count for the second.
    for name in ["probe", "select"] {
        let begun = place.path(&format!("{name}-begun"));
        let script = format!("#!/bin/sh\n: > {}\nexec sleep 30\n", begun.display());
        let program = place.write(name, &script);
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!("[runtimes.slow]\nkind = 'oci'\npath = '{program}'\n");
        let (table, reference) = (place.write("h.toml", &text), format!("oci:{program}"));
        let select = ["handlers", "select", "--config", &table, "--can", "pause"];
        let args = if name == "probe" { &["probe", &reference][..] } else { &select };
        let child = place.command(args).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !begun.exists() {
            assert!(Instant::now() < deadline, "it was never asked");
            std::thread::sleep(Duration::from_millis(5));
        }
        signal(child.id(), Signal::TERM);
        let answer = finish(child);
        assert!(answer.code == 125 && answer.stderr.contains("given up after"), "{answer:?}");
        place.assert_nothing_left();
    }
}

#[test]
fn nobody_reading_ends_the_program() {
    let place =
        Place::with(&Workload::new([Step::Out("ready".into()), Step::Tick(Duration::from_millis(5))]));
    let mut command = place.command(&[]);
    let mut child = command.args(place.run_args(&["--runtime", "fake", "bundle"])).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(finish(child).code, 137);
    place.assert_nothing_left();
}
