//! Where a shim listens.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The most bytes of a socket's name that the kernel takes, without the one that ends a path or begins an abstract name.
const LONGEST: usize = 107;

/// The address of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A path.
    Path(PathBuf),
    /// A name in the abstract namespace, which is of the network namespace and no file.
    Abstract(String),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of a shim: {why}")]
pub struct NoAddress {
    text: String,
    why: &'static str,
}

impl Address {
    /// Reads what shims print and write to the file `address`: `unix://` and a path, or the name of an abstract socket.
    ///
    /// # Errors
    /// [`NoAddress`] for what can be neither.
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        let text = text.trim();
        let refuse = |why| Err(NoAddress { text: text.chars().take(200).collect(), why });
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.chars().any(char::is_control) {
            return refuse("it has control characters in it");
        }
        let named = text.strip_prefix("unix://");
        if named.is_none() && text.contains("://") {
            return refuse("only unix sockets are spoken to");
        }
        let name = named.unwrap_or(text);
        // Both Go and Rust take an at sign at the beginning for an abstract name.
        let hidden = name.strip_prefix('@').or_else(|| named.is_none().then_some(name));
        if hidden.unwrap_or(name).len() > LONGEST {
            return refuse("it is longer than the kernel takes");
        }
        match hidden {
            Some("") => refuse("its name is empty"),
            Some(name) if name.contains(char::is_whitespace) => refuse("it has spaces in it"),
            Some(name) => Ok(Self::Abstract(name.to_owned())),
            None if Path::new(name).is_absolute() => Ok(Self::Path(name.into())),
            None => refuse("its path is not absolute"),
        }
    }

    /// Where containerd's libraries, in Go and in Rust, put the socket of a shim that is told no address of a daemon. A shim
    /// that is killed in its start has bound it, and nobody was told.
    #[must_use]
    pub fn usual(namespace: &str, id: &str) -> Self {
        use sha2::{Digest as _, Sha256};
        let digest = Sha256::digest(format!("{namespace}/{id}"));
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::Path(PathBuf::from("/run/containerd/s").join(name))
    }

    /// Its file, where it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Abstract(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "unix://{}", path.display()),
            Self::Abstract(name) => write!(f, "unix://@{name}"),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = NoAddress;

    fn try_from(text: String) -> Result<Self, NoAddress> {
        Self::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shims_print_is_read() {
        let path = Address::Path("/run/containerd/s/0a".into());
        assert_eq!(Address::parse(" unix:///run/containerd/s/0a\n").unwrap(), path);
        let hidden = Address::Abstract("/containerd-shim/0a.sock".into());
        assert_eq!(Address::parse("/containerd-shim/0a.sock").unwrap(), hidden);
        assert_eq!(Address::parse("unix://@/containerd-shim/0a.sock").unwrap(), hidden);
        assert_eq!(Address::parse("unix:///a b").unwrap(), Address::Path("/a b".into()));
    }

    #[test]
    fn what_is_printed_of_an_address_is_read_again() {
        for text in ["unix:///run/x", "name", "@name"] {
            let address = Address::parse(text).unwrap();
            assert_eq!(Address::parse(&address.to_string()).unwrap(), address);
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }
    }

    #[test]
    fn what_can_be_no_address_is_refused_and_quoted() {
        let long = format!("unix:///{}", "x".repeat(LONGEST));
        for text in [
            "",
            " \n",
            "unix://",
            "unix://relative",
            "unix://@",
            "@",
            "vsock://3:1024",
            "tcp://127.0.0.1:1",
            "two words",
            "one\nline more",
            "unix:///a\0b",
            &long,
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains("is no address"), "{text:?}: {error}");
        }
        Address::parse(&long[..long.len() - 1]).unwrap();
    }
}
