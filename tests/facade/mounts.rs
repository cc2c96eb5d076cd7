//! What a handler says that its mounts can be, and that they are it.

use std::path::{Path, PathBuf};

use manyrun_tests::host;
use manyrun_tests::patience::{LIMIT, within};
use manyrun_tests::place::{Place, on};
use manyrun_tests::wrapper::with_features;
use runtime_api::{CreateRequest, DeleteRequest, HandlerName};
use runtime_handlers::{HandlerTable, MountSupport, Source, native};
use runtime_test::Workload;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use crate::facade;

const HANDLER: &str = "mine";

fn table(path: &Path) -> HandlerTable {
    let text = format!("[runtimes.{HANDLER}]\nkind = 'oci'\npath = '{}'\n", path.display());
    native::parse(&[Source::new("handlers.toml", text)]).unwrap()
}

async fn asked(place: &Place, path: &Path) -> MountSupport {
    let runtime = facade(place, table(path));
    let name = HandlerName::new(HANDLER).unwrap();
    let support = within(LIMIT, "mount_support", runtime.mount_support(Some(&name))).await;
    runtime.shutdown().await;
    support
}

/// A directory with a file system mounted below it, which goes with the value.
struct Tree {
    below: PathBuf,
}

impl Tree {
    fn new(at: &Path) -> Self {
        let below = at.join("below");
        std::fs::create_dir_all(&below).unwrap();
        mount("tests", &below, "tmpfs", MountFlags::empty(), None).unwrap();
        Self { below }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.below, UnmountFlags::DETACH) {
            eprintln!("{} is left mounted: {error}", self.below.display());
        }
    }
}

/// Whether each mount at or below `/tree` is read-only in the process, by its place.
fn read_only(pid: u32) -> Vec<(String, bool)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let rows = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut found: Vec<_> = rows
        .filter(|row| row[4] == "/tree" || row[4].starts_with("/tree/"))
        .map(|row| (row[4].to_owned(), row[5].split(',').any(|option| option == "ro")))
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_is_read_only_recursively_where_the_handler_says_so() {
    on(&["runc"], async |place| {
        let runc = host::find("runc").unwrap();
        let support = asked(place, &runc).await;
        let listed = std::process::Command::new(&runc).arg("features").output().unwrap();
        let document: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
        let has_rro = document["mountOptions"].as_array().is_some_and(|all| all.contains(&json!("rro")));
        assert_eq!(support.recursive_read_only.is_ok(), has_rro, "{support:?}");
        if let Err(why) = &support.recursive_read_only {
            host::skipped(&format!("runc makes no mount read-only recursively here: {why}"));
            return;
        }
        let tree = Tree::new(&place.path("tree"));
        let runtime = facade(place, table(&runc));
        let handler = HandlerName::new(HANDLER).unwrap();
        // Without it what is mounted below stays writable, which is what people want to be told.
        for (option, below) in [("ro", false), ("rro", true)] {
            let bundle = place.bundle(option, &Workload::forever());
            let file = bundle.join("config.json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let mounts = config["mounts"].as_array_mut().unwrap();
            let source = tree.below.parent().unwrap();
            mounts.push(json!({
                "destination": "/tree", "type": "bind", "source": source, "options": ["rbind", option],
            }));
            std::fs::write(&file, config.to_string()).unwrap();
            let id = place.id(option);
            let create = runtime.create(Some(&handler), CreateRequest::new(id.clone(), &bundle));
            let pid = within(LIMIT, "create", create).await.unwrap().pid.unwrap();
            let wanted = [("/tree".to_owned(), true), ("/tree/below".to_owned(), below)];
            assert_eq!(read_only(pid), wanted, "{option}");
            within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        }
        runtime.shutdown().await;
    })
    .await;
}

/// No runtime that is installed here says it, so one is made to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_features_document_says_is_what_a_handler_supports() {
    on(&["runc"], async |place| {
        let says = |name: &str, document: &Value| with_features(place, name, document);
        let both = json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0", "mountOptions": ["ro", "rro"],
            "linux": {"mountExtensions": {"idmap": {"enabled": true}}}});
        let support = asked(place, &says("both", &both)).await;
        assert_eq!((support.id_mapped, support.recursive_read_only), (Ok(()), Ok(())));
        let neither = json!({"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0", "mountOptions": ["ro"],
            "linux": {"mountExtensions": {"idmap": {"enabled": false}}}});
        let support = asked(place, &says("neither", &neither)).await;
        let (idmap, rro) = (support.id_mapped.unwrap_err(), support.recursive_read_only.unwrap_err());
        assert!(idmap.contains("idmap") && rro.contains("rro"), "{idmap}; {rro}");
        let strange = json!({"mountOptions": ["rro"]});
        let support = asked(place, &says("strange", &strange)).await;
        assert!(support.recursive_read_only.is_err(), "it is no features document: {support:?}");
    })
    .await;
}
