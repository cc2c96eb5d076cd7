//! The command line of every operation on every runtime, against files in `goldens/argv`.
//!
//! The real runtime and the real conmon do the work; a script in front of each writes down how it is called. To write the
//! files anew: `MANYRUN_UPDATE_GOLDENS=1 cargo test -p manyrun-tests --test oci_argv`.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "oci_argv/acts.rs"]
mod acts;
#[path = "oci_argv/sheet.rs"]
mod sheet;

use std::process::Command;

use manyrun_tests::recorder::Recorder;
use manyrun_tests::{host, place};
use runtime_api::Operation;

use sheet::Sheet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_lines_of_runc() {
    command_lines("runc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_lines_of_crun() {
    command_lines("crun").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_lines_of_youki() {
    command_lines("youki").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_lines_of_runsc() {
    command_lines("runsc").await;
}

async fn command_lines(binary: &'static str) {
    place::on(&[binary], async |place| {
        let recorder = Recorder::new(place);
        let mut config = place.config();
        config.paths = vec![recorder.runtime.clone()];
        config.monitor.path = Some(recorder.monitor.clone());
        let mut sheet = Sheet::new(place, recorder);

        let runtime = place.open(&config).await;
        sheet.note_in_any_order("open");
        acts::life(place, &runtime, &mut sheet).await;
        acts::gifts(place, &runtime, &mut sheet).await;
        acts::execs(place, &runtime, &mut sheet).await;
        acts::sessions(place, &runtime, &mut sheet).await;
        acts::terminals(place, &runtime, &mut sheet).await;
        acts::resources(place, &runtime, &mut sheet).await;
        acts::failures(place, &runtime, &mut sheet).await;
        acts::images(place, &runtime, &mut sheet).await;
        let capabilities = runtime.capabilities().clone();
        runtime.shutdown().await;
        drop(runtime);

        // What a runtime does not know is no option for its handler.
        let usage = Command::new(host::find(binary).unwrap()).args(["create", "--help"]).output().unwrap();
        let usage = String::from_utf8([usage.stdout, usage.stderr].concat()).unwrap();
        let known = |flag: &str| usage.contains(flag);
        for (option, fits) in [
            ("systemd_cgroup", true),
            ("no_pivot", known("-no-pivot")),
            ("no_new_keyring", known("-no-new-keyring")),
        ] {
            if fits {
                config.options.insert(option.to_owned(), true.into());
            }
        }
        config.monitor.no_sync_log = true;
        let runtime = place.open(&config).await;
        sheet.note_in_any_order("open with every option");
        acts::with_every_option(place, &runtime, &mut sheet).await;
        runtime.shutdown().await;

        let is_declared =
            |operation: &Operation| operation.row().needs.is_none_or(|needs| capabilities.has(needs));
        for operation in Operation::ALL.iter().filter(|operation| is_declared(operation)) {
            assert!(sheet.has(operation.id()), "nobody called {}: add it to acts.rs", operation.id());
        }
        sheet.compare();
    })
    .await;
}
