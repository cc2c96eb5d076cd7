//! Opens fake runtimes for handlers of the kind `fake`.

use std::sync::Arc;

use async_trait::async_trait;
use runtime_api::{
    Error, ErrorKind, HandlerConfig, OpenContext, Result, RuntimeFactory, RuntimeKind, SharedRuntime,
};

use super::{FakeRuntime, Profile};

/// Opens fake runtimes. Its handlers have one option, `profile`: `full` (unless given) or `minimal`.
#[derive(Clone, Debug)]
pub struct FakeFactory {
    kind: RuntimeKind,
}

impl FakeFactory {
    /// The factory for the kind `fake`.
    ///
    /// # Errors
    /// None in practice: `fake` is a well-formed kind.
    pub fn new() -> Result<Self> {
        Ok(Self { kind: RuntimeKind::new("fake")? })
    }
}

#[async_trait]
impl RuntimeFactory for FakeFactory {
    fn kind(&self) -> RuntimeKind {
        self.kind.clone()
    }

    fn check(&self, config: &HandlerConfig) -> Result<()> {
        profile(config).map(drop)
    }

    async fn open(&self, config: &HandlerConfig, context: OpenContext) -> Result<SharedRuntime> {
        let runtime = FakeRuntime::open_as(config.name.clone(), &context.state_dir, profile(config)?).await?;
        Ok(Arc::new(runtime))
    }
}

fn profile(config: &HandlerConfig) -> Result<Profile> {
    let invalid = |why: String| {
        Error::new(ErrorKind::ConfigInvalid(why))
            .during_step("check handler")
            .on(format_args!("handler \"{}\" ({})", config.name, config.origin))
    };
    let unused = [
        ("path", !config.paths.is_empty() || !config.platform_paths.is_empty()),
        ("root", config.root.is_some()),
        ("args", !config.args.is_empty()),
        ("config_path", config.config_path.is_some()),
    ];
    if let Some((key, _)) = unused.iter().find(|(_, given)| *given) {
        return Err(invalid(format!("key \"{key}\" means nothing to the fake runtime: it has no binary")));
    }
    if let Some(key) = config.options.keys().find(|key| *key != "profile") {
        return Err(
            invalid(format!("unknown option \"{key}\"")).hint("the fake runtime has the option \"profile\"")
        );
    }
    let known = Profile::NAMES.join(", ");
    let named = match config.options.get("profile") {
        None => Profile::named("full")?,
        Some(value) => match value.as_str() {
            Some(name) => Profile::named(name)?,
            None => return Err(invalid(format!("option \"profile\" must be text: one of {known}"))),
        },
    };
    let profile = named.ok_or_else(|| invalid(format!("option \"profile\" is none of {known}")))?;
    Ok(config.disabled.iter().fold(profile, |profile, (capability, by)| profile.disabled(*capability, by)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::{Capability, HandlerName, Origin};

    fn handler(options: &str) -> HandlerConfig {
        let kind = RuntimeKind::new("fake").unwrap();
        let name = HandlerName::new("pretend").unwrap();
        let mut config = HandlerConfig::new(name, kind, Origin::file("h.toml", "handlers.pretend", Some(3)));
        config.options = serde_json::from_str(options).unwrap();
        config
    }

    #[test]
    fn options_are_read_strictly() {
        let factory = FakeFactory::new().unwrap();
        for good in ["{}", r#"{"profile":"full"}"#, r#"{"profile":"minimal"}"#] {
            factory.check(&handler(good)).unwrap();
        }
        for (bad, why) in [
            (r#"{"profil":"full"}"#, "unknown option \"profil\""),
            (r#"{"profile":"large"}"#, "none of full, minimal"),
            (r#"{"profile":1}"#, "must be text"),
        ] {
            let error = factory.check(&handler(bad)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)));
            let text = error.to_string();
            assert!(text.contains(why) && text.contains("pretend") && text.contains("h.toml:3"), "{text}");
        }
        let mut binary = handler("{}");
        binary.paths.push("/usr/bin/crun".into());
        assert!(factory.check(&binary).unwrap_err().to_string().contains("\"path\""));
    }

    #[tokio::test(start_paused = true)]
    async fn what_configuration_takes_away_is_gone_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = handler("{}");
        config.disabled.push((Capability::Pause, "h.toml:9".to_owned()));
        let context = OpenContext::new(dir.path().join("deep/state"), "/x");
        let runtime = FakeFactory::new().unwrap().open(&config, context).await.unwrap();
        assert_eq!(runtime.info().handler, config.name);
        assert_eq!(runtime.capabilities().why_not(Capability::Pause), Some("switched off by h.toml:9"));
        assert!(runtime.capabilities().has(Capability::Attach));
    }
}
