//! Where a campaign happens: one state directory, with a container in it that lives through everything.

use std::path::PathBuf;
use std::time::Duration;

use manyrun_tests::life::{Life, Scenario};
use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::Place;
use runtime_api::{
    Capability, ContainerId, ContainerState, ContainerStatus, CreateRequest, DeleteRequest, LogConfig,
};
use runtime_test::{BundleOptions, Workload};

pub(crate) struct Field {
    pub(crate) place: Place,
    lives: u32,
    /// A container that no case touches.
    bystander: ContainerState,
}

impl Field {
    pub(crate) async fn new(binary: &'static str) -> Self {
        let place = Place::new(binary);
        let id = place.id("bystander");
        // Where shims have guests, they are those of the container that nobody touches.
        let noted = |kind: &str| {
            BundleOptions::new()
                .annotation("io.kubernetes.cri-o.ContainerType", kind)
                .annotation("io.kubernetes.cri-o.SandboxID", id.as_str())
        };
        Life::write_bundles(&place.path("bundles"), &BundleOptions::new()).unwrap();
        Life::write_bundles(&place.path("guests"), &noted("container")).unwrap();
        std::fs::create_dir(place.path("logs")).unwrap();
        let runtime = place.open(&place.config()).await;
        let ticks = Workload::ticks(Duration::from_millis(20));
        let bundle = place.bundle_with("ticks", &ticks, &noted("sandbox"));
        let log = LogConfig::cri_file(place.path("logs/bystander"));
        within(LIMIT, "create", runtime.create(CreateRequest::new(id.clone(), bundle).log(log)))
            .await
            .unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let bystander = runtime.state(&id).await.unwrap();
        if place.has_shim() {
            assert!(place.socket_of(&id).exists(), "shims have their sockets elsewhere by now");
        }
        runtime.shutdown().await;
        Self { place, lives: 0, bystander }
    }

    /// Whether its runtime saves containers and restores them, or says that it does not.
    pub(crate) async fn saves(&self) -> bool {
        let runtime = self.place.open(&self.place.config()).await;
        let why_not = runtime.capabilities().why_not(Capability::Restore);
        if let Some(why) = why_not {
            println!("SKIPPED: no checkpoints: {why}");
        }
        let saves = why_not.is_none();
        runtime.shutdown().await;
        saves
    }

    pub(crate) fn lives(&self) -> u32 {
        self.lives
    }

    /// A life that was not there before.
    pub(crate) fn life(&mut self, scenario: &'static Scenario, guest: bool) -> Life {
        self.lives += 1;
        let id = self.place.id(&format!("life{}", self.lives));
        let log = self.place.path("logs").join(id.as_str());
        let bundles = self.place.path(if guest { "guests" } else { "bundles" });
        Life { scenario, id, bundles, log }
    }

    pub(crate) fn cgroup(&self) -> String {
        format!("/manyrun/{}", self.place.token())
    }

    /// Where the backend keeps a life's container.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.place.container(id)
    }

    /// The other container has noticed nothing.
    pub(crate) fn assert_bystander_lives(&self, listed: &[ContainerState]) {
        let found = listed.iter().find(|state| state.id == self.bystander.id);
        assert_eq!(found, Some(&self.bystander), "the container that nobody touched");
    }

    /// Ends the campaign: the other container lived all the time, its log has every line, and nothing is left.
    pub(crate) async fn leave(self) {
        let runtime = self.place.open(&self.place.config()).await;
        let listed = within(LIMIT, "list", runtime.list()).await.unwrap();
        self.assert_bystander_lives(&listed);
        assert_eq!(listed.len(), 1, "{listed:#?}");
        assert_eq!(listed[0].status, ContainerStatus::Running);
        let log = self.place.path("logs/bystander");
        let lines = || {
            let text = std::fs::read_to_string(&log).unwrap();
            // A record that is being written does not count.
            let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            whole.map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
        };
        let before: Vec<String> = lines();
        let after: Vec<String> =
            until("another line of the log", || Some(lines()).filter(|now| now.len() > before.len())).await;
        for (number, line) in after.iter().enumerate() {
            assert_eq!(*line, format!("tick {}", number + 1), "the log has a gap");
        }
        let id = &self.bystander.id;
        within(LIMIT, "delete", runtime.delete(id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
        drop(runtime);
        std::fs::remove_dir_all(self.place.path("logs")).unwrap();
        self.place.assert_nothing_left().await;
    }
}
