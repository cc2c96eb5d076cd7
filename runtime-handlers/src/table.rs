//! The handlers that can be chosen.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use runtime_api::{Error, ErrorKind, HandlerConfig, HandlerName, Origin, Result, RuntimeKind};

/// Something worth telling about a configuration that is not an error.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where it was found.
    pub origin: Origin,
    /// What is worth telling.
    pub text: String,
    /// The handler that it concerns.
    pub handler: Option<HandlerName>,
}

impl Note {
    /// A remark about `origin`.
    pub fn new(origin: Origin, text: impl Into<String>) -> Self {
        Self { origin, text: text.into(), handler: None }
    }

    /// Says which handler it concerns.
    #[must_use]
    pub fn about(mut self, handler: &HandlerName) -> Self {
        self.handler = Some(handler.clone());
        self
    }

    /// Whether the note concerns this handler.
    #[must_use]
    pub fn is_about(&self, handler: &HandlerName) -> bool {
        self.handler.as_ref() == Some(handler)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// Where one key of a handler was written.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The key as the native dialect calls it, such as `monitor.path`.
    pub key: String,
    /// What it is called there.
    pub written_as: String,
    /// The place.
    pub origin: Origin,
}

impl Written {
    /// `key`, which was written as `written_as` at `origin`.
    pub fn new(key: impl Into<String>, written_as: impl Into<String>, origin: Origin) -> Self {
        Self { key: key.into(), written_as: written_as.into(), origin }
    }
}

/// A handler that is configured and cannot be used. Containers that it made are listed and deleted all the same.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Why not.
    pub reason: String,
    /// Where it is configured, or what is wrong there.
    pub origin: Origin,
}

impl Unavailable {
    /// A handler of `origin` that cannot be used.
    pub fn new(reason: impl Into<String>, origin: Origin) -> Self {
        Self { reason: reason.into(), origin }
    }
}

/// The time zone of containers. It is for whoever writes their specs; nothing here sets it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TimeZone {
    /// Such as `Europe/Paris`, or `Local` for that of the host.
    pub name: String,
    /// Where it was written.
    pub origin: Origin,
}

/// Every handler by name, and which one is meant when none is named. Immutable: a reload makes a new table.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerTable {
    /// The handler that is meant when none is named.
    pub default: Option<HandlerName>,
    /// The handlers that can be chosen.
    pub handlers: BTreeMap<HandlerName, HandlerConfig>,
    /// Handlers that are configured with `enabled = false`, with the place.
    pub switched_off: BTreeMap<HandlerName, Origin>,
    /// Handlers that are configured and cannot be used.
    pub unavailable: BTreeMap<HandlerName, Unavailable>,
    /// Where each key of a handler was written; a list that several keys add to has several places. Keys that nobody wrote
    /// have their defaults.
    pub written: BTreeMap<HandlerName, Vec<Written>>,
    /// The time zone of containers; `None` leaves them the one of their image.
    pub time_zone: Option<TimeZone>,
    /// What is worth telling.
    pub notes: Vec<Note>,
    /// The files that were read, in the order in which they were merged; empty for built-in defaults.
    pub sources: Vec<PathBuf>,
}

impl HandlerTable {
    /// A table without default, notes and files.
    #[must_use]
    pub fn new(handlers: impl IntoIterator<Item = HandlerConfig>) -> Self {
        Self {
            default: None,
            handlers: handlers.into_iter().map(|config| (config.name.clone(), config)).collect(),
            switched_off: BTreeMap::new(),
            unavailable: BTreeMap::new(),
            written: BTreeMap::new(),
            time_zone: None,
            notes: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// Sets the handler that is meant when none is named.
    #[must_use]
    pub fn with_default(mut self, name: HandlerName) -> Self {
        self.default = Some(name);
        self
    }

    /// A handler that its kind of backend does not accept: why, at the place of the key that the backend names, and with
    /// the name that the key has there.
    #[must_use]
    pub fn refused(&self, config: &HandlerConfig, error: &Error) -> Unavailable {
        let what = error.kind().to_string();
        // Backends begin with the key.
        let is_named = |key: &str| {
            let rest = what.strip_prefix(key);
            rest.is_some_and(|rest| rest.starts_with([' ', ':']))
        };
        let written = self.written.get(&config.name).into_iter().flatten();
        match written.rev().find(|each| is_named(&each.key)) {
            Some(each) if each.written_as != each.key => {
                let reason = format!("{what} ({} is called {} there)", each.key, each.written_as);
                Unavailable::new(reason, each.origin.clone())
            }
            Some(each) => Unavailable::new(what, each.origin.clone()),
            None => Unavailable::new(what, config.origin.clone()),
        }
    }

    /// What is used where no file exists: `runc`, `crun`, `youki` and `runsc` from `PATH`, `fake`, and `crun` as the default.
    #[must_use]
    pub fn built_in() -> Self {
        let origin = Origin::other("built-in default");
        let handler = |name: &str, kind: &str| {
            let parsed = (HandlerName::new(name), RuntimeKind::new(kind));
            let (Ok(name), Ok(kind)) = parsed else { unreachable!("{name} and {kind} are valid names") };
            HandlerConfig::new(name, kind, origin.clone())
        };
        let crun = handler("crun", "oci");
        let default = crun.name.clone();
        let hosts = ["runc", "youki", "runsc"].map(|name| handler(name, "oci"));
        Self::new(hosts.into_iter().chain([crun, handler("fake", "fake")])).with_default(default)
    }

    /// The handler with this name, or the default one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], which names the handler, where it was looked for, and the handlers there are;
    /// [`ErrorKind::Unavailable`], which says why a handler that is there cannot be used;
    /// [`ErrorKind::InvalidArgument`] when none is named and there is no default.
    pub fn select(&self, name: Option<&HandlerName>) -> Result<&HandlerConfig> {
        let Some(name) = name.or(self.default.as_ref()) else {
            let none = "no handler is named, and the configuration has no default".to_owned();
            return Err(Error::new(ErrorKind::InvalidArgument(none))
                .during_step("select handler")
                .hint(format!("name one of: {}; or set default in {}", self.known(), self.places())));
        };
        self.handlers.get(name).ok_or_else(|| {
            if let Some(broken) = self.unavailable.get(name) {
                return Error::new(ErrorKind::Unavailable(broken.reason.clone()))
                    .during_step("select handler")
                    .on(format_args!("\"{name}\" ({})", broken.origin));
            }
            let missing = Error::new(ErrorKind::NotFound)
                .during_step("select handler")
                .on(format_args!("\"{name}\" in {}", self.places()));
            match self.switched_off.get(name) {
                Some(origin) => missing.hint(format!("it is switched off by enabled = false at {origin}")),
                None => missing.hint(format!("known handlers are: {}", self.known())),
            }
        })
    }

    fn known(&self) -> String {
        if self.handlers.is_empty() {
            return "none".to_owned();
        }
        self.handlers.keys().map(HandlerName::as_str).collect::<Vec<_>>().join(", ")
    }

    fn places(&self) -> String {
        if self.sources.is_empty() {
            return "the built-in handlers".to_owned();
        }
        self.sources.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_selected_when_none_is_named() {
        let table = HandlerTable::built_in();
        assert_eq!(table.select(None).unwrap().name.as_str(), "crun");
        let fake = HandlerName::new("fake").unwrap();
        assert_eq!(table.select(Some(&fake)).unwrap().kind.as_str(), "fake");
    }

    #[test]
    fn an_unknown_handler_is_refused_with_the_known_ones() {
        let nope = HandlerName::new("nope").unwrap();
        let error = HandlerTable::built_in().select(Some(&nope)).unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(
            error.report(),
            "select handler \"nope\" in the built-in handlers: not found; known handlers are: crun, fake, runc, runsc, youki"
        );
    }

    #[test]
    fn without_a_default_a_name_is_required() {
        let error = HandlerTable::new([]).select(None).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{error:?}");
    }
}
