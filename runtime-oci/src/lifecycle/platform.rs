//! Which binary runs a container whose image is for another platform.
//!
//! A handler may name binaries for platforms. What image a bundle was made from stands in its annotations: those of the OCI
//! image specification name the platform, those of CRI-O the binary. A bundle can only choose among the handler's binaries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};

use crate::backend::Backend;
use crate::config::find_binary;
use crate::evidence;

/// Where CRI-O writes the binary that it chose, in its newer and in its older spelling.
const BINARIES: [&str; 2] = ["platform-runtime-path.crio.io", "io.kubernetes.cri-o.PlatformRuntimePath"];
/// Where a tool that makes a bundle from an image writes what that is for.
const OS: &str = "org.opencontainers.image.os";
const ARCHITECTURE: &str = "org.opencontainers.image.architecture";
const VARIANT: &str = "org.opencontainers.image.variant";

impl Backend {
    /// The binary for a bundle with these annotations; nothing where it is the handler's own.
    pub(super) async fn platform_binary(
        &self,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Option<PathBuf>> {
        let Some(path) = chosen(&self.config.platform_paths, annotations)? else { return Ok(None) };
        let hint = || format!("install it, or correct platform_paths of handler \"{}\"", self.config.handler);
        let unavailable = |why: String| Error::new(ErrorKind::Unavailable(why)).hint(hint());
        let binary = find_binary(&[path.to_owned()]).map_err(unavailable)?;
        // All that is known of the handler was asked of its own binary.
        let name = evidence::name_of(&binary, &self.config).await?;
        if name.as_deref() == Some(self.info.name.as_str()) {
            return Ok(Some(binary));
        }
        let (name, own) = (name.unwrap_or_else(|| "nothing".to_owned()), &self.info.name);
        Err(unavailable(format!(
            "{} calls itself {name}, and the handler's own binary {own}",
            binary.display()
        )))
    }
}

fn chosen<'a>(
    paths: &'a BTreeMap<String, PathBuf>,
    annotations: &BTreeMap<String, String>,
) -> Result<Option<&'a Path>> {
    if paths.is_empty() {
        return Ok(None);
    }
    let text = |key: &str| annotations.get(key).map(String::as_str).filter(|text| !text.is_empty());
    for key in BINARIES {
        let Some(wanted) = text(key) else { continue };
        let known = paths.values().find(|path| *path == Path::new(wanted)).map(PathBuf::as_path);
        return known.map(Some).ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid(format!("annotation {key} names {wanted}")))
                .hint("the handler's platform_paths must name that binary, too")
        });
    }
    let Some(architecture) = text(ARCHITECTURE) else { return Ok(None) };
    let platform = format!("{}/{architecture}", text(OS).unwrap_or("linux"));
    let exact = text(VARIANT).and_then(|variant| paths.get(&format!("{platform}/{variant}")));
    Ok(exact.or_else(|| paths.get(&platform)).map(PathBuf::as_path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_bundle_chooses_among_the_handlers_binaries() {
        let paths = map(&[("linux/arm64", "/arm"), ("linux/arm/v7", "/v7"), ("wasip1/wasm", "/wasm")]);
        let paths: BTreeMap<_, _> = paths.into_iter().map(|(key, path)| (key, PathBuf::from(path))).collect();
        let binary = |pairs: &[(&str, &str)]| chosen(&paths, &map(pairs)).unwrap().map(Path::to_owned);
        assert_eq!(binary(&[]), None);
        assert_eq!(binary(&[(ARCHITECTURE, "amd64"), (OS, "linux")]), None);
        assert_eq!(binary(&[(ARCHITECTURE, "arm64")]), Some("/arm".into()));
        assert_eq!(binary(&[(ARCHITECTURE, "arm64"), (VARIANT, "v8")]), Some("/arm".into()));
        assert_eq!(binary(&[(ARCHITECTURE, "arm"), (VARIANT, "v7")]), Some("/v7".into()));
        assert_eq!(binary(&[(ARCHITECTURE, "wasm"), (OS, "wasip1")]), Some("/wasm".into()));
        for key in BINARIES {
            assert_eq!(binary(&[(key, "/v7"), (ARCHITECTURE, "arm64")]), Some("/v7".into()));
            let error = chosen(&paths, &map(&[(key, "/tmp/evil")])).unwrap_err().to_string();
            assert!(error.contains("/tmp/evil"), "{error}");
            assert_eq!(chosen(&BTreeMap::new(), &map(&[(key, "/tmp/evil")])).unwrap(), None);
        }
    }
}
