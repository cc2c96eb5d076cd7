//! Where a test gives bad input, and what must be as it was afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manyrun_tests::census;
use runtime_api::{
    ContainerId, HandlerConfig, HandlerName, LogConfig, OpenContext, Origin, Result, RuntimeFactory as _,
    RuntimeKind, SharedRuntime,
};
use runtime_oci::OciFactory;
use runtime_test::{Workload, bundle};

/// A directory whose name is in every id and path of the test.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    binary: &'static str,
}

impl Place {
    pub(crate) fn new(binary: &'static str) -> Self {
        let directory = tempfile::Builder::new().prefix("bad").rand_bytes(8).tempdir().unwrap();
        let place = Self { directory, binary };
        bundle::write(&place.good_bundle(), &Workload::exits(0)).unwrap();
        place
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn good_bundle(&self) -> PathBuf {
        self.directory().join("good")
    }

    /// A log that a failed create must not leave.
    pub(crate) fn log(&self) -> LogConfig {
        LogConfig::cri_file(self.directory().join("left.log"))
    }

    pub(crate) fn id(&self, name: &str) -> ContainerId {
        ContainerId::new(format!("{}-{name}", self.token())).unwrap()
    }

    pub(crate) fn config(&self) -> HandlerConfig {
        HandlerConfig::new(
            HandlerName::new(self.binary).unwrap(),
            RuntimeKind::new("oci").unwrap(),
            Origin::other("this test"),
        )
    }

    pub(crate) async fn open(&self) -> SharedRuntime {
        self.open_with(&self.config(), "usual").await.unwrap()
    }

    pub(crate) async fn open_with(&self, config: &HandlerConfig, name: &str) -> Result<SharedRuntime> {
        let context =
            OpenContext::new(self.directory().join("state").join(name), format!("/manyrun/{}", self.token()));
        OciFactory.open(config, context).await
    }

    /// What is in the state directory of the usual value.
    pub(crate) fn found(&self) -> BTreeSet<String> {
        census::entries(&self.directory().join("state/usual"))
    }

    /// Nothing of the containers is on the host, the state directory is as it was, and no log was made.
    pub(crate) async fn assert_nothing_new(&self, before: &BTreeSet<String>) {
        let containers = format!("{}-", self.token());
        let found = census::settled(&containers, self.directory(), Duration::from_secs(10)).await;
        assert!(found.is_empty(), "{found:#?}");
        let (after, constant) = (self.found(), "file capabilities.json");
        let new: Vec<_> = after
            .difference(before)
            .filter(|entry| *entry != constant && !entry.starts_with("directory "))
            .collect();
        assert!(new.is_empty(), "new in the state directory: {new:#?}");
        assert!(!self.directory().join("left.log").exists(), "a log is left");
        self.remove_cgroups();
    }

    /// The parent of the containers' cgroups, which the runtimes make and leave.
    fn remove_cgroups(&self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let parent = hierarchy.path().join("manyrun").join(self.token());
            match std::fs::remove_dir(&parent) {
                // Others on this host remove what is empty, too.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.unwrap(),
            }
        }
    }

    fn token(&self) -> String {
        self.directory().file_name().unwrap().to_string_lossy().into_owned()
    }
}
