//! Choosing a handler by other things than its name.

use std::path::Path;

use runtime_api::{Capability, Error, ErrorKind, HandlerConfig, HandlerName, Origin, Result, RuntimeKind};

use crate::facade::Runtime;
use crate::resolve::ThisHost;
use crate::table::HandlerTable;

/// A handler, and why it is this one.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// The handler.
    pub config: HandlerConfig,
    /// Why it was chosen.
    pub why: String,
}

impl Selected {
    /// A handler that was chosen because of `why`.
    pub fn new(config: HandlerConfig, why: impl Into<String>) -> Self {
        Self { config, why: why.into() }
    }
}

impl HandlerTable {
    /// The handler for a binary: one that names it, the default one first; else one that is made for it and has nothing
    /// but the binary. A binary called `containerd-shim-NAME-vN` is a shim.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a path that is not absolute, or whose last part cannot be a handler's name.
    pub fn select_path(&self, path: &Path) -> Result<Selected> {
        let invalid = |what: &str| {
            Error::new(ErrorKind::InvalidArgument(what.to_owned()))
                .during_step("select handler")
                .on(format_args!("{path:?}"))
        };
        if !path.is_absolute() {
            return Err(invalid("the path of a runtime must be absolute"));
        }
        let names_it = |config: &&HandlerConfig| config.paths.iter().any(|each| each == path);
        if let Some(config) = self.by_preference().find(names_it) {
            let why = format!("the handler \"{}\" names this binary ({})", config.name, config.origin);
            return Ok(Selected { config: config.clone(), why });
        }
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let shim = file.strip_prefix("containerd-shim-");
        let name = shim.and_then(|rest| rest.rsplit_once("-v")).map_or(file, |(name, _)| name);
        let name = HandlerName::new(name).map_err(|error| invalid(&error.kind().to_string()))?;
        let kind = RuntimeKind::new(if shim.is_some() { "vm" } else { "oci" })?;
        let mut config = HandlerConfig::new(name, kind, Origin::other(format!("path {}", path.display())));
        config.paths = vec![path.to_owned()];
        Ok(Selected { config, why: "no handler names this binary; it is taken as it is".to_owned() })
    }

    /// The handlers, the default one first, then by name.
    pub(crate) fn by_preference(&self) -> impl Iterator<Item = &HandlerConfig> {
        let default = self.default.as_ref();
        let first = default.and_then(|name| self.handlers.get(name));
        first.into_iter().chain(self.handlers.values().filter(move |config| Some(&config.name) != default))
    }
}

impl Runtime {
    /// The first handler that can do all of this: the default one if it can, then by name. Handlers are opened for it, and
    /// those that cannot be opened are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], which says of each handler why not.
    pub async fn select_capable(&self, wanted: &[Capability]) -> Result<Selected> {
        let table = self.table();
        let mut passed_over = Vec::new();
        for config in table.by_preference() {
            match self.lacks(config, wanted).await {
                None => {
                    let list: Vec<_> = wanted.iter().map(|capability| capability.id()).collect();
                    let mut why = format!("the first handler that has {}", list.join(", "));
                    if !passed_over.is_empty() {
                        why.push_str(&format!("; not {}", passed_over.join("; not ")));
                    }
                    return Ok(Selected { config: config.clone(), why });
                }
                Some(reason) => passed_over.push(format!("{}: {reason}", config.name)),
            }
        }
        let list: Vec<_> = wanted.iter().map(|capability| capability.id()).collect();
        let what = format!("no handler has {}: {}", list.join(", "), passed_over.join("; "));
        Err(Error::new(ErrorKind::Unavailable(what)).during_step("select handler"))
    }

    async fn lacks(&self, config: &HandlerConfig, wanted: &[Capability]) -> Option<String> {
        // What a program that is not there would have is nobody's to say.
        if let Some((_, reason)) = crate::resolve::missing(config, &ThisHost) {
            return Some(format!("it is not usable on this host: {reason}"));
        }
        match self.runtime(Some(&config.name)).await {
            Ok(runtime) => {
                let capabilities = runtime.capabilities();
                wanted
                    .iter()
                    .find_map(|each| capabilities.require(*each).err())
                    .map(|error| error.kind().to_string())
            }
            // The error about all of them says once that nothing is available.
            Err(error) => Some(match error.kind() {
                ErrorKind::Unavailable(reason) => reason.clone(),
                kind => kind.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{self, Source};

    #[test]
    fn a_path_finds_the_handler_that_names_it() {
        let text = "default = 'b'\n[runtimes.a]\nkind = 'oci'\npath = '/x/crun'\n[runtimes.b]\nkind = 'oci'\npaths = ['/y', '/x/crun']\n";
        let table = native::parse(&[Source::new("f", text)]).unwrap();
        let found = table.select_path(Path::new("/x/crun")).unwrap();
        assert_eq!(
            (found.config.name.as_str(), found.why.as_str()),
            ("b", "the handler \"b\" names this binary (f:5 [runtimes.b])")
        );
        let made = table.select_path(Path::new("/opt/crun-next")).unwrap().config;
        assert_eq!((made.name.as_str(), made.kind.as_str()), ("crun-next", "oci"));
        let shim = table.select_path(Path::new("/opt/containerd-shim-kata-v2")).unwrap().config;
        assert_eq!((shim.name.as_str(), shim.kind.as_str()), ("kata", "vm"));
        assert!(table.select_path(Path::new("crun")).is_err());
        assert!(table.select_path(Path::new("/")).is_err());
    }
}
