//! `manyrun run` on the real runtimes of this host.

use std::process::Stdio;
use std::time::Duration;

use runtime_test::{Step, Trap, Workload};
use rustix::process::Signal;
use serde_json::Value;

use crate::invoke::{Lines, Place, finish, signal};

/// Runs a test on runc and on crun, or says what this host lacks for it.
fn on_each_runtime(test: impl Fn(&str)) {
    let place = Place::new();
    let told: Value = serde_json::from_str(&place.call(&["probe", "--json", "-"]).stdout).unwrap();
    let needs = told["needs"].as_array().unwrap();
    for binary in ["runc", "crun"] {
        let mut names = vec!["root", "conmon", binary];
        names.extend((binary == "crun").then_some("cgroups"));
        let lacking =
            needs.iter().find(|need| need["ok"] == false && names.iter().any(|name| need["name"] == *name));
        match lacking {
            Some(need) => println!("SKIPPED: {} for {binary}: {}", need["name"], need["remedy"]),
            None => test(&format!("oci:{binary}")),
        }
    }
}

/// No monitor works below this place any more, and no file of a container is there.
#[track_caller]
fn assert_gone(place: &Place) {
    place.assert_nothing_left();
    let state = place.text("state");
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&state))
        .collect();
    assert!(left.is_empty(), "left: {left:#?}");
}

#[test]
fn streams_and_the_code_are_the_programs() {
    on_each_runtime(|runtime| {
        let steps = [Step::Out("hello".into()), Step::Err("oops".into()), Step::Cat, Step::Exit(7)];
        let place = Place::with(&Workload::new(steps));
        let answer = place.run_with_input(&["--runtime", runtime, "bundle"], "typed\n");
        assert_eq!((answer.code, answer.stdout.as_str()), (7, "hello\ntyped\n"), "{runtime}: {answer:?}");
        assert_eq!(answer.stderr, "oops\n", "{runtime}");
        assert_gone(&place);
    });
}

#[test]
fn a_container_runs_under_what_other_programs_are_configured_with() {
    on_each_runtime(|runtime| {
        let binary = runtime.trim_start_matches("oci:");
        let place = Place::with(&Workload::says("configured"));
        let path = place.call(&["probe", runtime, "--json", "-"]).stdout;
        let path: Value = serde_json::from_str(&path).unwrap();
        let path = path["info"]["binary"].as_str().unwrap();
        let crio = format!(
            "[crio.runtime]\ndefault_runtime = 'mine'\ncgroup_manager = 'cgroupfs'\n\
             [crio.runtime.runtimes.mine]\nruntime_path = '{path}'\n"
        );
        let table = "plugins.'io.containerd.cri.v1.runtime'.containerd";
        let containerd = format!(
            "version = 3\n[{table}]\ndefault_runtime_name = 'mine'\n[{table}.runtimes.mine]\n\
             runtime_type = 'io.containerd.runc.v2'\noptions = {{ BinaryName = '{binary}' }}\n"
        );
        let containers = format!(
            "[engine]\nruntime = 'mine'\ncgroup_manager = 'cgroupfs'\n[engine.runtimes]\nmine = ['/no/such', '{path}']\n"
        );
        for (option, name, text) in [
            ("--crio", "crio.conf", crio),
            ("--containerd", "config.toml", containerd),
            ("--containers", "containers.conf", containers),
        ] {
            let file = place.write(name, &text);
            let answer = place.run(&[option, &file, "bundle"]);
            assert_eq!(
                (answer.code, answer.stdout.as_str()),
                (0, "configured\n"),
                "{option} {binary}: {answer:?}"
            );
        }
        assert_gone(&place);
    });
}

#[test]
fn large_output_arrives_whole_in_a_pipe() {
    on_each_runtime(|runtime| {
        let place = Place::with(&Workload::fills(3_000_000));
        let answer = place.run(&["--runtime", runtime, "bundle"]);
        assert_eq!((answer.code, answer.stdout.len()), (0, 3_000_000), "{runtime}: {}", answer.stderr);
        assert_gone(&place);
    });
}

#[test]
fn signals_reach_the_program_and_an_id_is_taken_once() {
    on_each_runtime(|runtime| {
        let trap = Step::Trap(15, Trap::Exit(9));
        let place = Place::with(&Workload::new([trap, Step::Out("ready".into()), Step::Forever]));
        // The token of the place keeps the id apart from those of tests that run at the same time.
        let id = place.path("x").parent().unwrap().file_name().unwrap().to_string_lossy().replace('.', "t");
        let args = ["--runtime", runtime, "--id", &id, "bundle"];
        let mut first = place.command(&[]);
        let mut first = first.args(place.run_args(&args)).spawn().unwrap();
        let lines = Lines::of(first.stdout.take().unwrap());
        assert_eq!(lines.next(), "ready");
        let second = place.run(&args);
        assert_eq!(second.code, 125, "{second:?}");
        assert!(second.stderr.contains("already exists") && second.stderr.contains(&id), "{second:?}");
        signal(first.id(), Signal::TERM);
        assert_eq!(finish(first).code, 9, "the first is untouched");
        assert_gone(&place);
    });
}

#[test]
fn an_interrupted_beginning_leaves_nothing() {
    on_each_runtime(|runtime| {
        let place = Place::with(&Workload::forever());
        for pause in [5, 10, 20, 30, 45, 60, 90] {
            let mut command = place.command(&[]);
            command.args(place.run_args(&["--runtime", runtime, "--stop-timeout", "0s", "bundle"]));
            let child = command.stderr(Stdio::piped()).spawn().unwrap();
            let pid = child.id();
            let (tell, told) = std::sync::mpsc::channel::<()>();
            // Nobody tells: it is a pause that ends with its time.
            let _ = told.recv_timeout(Duration::from_millis(pause));
            drop(tell);
            signal(pid, Signal::TERM);
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                // Before it began to listen it dies as any program does, and nothing was made yet.
                None => {}
                Some(code) => assert!(matches!(code, 137 | 143), "{runtime} after {pause} ms: {code} {text}"),
            }
            assert_gone(&place);
        }
    });
}

#[test]
fn a_missing_program_is_127() {
    on_each_runtime(|runtime| {
        let place = Place::with(&Workload::exits(0));
        let answer = place.run(&["--runtime", runtime, "bundle", "--", "/no/such/program"]);
        assert_eq!(answer.code, 127, "{runtime}: {answer:?}");
        assert!(answer.stderr.contains("/no/such/program"), "{answer:?}");
        assert_gone(&place);
    });
}

#[test]
fn what_a_killed_run_leaves_is_listed_and_deleted() {
    on_each_runtime(|runtime| {
        let place = Place::with(&Workload::ready_forever());
        let state = place.text("state");
        let id = place.path("x").parent().unwrap().file_name().unwrap().to_string_lossy().replace('.', "t");
        let mut run = place.command(&[]);
        let mut run =
            run.args(place.run_args(&["--runtime", runtime, "--id", &id, "bundle"])).spawn().unwrap();
        assert_eq!(Lines::of(run.stdout.take().unwrap()).next(), "ready");
        signal(run.id(), Signal::KILL);
        run.wait().unwrap();

        let listed = place.call(&["list", "--state-dir", &state, "--json", "-"]);
        assert_eq!(listed.code, 0, "{listed:?}");
        let document: Value = serde_json::from_str(&listed.stdout).unwrap();
        let [found] = document["containers"].as_array().unwrap().as_slice() else { panic!("{document}") };
        assert_eq!(
            (&found["state"]["id"], &found["state"]["status"]),
            (&id.clone().into(), &"running".into())
        );
        let columns: Vec<_> = listed.stderr.lines().nth(1).unwrap().split_whitespace().collect();
        let handler = runtime.strip_prefix("oci:").unwrap();
        assert_eq!(columns[..3], [id.as_str(), handler, "running"], "{listed:?}");

        let refused = place.call(&["delete", "--state-dir", &state, &id]);
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(refused.stderr.contains(&id) && refused.stderr.contains("running"), "{refused:?}");
        let forced = ["delete", "--state-dir", &state, "--force", &id];
        for _ in 0..2 {
            let gone = place.call(&forced);
            assert_eq!((gone.code, gone.stderr.as_str()), (0, ""), "{gone:?}");
        }
        let unknown = place.call(&["delete", "--state-dir", &state, &id]);
        assert!(unknown.code != 0 && unknown.stderr.contains("not found"), "{unknown:?}");
        // What a killed command kept for itself is in its temporary directory.
        std::fs::remove_dir_all(place.path("tmp")).unwrap();
        std::fs::create_dir(place.path("tmp")).unwrap();
        assert_gone(&place);
    });
}

#[test]
fn an_interrupted_run_of_the_suite_leaves_nothing() {
    on_each_runtime(|runtime| {
        let place = Place::new();
        let mut child = place.command(&["conformance", "run", "--runtime", runtime]).spawn().unwrap();
        let lines = Lines::of(child.stdout.take().unwrap());
        assert!(lines.next().contains("passed"));
        signal(child.id(), Signal::TERM);
        let answer = finish(child);
        assert_eq!(answer.code, 143, "{answer:?}");
        place.assert_nothing_left();
    });
}
