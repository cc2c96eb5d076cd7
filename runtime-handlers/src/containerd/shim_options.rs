//! The options of a shim as containerd sends them: a message that holds them as one TOML document.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value as Json, json};

use crate::convert;
use crate::document::{self, Value};

/// The type of the options of all shims but runc's.
const RUNTIME_OPTIONS: &str = "runtimeoptions.v1.Options";
/// The fields of that message.
const TYPE: u8 = 1;
const BODY: u8 = 3;

/// What `options.any` of a handler must be, so that its shim gets this.
pub(super) fn encode(kind: Option<&str>, options: &Map<String, Json>) -> Json {
    let mut bytes = Vec::new();
    if let Some(kind) = kind {
        field(TYPE, kind, &mut bytes);
    }
    field(BODY, &convert::toml(options), &mut bytes);
    json!({"type_url": RUNTIME_OPTIONS, "base64": BASE64_STANDARD.encode(&bytes)})
}

/// The options in what [`encode`] made; `None` for what it did not make.
pub(crate) fn decode(any: &Json) -> Option<Map<String, Json>> {
    if any.get("type_url")?.as_str()? != RUNTIME_OPTIONS {
        return None;
    }
    let bytes = BASE64_STANDARD.decode(any.get("base64")?.as_str()?).ok()?;
    let mut rest = bytes.as_slice();
    let (mut kind, mut body) = (None, None);
    while !rest.is_empty() {
        match take_field(&mut rest)? {
            (TYPE, text) => kind = Some(text),
            (BODY, text) => body = Some(text),
            _ => return None,
        }
    }
    let section = document::parse(Path::new("options"), body?).ok()?;
    let Some(Json::Object(options)) = Value::Table(section).to_json() else { return None };
    // What the table does not say again would be lost.
    let said = options.get("TypeUrl").and_then(Json::as_str).filter(|text| !text.is_empty());
    (said == kind && encode(kind, &options) == *any).then_some(options)
}

/// A text as one field of a protobuf message.
fn field(number: u8, text: &str, into: &mut Vec<u8>) {
    into.push(number << 3 | 2);
    let mut length = text.len();
    while length >= 0x80 {
        into.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    into.push(length as u8);
    into.extend_from_slice(text.as_bytes());
}

fn take_field<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a str)> {
    let (tag, mut left) = rest.split_first()?;
    if tag & 7 != 2 {
        return None;
    }
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let (byte, after) = left.split_first()?;
        left = after;
        length |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let text = left.get(..length)?;
    *rest = &left[length..];
    Some((tag >> 3, std::str::from_utf8(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        let long = "x".repeat(300);
        for (kind, options) in [
            (None, json!({"a": 1, "b": {"c": [true, "d"]}})),
            (Some("io.example.v1.Options"), json!({"TypeUrl": "io.example.v1.Options", "long": long})),
        ] {
            let options = options.as_object().unwrap();
            assert_eq!(decode(&encode(kind, options)).as_ref(), Some(options));
        }
    }

    #[test]
    fn what_others_made_is_not_guessed() {
        let good = encode(None, json!({"a": 1}).as_object().unwrap());
        let with =
            |bytes: &[u8]| json!({"type_url": RUNTIME_OPTIONS, "base64": BASE64_STANDARD.encode(bytes)});
        for bad in [
            json!(1),
            json!({"type_url": "containerd.runc.v1.Options", "base64": good["base64"]}),
            json!({"type_url": RUNTIME_OPTIONS, "base64": "?"}),
            with(b"\x12\x01/\x1a\x00"),
            with(b"\x1a\x05a"),
            with(b"\x1a\xff\xff\xff\xff\xff\xff\x01"),
            with(b"\x08\x01"),
            with(b"\x1a\x02[["),
            with(b"\x0a\x01k\x1a\x06a = 1\n"),
            with(b""),
        ] {
            assert_eq!(decode(&bad), None, "{bad}");
        }
    }
}
