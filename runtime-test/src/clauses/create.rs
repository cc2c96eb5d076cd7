use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{
    Capability, ContainerStatus, DeleteRequest, ErrorKind, LogConfig, Rejection, ExitCause,
};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, BundleOptions, Checked, Step, Violation, Workload};

clause! {
    /// After a create the container is listed as Created, with a live process.
    leaves_created = "create.leaves-created", Create
}
async fn leaves_created(bench: &Bench) -> Checked {
    let id = bench.id("a");
    let bundle = bench.bundle(&Workload::exits(0))?;
    let state = bench.runtime().create(bench.request(&id, &bundle)).await?;
    ensure_eq!(state.status, ContainerStatus::Created, "the status that create gives");
    ensure_eq!(state.id, id, "the id that create gives");
    let listed = bench.runtime().list().await?;
    ensure!(listed.len() == 1 && listed[0] == state, "the list must hold what create gave: {listed:?}");
    if bench.has(Capability::HostVisiblePid) {
        let Some(pid) = state.pid else { return Err(Violation::new("a created container must have a pid")) };
        ensure!(Path::new(&format!("/proc/{pid}")).exists(), "there is no process {pid}");
    }
    Ok(())
}

clause! {
    /// A create does not run the program; only start runs it.
    does_not_run_the_program = "create.does-not-run-the-program", Create
}
async fn does_not_run_the_program(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::says("ran").then(Step::Exit(7))).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    container.must_be(ContainerStatus::Created).await?;
    let printed = container.output()?.unwrap_or_default().stdout;
    ensure_eq!(printed, "", "the output before the start");
    container.start().await?;
    ensure_eq!(container.wait().await?.code, Some(7), "the code after the start");
    Ok(())
}

clause! {
    /// A known id is refused with `AlreadyExists`, and the first container stays as it was.
    rejects_duplicate_id = "create.rejects-duplicate-id", Create
}
async fn rejects_duplicate_id(bench: &Bench) -> Checked {
    let first = bench.created(&Workload::exits(7)).await?;
    let before = first.state().await?;
    let other = bench.bundle(&Workload::exits(8))?;
    let runtime = bench.runtime();
    let again = || runtime.create(bench.request(first.id(), &before.bundle));
    refused!(again().await, ErrorKind::AlreadyExists, "the same create again");
    let different = bench.runtime().create(bench.request(first.id(), &other)).await;
    refused!(different, ErrorKind::AlreadyExists, "a create of another bundle under the same id");
    ensure_eq!(first.state().await?, before, "the first container");
    first.start().await?;
    ensure_eq!(first.wait().await?.code, Some(7), "the first container's program");
    refused!(again().await, ErrorKind::AlreadyExists, "a create under the id of a stopped container");
    first.must_be(ContainerStatus::Stopped).await
}

clause! {
    /// A missing bundle is refused with `ConfigInvalid` and leaves nothing behind.
    rejects_missing_bundle = "create.rejects-missing-bundle", Create
}
async fn rejects_missing_bundle(bench: &Bench) -> Checked {
    let missing = bench.scratch().bundles_dir().join("missing");
    config_is_refused(bench, "a", &missing, "a bundle that does not exist").await?;
    let empty = bench.scratch().fresh_bundle_dir()?;
    config_is_refused(bench, "b", &empty, "a bundle without config.json").await
}

clause! {
    /// A bundle whose `config.json` is not JSON or not a spec is refused with `ConfigInvalid` and leaves nothing
    /// behind.
    rejects_broken_config = "create.rejects-broken-config", Create
}
async fn rejects_broken_config(bench: &Bench) -> Checked {
    let broken = [
        ("a", "{\"ociVersion\": \"1.0.2\",", "JSON that breaks off"),
        ("b", "[]", "JSON that is no object"),
        ("c", "{\"ociVersion\": \"1.0.2\", \"process\": 7}", "JSON that is no spec"),
        ("d", "", "an empty file"),
    ];
    for (name, text, what) in broken {
        let bundle = bench.bundle(&Workload::exits(0))?;
        let config = bundle.join("config.json");
        fs::write(&config, text).map_err(|error| Violation::host(config.display(), &error))?;
        config_is_refused(bench, name, &bundle, what).await?;
    }
    Ok(())
}

async fn config_is_refused(bench: &Bench, name: &str, bundle: &Path, what: &str) -> Checked {
    let id = bench.id(name);
    let created = bench.runtime().create(bench.request(&id, bundle)).await;
    refused!(created, ErrorKind::ConfigInvalid(_), "{what}");
    bench.nothing_is_left_of(&id).await?;
    ensure!(!bench.log_path(&id).exists(), "{what}: a log file was left");
    Ok(())
}

clause! {
    /// A limit of the log's size below 8,192 bytes is refused with `InvalidArgument`.
    rejects_tiny_log_limits = "create.rejects-tiny-log-limits", Create, needs [Log]
}
async fn rejects_tiny_log_limits(bench: &Bench) -> Checked {
    let id = bench.id("a");
    let bundle = bench.bundle(&Workload::exits(0))?;
    let log = |limit| LogConfig::cri_file(bench.log_path(&id)).max_size(limit);
    let created = bench.runtime().create(bench.request(&id, &bundle).log(log(8191))).await;
    refused!(created, ErrorKind::InvalidArgument(_), "a log of at most 8191 bytes");
    bench.nothing_is_left_of(&id).await?;
    ensure!(!bench.log_path(&id).exists(), "a log file was left");
    bench.create(bench.request(&id, &bundle).log(log(8192))).await?;
    Ok(())
}

clause! {
    /// Unless the request asks for input, the program finds its standard input at its end.
    closes_input_unless_asked = "create.closes-input-unless-asked", Create
}
async fn closes_input_unless_asked(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::echoes().then(Step::Exit(7))).await?;
    match tokio::time::timeout(Duration::from_secs(20), container.wait()).await {
        Ok(exit) => ensure_eq!(exit?.code, Some(7), "the code of a program that reads its input to the end"),
        Err(_) => return Err(Violation::new("a program that reads its input never comes to its end")),
    }
    Ok(())
}

clause! {
    /// A program that does not exist is `Rejected` with the class "exec not found", by create or by start. After a
    /// create nothing is left; after a start the container is Stopped without a code and can be deleted.
    rejects_missing_program = "create.rejects-missing-program", Create
}
async fn rejects_missing_program(bench: &Bench) -> Checked {
    let id = bench.id("a");
    let options = BundleOptions::new().argv(["/no/such/program"]);
    let bundle = bench.bundle_with(&Workload::exits(0), &options)?;
    let not_found = |kind: &ErrorKind| {
        matches!(kind, ErrorKind::Rejected { class: Rejection::ExecNotFound, .. })
    };
    match bench.runtime().create(bench.request(&id, &bundle)).await {
        Err(error) => {
            ensure!(not_found(error.kind()), "create must say \"exec not found\": {}", error.report());
            bench.nothing_is_left_of(&id).await?;
            ensure!(!bench.log_path(&id).exists(), "a log file was left");
        }
        Ok(_) => {
            let started = bench.runtime().start(&id).await;
            let error = refused!(started, ErrorKind::Rejected { .. }, "the start of a program that is missing");
            ensure!(not_found(error.kind()), "start must say \"exec not found\": {}", error.report());
            let state = bench.runtime().state(&id).await?;
            let ended = state.exit.as_ref().map(|exit| (exit.code, exit.cause));
            ensure_eq!(state.status, ContainerStatus::Stopped, "the status afterwards");
            ensure_eq!(ended, Some((None, ExitCause::StartFailed)), "the exit status afterwards");
            bench.runtime().delete(&id, DeleteRequest::new()).await?;
        }
    }
    Ok(())
}

clause! {
    /// A log whose parent directory is missing is refused with `ConfigInvalid`, and nothing is left.
    rejects_missing_log_directory = "create.rejects-missing-log-directory", Create, needs [Log]
}
async fn rejects_missing_log_directory(bench: &Bench) -> Checked {
    let id = bench.id("a");
    let bundle = bench.bundle(&Workload::exits(0))?;
    let parent = bench.scratch().logs_dir().join("missing");
    let request = bench.request(&id, &bundle).log(LogConfig::cri_file(parent.join("a.log")));
    let created = bench.runtime().create(request).await;
    refused!(created, ErrorKind::ConfigInvalid(_), "a log in a directory that does not exist");
    ensure!(!parent.exists(), "the directory must not be made");
    bench.nothing_is_left_of(&id).await
}

clause! {
    /// A log path that is a symbolic link is refused with `ConfigInvalid` and not followed.
    rejects_symlinked_log = "create.rejects-symlinked-log", Create, needs [Log]
}
async fn rejects_symlinked_log(bench: &Bench) -> Checked {
    let bundle = bench.bundle(&Workload::exits(0))?;
    let logs = bench.scratch().logs_dir();
    let precious = logs.join("precious");
    fs::write(&precious, "keep me").map_err(|error| Violation::host(precious.display(), &error))?;
    for (name, target) in [("a", precious.clone()), ("b", logs.join("nowhere"))] {
        let id = bench.id(name);
        let link = bench.log_path(&id);
        std::os::unix::fs::symlink(&target, &link).map_err(|error| Violation::host(link.display(), &error))?;
        let created = bench.runtime().create(bench.request(&id, &bundle)).await;
        refused!(created, ErrorKind::ConfigInvalid(_), "a log path that links to {}", target.display());
        bench.nothing_is_left_of(&id).await?;
    }
    let content = fs::read_to_string(&precious).map_err(|error| Violation::host(precious.display(), &error))?;
    ensure_eq!(content, "keep me", "the file that the link leads to");
    ensure!(!logs.join("nowhere").exists(), "the link was followed");
    Ok(())
}

clause! {
    /// The bundle is never written to.
    leaves_bundle_unchanged = "create.leaves-bundle-unchanged", Create
}
async fn leaves_bundle_unchanged(bench: &Bench) -> Checked {
    let id = bench.id("a");
    let bundle = bench.bundle(&Workload::says("hello"))?;
    let before = files_below(&bundle)?;
    let container = bench.create(bench.request(&id, &bundle)).await?;
    ensure_eq!(files_below(&bundle)?, before, "the files of the bundle after the create");
    container.start().await?;
    container.wait().await?;
    container.delete().await?;
    ensure_eq!(files_below(&bundle)?, before, "the files of the bundle after the delete");
    Ok(())
}

/// Every file with its length and time of change; directories inside the root file system are left out, because
/// runtimes make mount points there.
fn files_below(bundle: &Path) -> Checked<Vec<(PathBuf, u64, std::time::SystemTime)>> {
    let mut found = Vec::new();
    let mut open = vec![bundle.to_owned()];
    while let Some(dir) = open.pop() {
        let host = |error: std::io::Error| Violation::host(dir.display(), &error);
        for entry in fs::read_dir(&dir).map_err(host)? {
            let path = entry.map_err(host)?.path();
            let meta = fs::symlink_metadata(&path).map_err(host)?;
            if meta.is_dir() {
                if dir == bundle {
                    found.push((path.clone(), 0, std::time::SystemTime::UNIX_EPOCH));
                }
                open.push(path);
            } else {
                found.push((path, meta.len(), meta.modified().map_err(host)?));
            }
        }
    }
    found.sort();
    Ok(found)
}

clause! {
    /// A change to `config.json` after the create has no effect.
    ignores_later_changes = "create.ignores-later-changes", Create
}
async fn ignores_later_changes(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::exits(7)).await?;
    let state = container.state().await?;
    let other = bench.bundle_with(
        &Workload::exits(8),
        &BundleOptions::new().annotation("org.example.changed", "yes"),
    )?;
    let config = state.bundle.join("config.json");
    fs::copy(other.join("config.json"), &config).map_err(|error| Violation::host(config.display(), &error))?;
    ensure_eq!(container.state().await?.annotations, state.annotations, "the annotations");
    container.start().await?;
    ensure_eq!(container.wait().await?.code, Some(7), "the code of the program that was created");
    Ok(())
}

clause! {
    /// One bundle may run many times at once.
    shares_a_bundle = "create.shares-a-bundle", Create
}
async fn shares_a_bundle(bench: &Bench) -> Checked {
    let bundle = bench.bundle(&Workload::exits_on_term(7))?;
    let mut containers = Vec::new();
    for name in ["a", "b", "c"] {
        let container = bench.create(bench.request(&bench.id(name), &bundle)).await?;
        container.start().await?;
        container.until_ready().await?;
        containers.push(container);
    }
    for container in &containers {
        container.must_be(ContainerStatus::Running).await?;
    }
    // The end of one must not be the end of the others.
    ensure_eq!(containers[0].stop(Duration::from_secs(20)).await?.code, Some(7), "the code of the first");
    for container in &containers[1..] {
        container.must_be(ContainerStatus::Running).await?;
        ensure_eq!(container.stop(Duration::from_secs(20)).await?.code, Some(7), "the code of another");
    }
    Ok(())
}

clause! {
    /// Soon after a create was dropped, or at the next open, the id is free again.
    dropped_leaves_nothing = "create.dropped-leaves-nothing", Create, deadline 120
}
async fn dropped_leaves_nothing(bench: &Bench) -> Checked {
    let bundle = bench.bundle(&Workload::exits(7))?;
    for (number, patience) in [0_u64, 1, 3, 10, 30].into_iter().enumerate() {
        let id = bench.id(&number.to_string());
        let runtime = bench.runtime();
        let create = runtime.create(bench.request(&id, &bundle));
        let in_time = tokio::time::timeout(Duration::from_millis(patience), create).await;
        if let Ok(created) = in_time {
            // It was too fast to be dropped.
            created?;
            runtime.delete(&id, DeleteRequest::new()).await?;
            continue;
        }
        if !soon_unknown(bench, &id).await? {
            bench.reopen(Duration::ZERO).await?;
            ensure!(soon_unknown(bench, &id).await?, "\"{id}\" is known after the create was dropped");
        }
        bench.nothing_is_left_of(&id).await?;
        let again = bench.create(bench.request(&id, &bundle)).await?;
        again.start().await?;
        ensure_eq!(again.wait().await?.code, Some(7), "the next container under this id");
        again.delete().await?;
    }
    Ok(())
}

async fn soon_unknown(bench: &Bench, id: &runtime_api::ContainerId) -> Checked<bool> {
    for _ in 0..100 {
        if !bench.runtime().list().await?.iter().any(|state| state.id == *id) {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(false)
}
