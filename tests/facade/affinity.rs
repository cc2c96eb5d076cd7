//! Handlers whose execs begin on the first CPU of their container: CRI-O's `exec_cpu_affinity`.

use std::path::Path;

use manyrun_tests::host;
use manyrun_tests::patience::{LIMIT, within};
use manyrun_tests::place::{Place, on};
use manyrun_tests::wrapper::{with_features, write_script};
use runtime_api::{
    Capability, CreateRequest, DeleteRequest, ExecId, ExecSessionRequest, ExecSyncRequest, HandlerName,
};
use runtime_handlers::{HandlerTable, Source, crio};
use runtime_test::Workload;
use serde_json::{Value, json};

use crate::facade;

fn table(path: &Path) -> HandlerTable {
    let text = format!(
        "[crio.runtime]\ncgroup_manager = 'cgroupfs'\n[crio.runtime.runtimes.mine]\nruntime_path = '{}'\nexec_cpu_affinity = 'first'\n",
        path.display()
    );
    crio::parse(&[Source::new("crio.conf", text)]).unwrap()
}

/// A bundle whose container may use these CPUs, or as many as there are.
fn bundle(place: &Place, name: &str, cpus: Option<&str>) -> std::path::PathBuf {
    let bundle = place.bundle(name, &Workload::forever());
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    if let Some(cpus) = cpus {
        config["linux"]["resources"]["cpu"] = json!({"cpus": cpus});
    }
    std::fs::write(&file, config.to_string()).unwrap();
    bundle
}

/// The CPUs that this process may use, as the kernel lists them.
fn own_cpus() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    line.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_runtime_is_told_where_an_exec_begins() {
    on(&["runc", "crun"], async |place| {
        let (path, seen) = (place.path("knows"), place.path("seen"));
        let features = json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.1", "mountOptions": []});
        // What is after --process is kept, for the document goes when the exec is over.
        write_script(
            &path,
            &format!(
                "#!/bin/sh\nfor word; do\n[ \"$word\" = features ] && echo '{features}' && exit 0\n\
                 [ \"$last\" = --process ] && cp \"$word\" {}\nlast=$word\ndone\nexec {} \"$@\"\n",
                seen.display(),
                host::find(place.binary).unwrap().display()
            ),
        );
        let runtime = facade(place, table(&path));
        let handler = HandlerName::new("mine").unwrap();
        let cpus = own_cpus();
        let first = cpus.split([',', '-']).next().unwrap();
        for (name, given, wanted) in
            [("pinned", Some(cpus.as_str()), json!({"initial": first})), ("free", None, Value::Null)]
        {
            let id = place.id(name);
            let request = CreateRequest::new(id.clone(), bundle(place, name, given));
            within(LIMIT, "create", runtime.create(Some(&handler), request)).await.unwrap();
            within(LIMIT, "start", runtime.start(&id)).await.unwrap();
            let told = || {
                let document: Value = serde_json::from_slice(&std::fs::read(&seen).unwrap()).unwrap();
                std::fs::remove_file(&seen).unwrap();
                document["execCPUAffinity"].clone()
            };
            let exec = ExecSyncRequest::new(Workload::exits(3).process());
            let outcome = within(LIMIT, "exec", runtime.exec_sync(&id, exec)).await.unwrap();
            assert_eq!((outcome.code(), told()), (Some(3), wanted.clone()), "{name}");
            let session = ExecSessionRequest::new(ExecId::new("s").unwrap(), Workload::forever().process());
            within(LIMIT, "session", runtime.exec_start(&id, session)).await.unwrap();
            assert_eq!(told(), wanted, "{name}");
            within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        }
        runtime.shutdown().await;
    })
    .await;
}

/// A runtime that would ignore it without a word gets no execs, and everything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_is_not_known_to_heed_it_gets_no_execs() {
    on(&["runc", "crun"], async |place| {
        let features = json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0", "mountOptions": []});
        let runtime = facade(place, table(&with_features(place, "old", &features)));
        let handler = HandlerName::new("mine").unwrap();
        let value = within(LIMIT, "open", runtime.runtime(Some(&handler))).await.unwrap();
        for each in [Capability::Exec, Capability::ExecSync, Capability::ExecSession, Capability::ExecTty] {
            let why = value.capabilities().why_not(each).unwrap_or_default().to_owned();
            assert!(why.contains("exec_cpu_affinity") && why.contains("up to 1.2.0"), "{each}: {why}");
        }
        let id = place.id("a");
        let request = CreateRequest::new(id.clone(), bundle(place, "a", None));
        within(LIMIT, "create", runtime.create(Some(&handler), request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let exec = ExecSyncRequest::new(Workload::exits(3).process());
        let refused = within(LIMIT, "exec", runtime.exec_sync(&id, exec)).await.unwrap_err();
        assert!(refused.is_unsupported() && refused.to_string().contains("1.2.1"), "{refused}");
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}
