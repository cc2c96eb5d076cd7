//! The kinds of backends that a program knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use runtime_api::{Error, ErrorKind, HandlerConfig, Result, RuntimeFactory, RuntimeKind};

/// One factory per kind. An unknown kind is an error; there is no fallback.
#[derive(Clone, Debug, Default)]
pub struct Registry(BTreeMap<RuntimeKind, Arc<dyn RuntimeFactory>>);

impl Registry {
    /// A registry that knows no kind.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a factory.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when its kind has one.
    pub fn register(mut self, factory: impl RuntimeFactory) -> Result<Self> {
        let kind = factory.kind();
        if self.0.contains_key(&kind) {
            return Err(Error::new(ErrorKind::AlreadyExists)
                .during_step("register factory")
                .on(format_args!("kind \"{kind}\"")));
        }
        self.0.insert(kind, Arc::new(factory));
        Ok(self)
    }

    /// The known kinds, in the order of their names.
    pub fn kinds(&self) -> impl Iterator<Item = &RuntimeKind> {
        self.0.keys()
    }

    /// The factory that opens this handler.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`], which names the place of the handler and lists the known kinds.
    pub fn factory(&self, config: &HandlerConfig) -> Result<&Arc<dyn RuntimeFactory>> {
        self.0.get(&config.kind).ok_or_else(|| {
            let known: Vec<_> = self.0.keys().map(RuntimeKind::as_str).collect();
            let what = format!("unknown kind \"{}\"; known kinds are: {}", config.kind, known.join(", "));
            Error::new(ErrorKind::ConfigInvalid(what)).during_step("open").on(subject(config))
        })
    }

    /// Checks a handler without touching the host: its kind is known, and the kind's factory accepts its options.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`], which names the place of the handler.
    pub fn check(&self, config: &HandlerConfig) -> Result<()> {
        self.factory(config)?.check(config).map_err(|error| error.during_step("open").on(subject(config)))
    }
}

/// `handler "crun" (/etc/manyrun/handlers.toml:3 [runtimes.crun])`
pub(crate) fn subject(config: &HandlerConfig) -> String {
    format!("handler \"{}\" ({})", config.name, config.origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ToyFactory, toy_config};

    #[test]
    fn an_unknown_kind_lists_the_known_ones() {
        let registry = Registry::new().register(ToyFactory).unwrap();
        let mut config = toy_config("web");
        registry.check(&config).unwrap();
        config.kind = RuntimeKind::new("vmm").unwrap();
        let error = registry.check(&config).unwrap_err();
        assert_eq!(
            error.to_string(),
            "open handler \"web\" (test): unknown kind \"vmm\"; known kinds are: toy"
        );
        assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)));
    }

    #[test]
    fn a_kind_has_one_factory() {
        let registry = Registry::new().register(ToyFactory).unwrap();
        let error = registry.register(ToyFactory).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_factory_reads_its_options_strictly() {
        let registry = Registry::new().register(ToyFactory).unwrap();
        let mut config = toy_config("web");
        config.options.insert("colour".into(), "red".into());
        let error = registry.check(&config).unwrap_err();
        assert!(error.to_string().contains("\"colour\""), "{error}");
    }
}
