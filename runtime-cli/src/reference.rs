//! Runtime references (`oci:crun`) as handlers that stand in no file.

use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, HandlerConfig, HandlerName, Origin, Result};
use runtime_test::RuntimeRef;
use runtime_vm::VmFactory;

/// Reads a reference of the command line. One that means no handler is wrong usage.
pub(crate) fn parse(text: &str) -> std::result::Result<RuntimeRef, String> {
    let reference: RuntimeRef = text.parse().map_err(|error: Error| error.kind().to_string())?;
    match handler(&reference) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidArgument(_)) => Err(error.kind().to_string()),
        _ => Ok(reference),
    }
}

/// The handler that a reference means. What the kind does not understand is refused; whether the kind exists is for the
/// registry to say.
pub(crate) fn handler(reference: &RuntimeRef) -> Result<HandlerConfig> {
    if let Some(variant) = reference.variant().filter(|_| reference.kind().as_str() != "vm") {
        return Err(refusal(reference, &format!("the kind has no variants, so @{variant} means nothing")));
    }
    let kind = reference.kind().clone();
    let origin = Origin::other(format!("runtime {reference}"));
    let config = |name: &str| {
        let name = HandlerName::new(name).map_err(|error| refusal(reference, &error.kind().to_string()))?;
        Ok::<_, Error>(HandlerConfig::new(name, kind.clone(), origin.clone()))
    };
    match (kind.as_str(), reference.name()) {
        ("oci", None) => Err(refusal(reference, "name a binary, such as oci:crun or oci:/usr/bin/crun")),
        ("oci", Some(text)) if text.contains('/') => {
            let path = absolute(reference, text)?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let mut config = config(name)?;
            config.paths = vec![path];
            Ok(config)
        }
        ("oci", Some(name)) => config(name),
        ("vm", None) => {
            let what = "this version has no shim of its own for virtual machines";
            Err(Error::new(ErrorKind::Unavailable(what.to_owned()))
                .on(format_args!("runtime \"{reference}\""))
                .hint("name a shim, such as vm:runc or vm:/usr/bin/containerd-shim-kata-v2"))
        }
        ("vm", Some(text)) => {
            let path = if text.contains('/') {
                absolute(reference, text)?
            } else {
                PathBuf::from(VmFactory::shim_called(text))
            };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let mut config = config(&name)?;
            config.paths = vec![path];
            if let Some(runtime) = reference.variant() {
                config.options.insert("BinaryName".to_owned(), runtime.into());
            }
            Ok(config)
        }
        ("fake", Some(profile)) => {
            let mut config = config("fake")?;
            config.options.insert("profile".to_owned(), profile.into());
            Ok(config)
        }
        (kind, None) => config(kind),
        (kind, Some(name)) => config(&format!("{kind}-{name}")),
    }
}

fn absolute(reference: &RuntimeRef, text: &str) -> Result<PathBuf> {
    std::path::absolute(Path::new(text))
        .map_err(|error| refusal(reference, "the path cannot be made absolute").caused_by(error))
}

fn refusal(reference: &RuntimeRef, what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument(what.to_owned())).on(format_args!("runtime \"{reference}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<HandlerConfig> {
        handler(&text.parse()?)
    }

    #[test]
    fn a_name_is_looked_up_and_a_path_is_taken() {
        let name = of("oci:crun").unwrap();
        assert_eq!((name.name.as_str(), name.paths.len()), ("crun", 0));
        let path = of("oci:/usr/bin/crun").unwrap();
        assert_eq!((path.name.as_str(), path.paths), ("crun", vec![PathBuf::from("/usr/bin/crun")]));
        let fake = of("fake:minimal").unwrap();
        assert_eq!((fake.name.as_str(), fake.options["profile"].as_str()), ("fake", Some("minimal")));
        let shim = of("vm:runc@crun").unwrap();
        assert_eq!(shim.paths, [PathBuf::from("containerd-shim-runc-v2")]);
        assert_eq!(shim.options["BinaryName"], "crun");
        assert_eq!(of("vm:runc-rs").unwrap().paths, [PathBuf::from("containerd-shim-runc-v2-rs")]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["oci", "oci:/", "oci:crun@debug", "oci: "] {
            let error = of(text).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{text}: {error:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
