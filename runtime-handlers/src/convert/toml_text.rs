//! Plain TOML 1.0: what every reader understands.

use serde_json::Value;

/// `key = value`, with the end of the line.
pub(super) fn line(key: &str, value: &Value) -> String {
    format!("{key} = {}\n", text(value))
}

/// A key, in quotes where TOML needs them.
pub(super) fn key(name: &str) -> String {
    crate::document::inner_name("", name)
}

/// A value on one line. TOML has no null; it is written as an empty string.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(string) => quoted(string),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let pairs: Vec<_> =
                map.iter().map(|(name, value)| format!("{} = {}", key(name), text(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

/// The strings of JSON are those of TOML, but for one control character that JSON lets stand.
pub(crate) fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({"a": "x\"\\\n\u{7f}\u{1}é", "b c": [1, -2, 1.5, true], "d": {"e": {}}});
        let read = crate::document::parse(std::path::Path::new("x"), &line("k", &value)).unwrap();
        assert_eq!(read["k"].value.to_json().unwrap(), value);
    }
}
