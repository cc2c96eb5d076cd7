//! Payloads of any type: bytes with the name of what they are.
//!
//! What shims take as options differs. Those made on containerd's runc shim want `containerd.runc.v1.Options`; kata, gVisor
//! and most others want `runtimeoptions.v1.Options`, with the path of a configuration file. What belongs to OCI documents is
//! JSON.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use containerd_shim_protos::shim::oci;
use protobuf::well_known_types::any::Any;
use protobuf::{CodedInputStream, CodedOutputStream, Message as _};
use serde::{Deserialize, Serialize};

use runtime_api::{Error, ErrorKind, Result};

use super::request::text_of;

const PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
const LINUX_RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
const RUNC_CHECKPOINT_OPTIONS: &str = "containerd.runc.v1.CheckpointOptions";
const RUNTIME_OPTIONS: &str = "runtimeoptions.v1.Options";

/// Bytes, and the name of what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The name of the type, with or without something before its last slash.
    pub type_url: String,
    /// The bytes.
    pub value: Vec<u8>,
}

impl Payload {
    /// Bytes of a type.
    pub fn new(type_url: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { type_url: type_url.into(), value: value.into() }
    }

    /// The name of the type, without what stands before its last slash.
    #[must_use]
    pub fn type_name(&self) -> &str {
        self.type_url.rsplit('/').next().unwrap_or_default()
    }
}

impl From<Any> for Payload {
    fn from(any: Any) -> Self {
        Self { type_url: any.type_url, value: any.value }
    }
}

impl From<Payload> for Any {
    fn from(payload: Payload) -> Self {
        let mut any = Self::new();
        any.type_url = payload.type_url;
        any.value = payload.value;
        any
    }
}

/// The program of an exec: an OCI process document.
///
/// # Errors
/// `Internal` when it cannot be written as JSON.
pub fn process(document: &impl Serialize) -> Result<Payload> {
    json(PROCESS, document)
}

/// The limits of an update: the OCI document of Linux resources.
///
/// # Errors
/// `Internal` when they cannot be written as JSON.
pub fn linux_resources(document: &impl Serialize) -> Result<Payload> {
    json(LINUX_RESOURCES, document)
}

fn json(type_url: &str, document: &impl Serialize) -> Result<Payload> {
    let value = serde_json::to_vec(document).map_err(|error| {
        let what = format!("a document of the type {type_url} cannot be written");
        Error::new(ErrorKind::Internal(what)).caused_by(error)
    })?;
    Ok(Payload::new(type_url, value))
}

/// Options of containerd's runc shim, and of those made on it. What is not set is the shim's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuncOptions {
    /// The runtime's binary: a name on `PATH`, or a path.
    pub binary_name: String,
    /// Where the runtime keeps its state. Shims add their namespace to it.
    pub root: String,
    /// Whether cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// Whether the root is changed without `pivot_root`.
    pub no_pivot_root: bool,
    /// Whether containers share the session keyring of the shim.
    pub no_new_keyring: bool,
    /// The cgroup that the shim is moved to.
    pub shim_cgroup: String,
    /// The owner of the pipes that are the program's streams.
    pub io_uid: u32,
    /// The group of the pipes that are the program's streams.
    pub io_gid: u32,
    /// Where images of checkpoints are.
    pub criu_image_path: String,
    /// Where criu works.
    pub criu_work_path: String,
}

impl RuncOptions {
    /// As a shim takes it.
    #[must_use]
    pub fn payload(&self) -> Payload {
        let mut message = oci::Options::new();
        message.no_pivot_root = self.no_pivot_root;
        message.no_new_keyring = self.no_new_keyring;
        message.shim_cgroup.clone_from(&self.shim_cgroup);
        message.io_uid = self.io_uid;
        message.io_gid = self.io_gid;
        message.binary_name.clone_from(&self.binary_name);
        message.root.clone_from(&self.root);
        message.systemd_cgroup = self.systemd_cgroup;
        message.criu_image_path.clone_from(&self.criu_image_path);
        message.criu_work_path.clone_from(&self.criu_work_path);
        Payload::new(RUNC_OPTIONS, message.write_to_bytes().unwrap_or_default())
    }
}

/// How a runc shim makes a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuncCheckpoint {
    /// Whether the container ends with it.
    pub exit: bool,
    /// Whether open TCP connections are saved.
    pub open_tcp: bool,
    /// Whether Unix sockets that lead outside may be open.
    pub external_unix_sockets: bool,
    /// Whether terminals may be open.
    pub terminal: bool,
    /// Whether file locks may be held.
    pub file_locks: bool,
    /// The directory of the image, where it is not the one of the call.
    pub image: Option<PathBuf>,
    /// The directory in which criu writes its log.
    pub work: Option<PathBuf>,
}

impl RuncCheckpoint {
    /// As a shim takes it.
    #[must_use]
    pub fn payload(&self) -> Payload {
        let mut message = oci::CheckpointOptions::new();
        message.exit = self.exit;
        message.open_tcp = self.open_tcp;
        message.external_unix_sockets = self.external_unix_sockets;
        message.terminal = self.terminal;
        message.file_locks = self.file_locks;
        message.image_path = self.image.as_deref().map(text_of).unwrap_or_default();
        message.work_path = self.work.as_deref().map(text_of).unwrap_or_default();
        Payload::new(RUNC_CHECKPOINT_OPTIONS, message.write_to_bytes().unwrap_or_default())
    }
}

/// Options that most other shims take, kata's and gVisor's among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeOptions {
    /// What the configuration is, such as `io.containerd.runsc.v1.options`; empty for kata.
    pub type_url: String,
    /// The configuration file.
    pub config_path: String,
    /// The configuration itself, in place of a file.
    pub config_body: String,
}

impl RuntimeOptions {
    /// As a shim takes it.
    #[must_use]
    pub fn payload(&self) -> Payload {
        let mut value = Vec::new();
        let mut out = CodedOutputStream::vec(&mut value);
        let fields = [&self.type_url, &self.config_path, &self.config_body];
        // The body is of the type `bytes`, which looks the same.
        let written = (1..)
            .zip(fields)
            .filter(|(_, text)| !text.is_empty())
            .try_for_each(|(number, text)| out.write_string(number, text));
        let written = written.and_then(|()| out.flush());
        drop(out);
        debug_assert!(written.is_ok(), "a vector takes everything");
        Payload::new(RUNTIME_OPTIONS, value)
    }

    /// Reads what a shim was given; unknown fields are passed over.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(value: &[u8]) -> std::result::Result<Self, String> {
        let mut read = Self::default();
        let mut input = CodedInputStream::from_bytes(value);
        let mut take = || -> protobuf::Result<()> {
            while let Some(tag) = input.read_raw_tag_or_eof()? {
                match tag {
                    0x0a => read.type_url = input.read_string()?,
                    0x12 => read.config_path = input.read_string()?,
                    0x1a => read.config_body = String::from_utf8_lossy(&input.read_bytes()?).into_owned(),
                    _ => skip(tag, &mut input)?,
                }
            }
            Ok(())
        };
        take().map_err(|error| error.to_string())?;
        Ok(read)
    }
}

fn skip(tag: u32, input: &mut CodedInputStream<'_>) -> protobuf::Result<()> {
    protobuf::rt::skip_field_for_tag(tag, input)
}

/// Options of a shim that nobody here has met: a type, and its bytes as base64 or as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeOptions {
    /// The name of the type.
    pub type_url: String,
    /// The bytes as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// The bytes as text, such as JSON or TOML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl FreeOptions {
    /// As a shim takes it.
    ///
    /// # Errors
    /// `ConfigInvalid` without a type, with both texts or with neither, and with what is not base64.
    pub fn payload(&self) -> Result<Payload> {
        let invalid = |what: String| Error::new(ErrorKind::ConfigInvalid(what));
        if self.type_url.is_empty() {
            return Err(invalid("free options need a type_url".to_owned()));
        }
        let value = match (&self.base64, &self.text) {
            (Some(base64), None) => BASE64_STANDARD.decode(base64.trim()).map_err(|error| {
                invalid(format!("the options of the type {:?} are not base64", self.type_url))
                    .caused_by(error)
            })?,
            (None, Some(text)) => text.clone().into_bytes(),
            _ => {
                let what =
                    format!("the options of the type {:?} need base64 or text, one of them", self.type_url);
                return Err(invalid(what));
            }
        };
        Ok(Payload::new(self.type_url.clone(), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runtime_options_are_the_bytes_that_others_write() {
        let options = RuntimeOptions {
            type_url: "t".into(),
            config_path: "/etc/kata.toml".into(),
            config_body: String::new(),
        };
        let payload = options.payload();
        assert_eq!(payload.type_url, "runtimeoptions.v1.Options");
        assert_eq!(payload.value, b"\x0a\x01t\x12\x0e/etc/kata.toml");
        assert_eq!(RuntimeOptions::parse(&payload.value).unwrap(), options);
        let body = RuntimeOptions { config_body: "a = 1".into(), ..RuntimeOptions::default() };
        assert_eq!(body.payload().value, b"\x1a\x05a = 1");
        assert!(RuntimeOptions::default().payload().value.is_empty());
        // A field that a later version may add.
        let mut longer = body.payload().value;
        longer.extend_from_slice(&[0x20, 0x07]);
        assert_eq!(RuntimeOptions::parse(&longer).unwrap(), body);
        RuntimeOptions::parse(b"\x0a\x7f").unwrap_err();
    }

    #[test]
    fn runc_options_are_read_strictly_and_written_whole() {
        let options: RuncOptions =
            serde_json::from_value(json!({"binary_name": "crun", "root": "/r", "systemd_cgroup": true}))
                .unwrap();
        let payload = options.payload();
        assert_eq!(payload.type_name(), "containerd.runc.v1.Options");
        let read = oci::Options::parse_from_bytes(&payload.value).unwrap();
        assert_eq!((read.binary_name.as_str(), read.root.as_str()), ("crun", "/r"));
        assert!(read.systemd_cgroup && !read.no_pivot_root);
        serde_json::from_value::<RuncOptions>(json!({"binaryname": "crun"})).unwrap_err();
    }

    #[test]
    fn checkpoint_options_are_written() {
        let options = RuncCheckpoint { exit: true, work: Some("/w".into()), ..RuncCheckpoint::default() };
        let payload = options.payload();
        let read = oci::CheckpointOptions::parse_from_bytes(&payload.value).unwrap();
        assert!(read.exit && !read.open_tcp && read.work_path == "/w");
    }

    #[test]
    fn documents_have_the_names_that_containerd_gives_them() {
        let payload = process(&json!({"args": ["/x"]})).unwrap();
        assert_eq!(payload.type_url, "types.containerd.io/opencontainers/runtime-spec/1/Process");
        assert_eq!(payload.value, b"{\"args\":[\"/x\"]}");
        assert_eq!(linux_resources(&json!({})).unwrap().type_name(), "LinuxResources");
    }

    #[test]
    fn free_options_are_one_of_two() {
        let free = |base64: Option<&str>, text: Option<&str>| FreeOptions {
            type_url: "a.b/C".into(),
            base64: base64.map(str::to_owned),
            text: text.map(str::to_owned),
        };
        assert_eq!(free(Some("AAE=\n"), None).payload().unwrap(), Payload::new("a.b/C", [0, 1]));
        assert_eq!(free(None, Some("{}")).payload().unwrap().value, b"{}");
        for wrong in
            [free(None, None), free(Some("AAE="), Some("")), free(Some("?"), None), FreeOptions::default()]
        {
            let error = wrong.payload().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
        }
    }
}
