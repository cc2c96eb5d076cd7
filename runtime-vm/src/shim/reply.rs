//! What a shim says when it is started: where it listens, and what it speaks there.
//!
//! There are three kinds of reply. Shims of containerd 1.6 and before print the bare address. Later ones print JSON, and the
//! latest answer with a protobuf message where they were asked with one.

use containerd_shim_protos::bootstrap_api::BootstrapResult;
use protobuf::Message as _;
use serde::Deserialize;

use runtime_api::{Error, ErrorKind};

use super::address::{Address, NoAddress};
use crate::task::TaskApi;

/// Where a shim listens, and what it says that it serves there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartReply {
    /// Where it listens.
    pub address: Address,
    /// The version of the Task service that it announces. A call confirms it: see
    /// [`TaskClient::open`](crate::task::TaskClient::open).
    pub api: TaskApi,
}

/// Why a reply cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// It says nothing.
    #[error("the shim said nothing")]
    Empty,
    /// It speaks something else.
    #[error("the shim speaks {0}; only ttrpc is spoken here")]
    Protocol(String),
    /// It is of another generation.
    #[error("the shim announces version {0}; known are 2 and 3")]
    Version(i64),
    /// It makes no sense.
    #[error("the shim's reply makes no sense: {0}")]
    Nonsense(String),
    /// It names no address.
    #[error("the shim's reply makes no sense: {0}")]
    Address(#[from] NoAddress),
}

impl BadReply {
    /// The error of a start that got this reply.
    #[must_use]
    pub fn into_error(self) -> Error {
        let kind = match &self {
            Self::Protocol(_) | Self::Version(_) => ErrorKind::Unavailable(self.to_string()),
            _ => ErrorKind::Internal(self.to_string()),
        };
        Error::new(kind).caused_by(self)
    }
}

#[derive(Deserialize)]
struct Json {
    version: i64,
    address: String,
    #[serde(default)]
    protocol: String,
}

impl StartReply {
    /// Reads what a shim printed.
    ///
    /// # Errors
    /// [`BadReply`].
    pub fn parse(printed: &[u8]) -> Result<Self, BadReply> {
        // Text never has the bytes with which the fields of a message begin.
        let text = std::str::from_utf8(printed)
            .ok()
            .map(str::trim)
            .filter(|text| text.chars().all(|letter| !letter.is_control() || letter.is_whitespace()));
        match text {
            Some("") => Err(BadReply::Empty),
            Some(text) if text.starts_with('{') => Self::from_json(text),
            Some(text) => Ok(Self { address: Address::parse(text)?, api: TaskApi::V2 }),
            None => Self::from_message(printed),
        }
    }

    fn from_json(text: &str) -> Result<Self, BadReply> {
        let json: Json = serde_json::from_str(text)
            .map_err(|error| BadReply::Nonsense(format!("{error}, in {}", shown(text))))?;
        Self::new(json.version, &json.address, &json.protocol)
    }

    fn from_message(bytes: &[u8]) -> Result<Self, BadReply> {
        let message = BootstrapResult::parse_from_bytes(bytes).map_err(|error| {
            BadReply::Nonsense(format!("{error}, in {}", shown(&String::from_utf8_lossy(bytes))))
        })?;
        Self::new(message.version.into(), &message.address, &message.protocol)
    }

    fn new(version: i64, address: &str, protocol: &str) -> Result<Self, BadReply> {
        let api = match version {
            2 => TaskApi::V2,
            3 => TaskApi::V3,
            other => return Err(BadReply::Version(other)),
        };
        // The first shims that answered with JSON knew one protocol only.
        if !matches!(protocol, "" | "ttrpc") {
            return Err(BadReply::Protocol(protocol.chars().take(50).collect()));
        }
        Ok(Self { address: Address::parse(address)?, api })
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(200).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "unix:///run/containerd/s/0a";

    fn expected(api: TaskApi) -> StartReply {
        StartReply { address: Address::parse(ADDRESS).unwrap(), api }
    }

    fn message(version: i32, protocol: &str) -> Vec<u8> {
        let mut message = BootstrapResult::new();
        message.version = version;
        message.address = ADDRESS.to_owned();
        message.protocol = protocol.to_owned();
        message.write_to_bytes().unwrap()
    }

    #[test]
    fn the_three_kinds_of_reply_are_read() {
        let bare = format!("{ADDRESS}\n");
        assert_eq!(StartReply::parse(bare.as_bytes()), Ok(expected(TaskApi::V2)));
        for (version, api) in [(2, TaskApi::V2), (3, TaskApi::V3)] {
            let json =
                format!("\n {{\"version\":{version},\"address\":\"{ADDRESS}\",\"protocol\":\"ttrpc\"}} \n");
            assert_eq!(StartReply::parse(json.as_bytes()), Ok(expected(api)));
            assert_eq!(StartReply::parse(&message(version, "ttrpc")), Ok(expected(api)));
        }
        let json = format!("{{\"version\":2,\"address\":\"{ADDRESS}\",\"later\":[1]}}");
        assert_eq!(StartReply::parse(json.as_bytes()), Ok(expected(TaskApi::V2)));
        let hidden = StartReply::parse(b"/containerd-shim/0a.sock").unwrap();
        assert_eq!(hidden.address, Address::Abstract("/containerd-shim/0a.sock".into()));
    }

    #[test]
    fn other_generations_and_protocols_are_refused_by_name() {
        let json = |version: &str, protocol: &str| {
            let json =
                format!("{{\"version\":{version},\"address\":\"{ADDRESS}\",\"protocol\":\"{protocol}\"}}");
            StartReply::parse(json.as_bytes()).unwrap_err()
        };
        assert_eq!(json("4", "ttrpc"), BadReply::Version(4));
        assert_eq!(json("1", "ttrpc"), BadReply::Version(1));
        assert_eq!(json("-9000000000", "ttrpc"), BadReply::Version(-9_000_000_000));
        assert_eq!(json("3", "grpc"), BadReply::Protocol("grpc".into()));
        assert_eq!(StartReply::parse(&message(4, "ttrpc")), Err(BadReply::Version(4)));
        assert_eq!(StartReply::parse(&message(0, "ttrpc")), Err(BadReply::Version(0)));
        assert_eq!(StartReply::parse(&message(2, "grpc")), Err(BadReply::Protocol("grpc".into())));
        let error = json("3", "grpc").into_error();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(what) if what.contains("grpc")), "{error:?}");
    }

    #[test]
    fn nonsense_is_refused_and_quoted() {
        for text in [
            "{",
            "{}",
            "{\"version\":2}",
            "[2]x y",
            "panic: it\ngoroutine 1",
            "two words",
            "\u{1}\u{2}",
            "{\"version\":\"2\",\"address\":\"a\"}",
        ] {
            let bad = StartReply::parse(text.as_bytes()).unwrap_err();
            let error = bad.into_error();
            assert!(matches!(error.kind(), ErrorKind::Internal(_)), "{text:?}: {error:?}");
        }
        assert_eq!(StartReply::parse(b""), Err(BadReply::Empty));
        assert_eq!(StartReply::parse(b" \n\t"), Err(BadReply::Empty));
        let error = StartReply::parse(b"{\"version\":2,").unwrap_err().to_string();
        assert!(error.contains("version"), "{error}");
    }

    /// Replies with bytes changed, cut and doubled, from a generator with a fixed beginning.
    #[test]
    fn no_reply_is_a_panic() {
        let json = format!("{{\"version\":3,\"address\":\"{ADDRESS}\",\"protocol\":\"ttrpc\"}}").into_bytes();
        let seeds = [json, message(3, "ttrpc"), ADDRESS.as_bytes().to_vec()];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % u64::try_from(limit.max(1)).unwrap()).unwrap()
        };
        let mut read = 0;
        for round in 0..20_000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..=below(4) {
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, u8::try_from(below(256)).unwrap()),
                    2 => bytes.extend_from_within(at..),
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = u8::try_from(below(256)).unwrap();
                        }
                    }
                }
            }
            match StartReply::parse(&bytes) {
                Ok(reply) => {
                    read += 1;
                    assert_eq!(Address::parse(&reply.address.to_string()), Ok(reply.address));
                }
                Err(bad) => assert!(bad.to_string().len() < 2_000, "{bad}"),
            }
        }
        assert!(read > 100, "only {read} of the replies could be read: the changes are too coarse");
    }
}
