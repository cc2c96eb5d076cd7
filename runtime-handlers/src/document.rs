//! A TOML document in which every value remembers where it was written, so that merged tables still have good errors.

mod broken;
pub(crate) mod schema;
pub(crate) mod view;
pub(crate) mod yaml;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use runtime_api::{Error, ErrorKind, Origin, Result};
use serde_json::Number;
use toml::de::{DeTable, DeValue};

use crate::convert::quoted;

/// The line of what stands in no file.
pub(crate) const BUILT_IN: u32 = 0;

/// Longer strings are not shown in messages.
const SHOWN: usize = 40;

/// The file, the table and the line of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Arc<Path>,
    /// The table that the key stands in; empty for the top level.
    pub(crate) table: Arc<str>,
    pub(crate) line: u32,
}

impl Place {
    fn origin(&self, table: &str) -> Origin {
        if self.line == BUILT_IN {
            return Origin::other(self.file.display().to_string());
        }
        Origin::file(&*self.file, table, Some(self.line))
    }

    /// The place with the table that the key stands in.
    pub(crate) fn here(&self) -> Origin {
        self.origin(if self.table.is_empty() { "top level" } else { &self.table })
    }

    /// The place of a table called `key`, as the beginning of that table.
    pub(crate) fn inside(&self, key: &str) -> Origin {
        self.origin(&inner_name(&self.table, key))
    }

    /// `/etc/manyrun/handlers.toml:12`
    pub(crate) fn short(&self) -> String {
        if self.line == BUILT_IN {
            return self.file.display().to_string();
        }
        format!("{}:{}", self.file.display(), self.line)
    }
}

/// A value and the place of its key.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// Keys with their values.
pub(crate) type Section = BTreeMap<String, Located>;

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Time(String),
    Array(Vec<Located>),
    Table(Section),
}

impl Value {
    /// What people call this type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Time(_) => "a date or time",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }

    /// What is there, for who looks for it: a short plain value is shown. Nothing is shown of arrays and tables, in which may
    /// be what is nobody's business.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Text(text) if text.chars().count() <= SHOWN => format!("the string {text:?}"),
            Self::Integer(number) => format!("the integer {number}"),
            Self::Bool(flag) => format!("the boolean {flag}"),
            other => other.type_name().to_owned(),
        }
    }

    /// The same as JSON; dates become strings. `None` for a float that JSON cannot write.
    pub(crate) fn to_json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match self {
            Self::Text(text) | Self::Time(text) => Json::String(text.clone()),
            Self::Integer(number) => Json::Number((*number).into()),
            Self::Float(number) => Json::Number(Number::from_f64(*number)?),
            Self::Bool(flag) => Json::Bool(*flag),
            Self::Array(items) => {
                Json::Array(items.iter().map(|item| item.value.to_json()).collect::<Option<_>>()?)
            }
            Self::Table(section) => Json::Object(
                section
                    .iter()
                    .map(|(key, item)| Some((key.clone(), item.value.to_json()?)))
                    .collect::<Option<_>>()?,
            ),
        })
    }
}

/// Reads one file's text.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Section> {
    let file: Arc<Path> = file.into();
    let lines = Lines::new(text);
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| lines.at(span.start));
        let message = broken::tell(&error, text);
        let at = line.map_or_else(|| file.display().to_string(), |line| format!("{}:{line}", file.display()));
        Error::new(ErrorKind::ConfigInvalid(format!("broken TOML: {message}")))
            .on(at)
            .during_step("read handlers")
    })?;
    let reader = Reader { file, lines };
    reader.section(document.get_ref(), &"".into())
}

/// Reads what a program has built in. `name` takes the place of a file.
pub(crate) fn built_in(name: &str, text: &str) -> Result<Section> {
    fn forget_lines(section: &mut Section) {
        for item in section.values_mut() {
            forget_line(item);
        }
    }
    fn forget_line(item: &mut Located) {
        item.place.line = BUILT_IN;
        match &mut item.value {
            Value::Table(section) => forget_lines(section),
            Value::Array(items) => items.iter_mut().for_each(forget_line),
            _ => {}
        }
    }
    let mut section = parse(Path::new(name), text)?;
    forget_lines(&mut section);
    Ok(section)
}

/// Byte offsets to line numbers.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> u32 {
        let before = self.0.partition_point(|end| *end < offset);
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }
}

struct Reader {
    file: Arc<Path>,
    lines: Lines,
}

impl Reader {
    fn place(&self, offset: usize, table: &Arc<str>) -> Place {
        Place { file: Arc::clone(&self.file), table: Arc::clone(table), line: self.lines.at(offset) }
    }

    fn section(&self, table: &DeTable<'_>, name: &Arc<str>) -> Result<Section> {
        table
            .iter()
            .map(|(key, value)| {
                let place = self.place(key.span().start, name);
                let value = self.value(value.get_ref(), key.get_ref(), &place)?;
                Ok((key.get_ref().to_string(), Located { value, place }))
            })
            .collect()
    }

    fn value(&self, value: &DeValue<'_>, key: &str, place: &Place) -> Result<Value> {
        let broken = |what: &str, text: &str| {
            Error::new(ErrorKind::ConfigInvalid(format!("key {key:?}: the {what} {text} is out of range")))
                .on(place.here())
                .during_step("read handlers")
        };
        Ok(match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                let read = i64::from_str_radix(number.as_str(), number.radix());
                Value::Integer(read.map_err(|_| broken("integer", number.as_str()))?)
            }
            DeValue::Float(number) => {
                let read = number.as_str().parse();
                Value::Float(read.map_err(|_| broken("float", number.as_str()))?)
            }
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(time) => Value::Time(time.to_string()),
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| {
                        let place = self.place(item.span().start, &place.table);
                        Ok(Located { value: self.value(item.get_ref(), key, &place)?, place })
                    })
                    .collect::<Result<_>>()?,
            ),
            DeValue::Table(table) => {
                Value::Table(self.section(table, &inner_name(&place.table, key).into())?)
            }
        })
    }
}

/// The name of a table in a table, with quotes where TOML needs them.
pub(crate) fn inner_name(table: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let key = if bare { key.to_owned() } else { quoted(key) };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// Lays `over` over `base`: tables merge key by key, everything else is replaced. A table begins where the first file has
/// it.
pub(crate) fn merge(base: &mut Section, over: Section) {
    for (key, later) in over {
        if let Some(earlier) = base.get_mut(&key).filter(|earlier| earlier.place.line == BUILT_IN) {
            earlier.place = later.place.clone();
        }
        match (base.get_mut(&key).map(|earlier| &mut earlier.value), later.value) {
            (Some(Value::Table(earlier)), Value::Table(section)) => merge(earlier, section),
            (_, value) => {
                base.insert(key, Located { value, place: later.place });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let section = parse(Path::new("x.toml"), "a = 1\n\n[b]\nc = [\n  'x',\n  'y']\n").unwrap();
        assert_eq!(section["a"].place.line, 1);
        assert_eq!(section["b"].place.short(), "x.toml:3");
        let Value::Table(b) = &section["b"].value else { panic!("b is a table") };
        assert_eq!(b["c"].place.line, 4);
        let Value::Array(items) = &b["c"].value else { panic!("c is an array") };
        assert_eq!(items[1].place.line, 6);
        assert_eq!(items[1].place.here().to_string(), "x.toml:6 [b]");
        assert_eq!(section["a"].place.here().to_string(), "x.toml:1 [top level]");
    }

    #[test]
    fn tables_are_named_as_they_are_written() {
        let section = parse(Path::new("x"), "[plugins.'io.x'.a-b]\nc = 1\n[[d.e]]\nf = 1\n").unwrap();
        let Value::Table(plugins) = &section["plugins"].value else { panic!("a table") };
        let Value::Table(io) = &plugins["io.x"].value else { panic!("a table") };
        let Value::Table(ab) = &io["a-b"].value else { panic!("a table") };
        assert_eq!(&*ab["c"].place.table, "plugins.\"io.x\".a-b");
    }

    #[test]
    fn a_merge_goes_deep_and_replaces_arrays() {
        let read = |text| parse(Path::new("x.toml"), text).unwrap();
        let mut base = read("[t]\na = [1, 2]\nb = 1\n");
        merge(&mut base, read("[t]\na = [3]\nc = 2\n"));
        let json = Value::Table(base).to_json().unwrap();
        assert_eq!(json, serde_json::json!({"t": {"a": [3], "b": 1, "c": 2}}));
    }

    #[test]
    fn numbers_in_every_notation_are_read() {
        let section = parse(Path::new("x"), "a = 0x10\nb = 1_000\nc = 1.5e3\nd = 2020-01-01\n").unwrap();
        let json = Value::Table(section).to_json().unwrap();
        assert_eq!(json, serde_json::json!({"a": 16, "b": 1000, "c": 1500.0, "d": "2020-01-01"}));
    }

    #[test]
    fn a_number_that_is_too_large_is_told_with_its_key() {
        let error = parse(Path::new("f"), "[t]\nn = [1, 99999999999999999999]\n").unwrap_err();
        assert_eq!(error.subject(), Some("f:2 [t]"));
        assert!(
            error.to_string().contains("key \"n\": the integer 99999999999999999999 is out of range"),
            "{error}"
        );
    }

    #[test]
    fn broken_toml_names_file_and_line() {
        let error = parse(Path::new("/etc/x.toml"), "a = 1\nb = \n").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)));
        assert_eq!(error.subject(), Some("/etc/x.toml:2"), "{error}");
        let twice = parse(Path::new("x"), "[t]\na = 1\na = 2\n").unwrap_err();
        assert!(twice.to_string().contains("x:3: broken TOML: duplicate key \"a\""), "{twice}");
    }
}
