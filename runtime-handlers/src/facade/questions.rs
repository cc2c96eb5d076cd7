//! What an engine asks of a handler before it makes a container: the queries of CRI-O's `Runtime`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use runtime_api::{Capability, Error, ErrorKind, HandlerConfig, HandlerName, Result, RuntimeKind};

use super::Runtime;
use crate::table::{HandlerTable, Unavailable};
use crate::{annotation, crio, guard};

/// The first kernel that can make mounts read-only recursively.
const RECURSIVE_READ_ONLY: (u32, u32) = (5, 12);

/// A handler of the table as it was when it was asked for. A reload does not change it. No answer allocates or waits, but
/// for lists that are made.
#[derive(Clone, Debug)]
pub struct Handler {
    table: Arc<HandlerTable>,
    name: HandlerName,
}

/// A handler that is configured, in a list of all.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Offered {
    /// Its name.
    pub name: HandlerName,
    /// Whether it is meant when none is named.
    pub is_default: bool,
    /// Why it cannot be used, if it cannot.
    pub unavailable: Option<Unavailable>,
}

/// What the mounts of a handler's containers can be.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSupport {
    /// Mounts can be id-mapped; else why not.
    pub id_mapped: std::result::Result<(), String>,
    /// Mounts can be read-only recursively; else why not.
    pub recursive_read_only: std::result::Result<(), String>,
}

impl MountSupport {
    /// Nothing, for this reason.
    fn none(why: &str) -> Self {
        Self { id_mapped: Err(why.to_owned()), recursive_read_only: Err(why.to_owned()) }
    }
}

impl Handler {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &HandlerName {
        &self.name
    }

    /// Everything that is configured.
    #[must_use]
    pub fn config(&self) -> &HandlerConfig {
        // It was there when this value was made, and a table never changes.
        &self.table.handlers[&self.name]
    }

    /// The kind of its backend.
    #[must_use]
    pub fn kind(&self) -> &RuntimeKind {
        &self.config().kind
    }

    /// Whether it is meant when none is named.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.table.default.as_ref() == Some(&self.name)
    }

    /// The binary for images of a platform such as `linux/arm64`; `None` where the usual one is used.
    #[must_use]
    pub fn platform_path(&self, platform: &str) -> Option<&Path> {
        self.config().platform_paths.get(platform).map(std::path::PathBuf::as_path)
    }

    /// Refuses an annotation that its containers may not carry.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`], which names the annotation and the rule.
    pub fn allows(&self, annotation: &str) -> Result<()> {
        annotation::check(&self.config().annotations, [annotation])
    }

    /// Those of the annotations that CRI-O knows which its containers may carry. Others may be allowed, too: see
    /// [`Handler::allows`].
    #[must_use]
    pub fn allowed_annotations(&self) -> Vec<&'static str> {
        crio::known_annotations().into_iter().filter(|name| self.allows(name).is_ok()).collect()
    }

    /// What a container is annotated with unless it says otherwise.
    #[must_use]
    pub fn default_annotations(&self) -> &BTreeMap<String, String> {
        &self.config().annotations.default
    }

    /// Whether privileged containers do without the devices of the host.
    #[must_use]
    pub fn privileged_without_host_devices(&self) -> bool {
        self.config().privileged_without_host_devices
    }

    /// The smallest memory limit that a container may have, in bytes; zero where there is none.
    #[must_use]
    pub fn min_memory(&self) -> u64 {
        self.config().min_memory.unwrap_or(0)
    }

    /// Refuses a memory limit below [`Handler::min_memory`]. Zero and negative limits are none.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`].
    pub fn enough_memory(&self, limit: i64) -> Result<()> {
        guard::enough_memory(Some(limit), self.config().min_memory)
            .map_err(|what| Error::new(ErrorKind::ConfigInvalid(what)))
    }

    /// The seccomp profile for specs that are made; without one the engine's own.
    #[must_use]
    pub fn seccomp_profile(&self) -> Option<&Path> {
        self.config().seccomp_profile.as_deref()
    }

    /// The time zone of its containers; `None` leaves them the one of their image.
    #[must_use]
    pub fn time_zone(&self) -> Option<&str> {
        self.table.time_zone.as_ref().map(|zone| zone.name.as_str())
    }

    /// Whether streams are served as websockets by the monitor.
    #[must_use]
    pub fn stream_websockets(&self) -> bool {
        self.config().stream_websockets
    }

    /// Whether its runtime pulls images by itself.
    #[must_use]
    pub fn pulls_images(&self) -> bool {
        self.config().pull_image_in_guest
    }
}

impl Runtime {
    /// The handler that the CRI means by a text: an empty one is the default.
    ///
    /// # Errors
    /// Those of [`HandlerTable::select`], and [`ErrorKind::NotFound`] for a text that cannot be a handler's name.
    pub fn handler(&self, text: &str) -> Result<Handler> {
        let table = self.table();
        let name = match text {
            "" => None,
            _ => Some(HandlerName::new(text).map_err(|error| {
                // No handler has such a name, whatever is wrong with it.
                Error::new(ErrorKind::NotFound)
                    .during_step("select handler")
                    .on(format_args!("{text:?}"))
                    .hint(error.kind().to_string())
            })?),
        };
        let name = table.select(name.as_ref())?.name.clone();
        Ok(Handler { table, name })
    }

    /// Every handler that is configured and not switched off, by name.
    #[must_use]
    pub fn handlers(&self) -> Vec<Offered> {
        let table = self.table();
        let offered = |name: &HandlerName, unavailable: Option<&Unavailable>| Offered {
            name: name.clone(),
            is_default: table.default.as_ref() == Some(name),
            unavailable: unavailable.cloned(),
        };
        let mut all: Vec<_> = table.handlers.keys().map(|name| offered(name, None)).collect();
        all.extend(table.unavailable.iter().map(|(name, why)| offered(name, Some(why))));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What the mounts of a handler's containers can be, by what its runtime says of itself and by the kernel. The handler is
    /// opened for it; one that cannot be opened supports nothing, and the reason says so.
    pub async fn mount_support(&self, handler: Option<&HandlerName>) -> MountSupport {
        let runtime = match self.runtime(handler).await {
            Ok(runtime) => runtime,
            Err(error) => return MountSupport::none(&error.report()),
        };
        let capabilities = runtime.capabilities();
        let has = |capability| capabilities.require(capability).map_err(|error| error.kind().to_string());
        let kernel = || {
            // A kernel of its own is not the one that runs here.
            if capabilities.has(Capability::KernelSeparated) {
                return Ok(());
            }
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            at_least(release.trim(), RECURSIVE_READ_ONLY)
        };
        MountSupport {
            id_mapped: has(Capability::IdMappedMounts),
            recursive_read_only: has(Capability::RecursiveReadOnlyMounts).and_then(|()| kernel()),
        }
    }
}

/// Whether a release such as `6.1.0-18-amd64` is not older.
fn at_least(release: &str, (major, minor): (u32, u32)) -> std::result::Result<(), String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(found)), Some(Ok(next))) if (found, next) >= (major, minor) => Ok(()),
        _ => Err(format!("the kernel {release:?} is older than {major}.{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;
    use crate::source::Source;
    use crate::testing::ToyFactory;

    const CRIO: &str = "[crio.runtime]\ntimezone = 'Europe/Paris'\nseccomp_profile = '/all.json'\n\
        [crio.runtime.runtimes.kata]\nruntime_path = '/usr/bin/containerd-shim-kata-v2'\nruntime_type = 'vm'\n\
        privileged_without_host_devices = true\nruntime_pull_image = true\n\
        [crio.runtime.runtimes.small]\nruntime_path = '/usr/bin/crun'\nseccomp_profile = '/small.json'\n\
        allowed_annotations = ['io.kubernetes.cri-o.Devices']\ncontainer_min_memory = '1MiB'\n\
        [crio.runtime.runtimes.small.platform_runtime_paths]\n'linux/arm64' = '/usr/bin/crun-arm'\n\
        [crio.runtime.runtimes.small.default_annotations]\na = 'b'\n\
        [crio.runtime.runtimes.broken]\nruntime_type = 'none'\n";

    fn runtime(text: &str) -> Runtime {
        let table = crio::parse(&[Source::new("crio.conf", text)]).unwrap();
        Runtime::new(table, Registry::new().register(ToyFactory).unwrap(), "/nonexistent/base")
    }

    #[test]
    fn every_question_of_cri_o_has_an_answer() {
        let runtime = runtime(CRIO);
        let (default, kata) = (runtime.handler("").unwrap(), runtime.handler("kata").unwrap());
        assert_eq!((default.name().as_str(), default.is_default()), ("crun", true));
        assert_eq!((default.kind().as_str(), kata.kind().as_str()), ("oci", "vm"));
        assert!(kata.privileged_without_host_devices() && kata.pulls_images() && !kata.is_default());
        assert!(!default.privileged_without_host_devices() && !kata.stream_websockets());
        assert_eq!(kata.seccomp_profile(), Some(Path::new("/all.json")));
        assert_eq!(kata.time_zone(), Some("Europe/Paris"));
        let small = runtime.handler("small").unwrap();
        assert_eq!(small.seccomp_profile(), Some(Path::new("/small.json")));
        assert_eq!(small.allowed_annotations(), ["devices.crio.io", "io.kubernetes.cri-o.Devices"]);
        assert!(small.allows("com.example").is_ok() && small.allows("run.oci.x").is_err());
        assert_eq!(small.platform_path("linux/arm64"), Some(Path::new("/usr/bin/crun-arm")));
        assert_eq!(small.platform_path("linux/amd64"), None);
        assert_eq!(small.default_annotations()["a"], "b");
        assert_eq!((small.min_memory(), default.min_memory()), (1 << 20, 500 << 10));
        assert!(small.enough_memory(1 << 20).is_ok() && small.enough_memory(0).is_ok());
        assert!(small.enough_memory((1 << 20) - 1).is_err());
        runtime.reload(|| Ok(HandlerTable::built_in())).unwrap();
        assert_eq!(small.min_memory(), 1 << 20, "an answer does not change");
    }

    #[test]
    fn a_name_is_validated_and_all_are_listed() {
        let runtime = runtime(CRIO);
        assert!(runtime.handler("kat").unwrap_err().is_not_found());
        assert!(runtime.handler("a b").unwrap_err().is_not_found());
        let broken = runtime.handler("broken").unwrap_err();
        assert!(matches!(broken.kind(), ErrorKind::Unavailable(_)), "{broken:?}");
        let names: Vec<_> = runtime
            .handlers()
            .into_iter()
            .map(|each| (each.name.to_string(), each.is_default, each.unavailable.is_some()))
            .collect();
        let row = |name: &str, default, broken| (name.to_owned(), default, broken);
        assert_eq!(
            names,
            [
                row("broken", false, true),
                row("crun", true, false),
                row("kata", false, false),
                row("small", false, false)
            ]
        );
    }

    #[tokio::test]
    async fn a_handler_that_cannot_be_opened_supports_no_mounts() {
        let support = runtime(CRIO).mount_support(None).await;
        assert!(support.id_mapped.unwrap_err().contains("unknown kind \"oci\""));
        assert!(support.recursive_read_only.is_err());
    }

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, enough) in [
            ("6.1.0-18-amd64", true),
            ("5.12", true),
            ("5.9.1", false),
            ("4.18.0-553.el8", false),
            ("10.0", true),
            ("", false),
            ("x", false),
        ] {
            assert_eq!(at_least(release, RECURSIVE_READ_ONLY).is_ok(), enough, "{release}");
        }
    }
}
