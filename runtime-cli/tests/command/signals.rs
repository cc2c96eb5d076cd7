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
fn nobody_reading_ends_the_program() {
    let place =
        Place::with(&Workload::new([Step::Out("ready".into()), Step::Tick(Duration::from_millis(5))]));
    let mut command = place.command(&[]);
    let mut child = command.args(place.run_args(&["--runtime", "fake", "bundle"])).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(finish(child).code, 137);
    place.assert_nothing_left();
}
