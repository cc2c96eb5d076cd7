//! The kind `vm`: containers in virtual machines, behind a containerd shim.
//!
//! The factory lets a configuration name handlers of the kind, checks them, and answers honestly that they cannot be opened:
//! [`Unavailable`](runtime_api::ErrorKind::Unavailable), not a fallback to something else. What is to stand behind it is
//! being built below it: how a shim is [started](shim), how it is [talked to](task), and the [monitor] that carries what its
//! programs read and print.
#![forbid(unsafe_code)]

pub mod monitor;
pub mod shim;
pub mod task;
mod text;

use async_trait::async_trait;
use runtime_api::{
    Error, ErrorKind, HandlerConfig, OpenContext, Result, RuntimeFactory, RuntimeKind, SharedRuntime,
};

const KIND: &str = "vm";

/// Accepts handlers of the kind `vm`, and cannot open them yet.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default)]
pub struct VmFactory;

#[async_trait]
impl RuntimeFactory for VmFactory {
    fn kind(&self) -> RuntimeKind {
        let Ok(kind) = RuntimeKind::new(KIND) else { unreachable!("{KIND} is a valid kind") };
        kind
    }

    /// No option is understood yet, so none is accepted: one that is ignored would be worse than one that is refused.
    fn check(&self, config: &HandlerConfig) -> Result<()> {
        match config.options.keys().next() {
            None => Ok(()),
            Some(key) => {
                let what = format!("unknown option {key:?}; the kind \"{KIND}\" has no options yet");
                Err(refusal(config, ErrorKind::ConfigInvalid(what)))
            }
        }
    }

    async fn open(&self, config: &HandlerConfig, _context: OpenContext) -> Result<SharedRuntime> {
        self.check(config)?;
        let what = "this version has no client for virtual machine shims";
        Err(refusal(config, ErrorKind::Unavailable(what.to_owned())).hint("use a handler of another kind"))
    }
}

fn refusal(config: &HandlerConfig, kind: ErrorKind) -> Error {
    Error::new(kind).during_step("open").on(format_args!("handler \"{}\" ({})", config.name, config.origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::{HandlerName, Origin};

    fn config() -> HandlerConfig {
        let origin = Origin::file("/etc/h.toml", "runtimes.kata", Some(4));
        HandlerConfig::new(HandlerName::new("kata").unwrap(), VmFactory.kind(), origin)
    }

    #[tokio::test]
    async fn opening_says_honestly_that_it_cannot() {
        VmFactory.check(&config()).unwrap();
        let context = OpenContext::new("/nonexistent/state", "/manyrun/kata/0");
        let error = VmFactory.open(&config(), context).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert_eq!(
            error.to_string(),
            "open handler \"kata\" (/etc/h.toml:4 [runtimes.kata]): not available: this version has no client for \
             virtual machine shims"
        );
        assert!(!std::path::Path::new("/nonexistent/state").exists());
    }

    #[test]
    fn options_are_read_strictly() {
        let mut config = config();
        config.options.insert("memory".into(), 512.into());
        let error = VmFactory.check(&config).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
        assert!(error.to_string().contains("unknown option \"memory\""), "{error}");
    }
}
