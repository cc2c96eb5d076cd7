//! YAML in the form of the other documents: every value knows its file, its place in the document and its line.
//!
//! Anchors and aliases are refused: a few of them can stand for more than memory holds, and manifests need none. Plain
//! words are read as the tools of Kubernetes read them, so `yes` and `on` are booleans.

use std::path::Path;
use std::sync::Arc;

use runtime_api::{Error, ErrorKind, Result};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::{Located, Place, Section, Value, inner_name};

/// Nobody nests manifests as deep as this.
const DEEPEST: usize = 64;

/// Every document of one file. Those that hold nothing are left out.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Vec<Located>> {
    let mut reader = Reader { file: file.into(), events: Parser::new_from_str(text), depth: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::Nothing | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => documents.extend(reader.value(event, span, &Arc::from(""))?),
        }
    }
    Ok(documents)
}

struct Reader<'a> {
    file: Arc<Path>,
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>> {
        match self.events.next() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => Err(self.broken(&error)),
        }
    }

    fn broken(&self, error: &ScanError) -> Error {
        self.wrong(error.marker(), format!("broken YAML: {}", error.info()))
    }

    fn wrong(&self, at: &Marker, what: String) -> Error {
        Error::new(ErrorKind::ConfigInvalid(what))
            .on(format_args!("{}:{}", self.file.display(), at.line()))
            .during_step("read handlers")
    }

    fn place(&self, at: &Marker, table: &Arc<str>) -> Place {
        let line = u32::try_from(at.line()).unwrap_or(u32::MAX);
        Place { file: Arc::clone(&self.file), table: Arc::clone(table), line: line.max(1) }
    }

    /// The value that begins with this event; `None` for null.
    fn value(&mut self, event: Event<'a>, span: Span, table: &Arc<str>) -> Result<Option<Located>> {
        let place = self.place(&span.start, table);
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.wrong(&span.start, format!("it is nested deeper than {DEEPEST} levels")));
        }
        let value = match event {
            Event::Scalar(text, style, 0, _) => scalar(&text, style),
            Event::SequenceStart(0, _) => Some(Value::Array(self.items(table)?)),
            Event::MappingStart(0, _) => Some(Value::Table(self.entries(table)?)),
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => {
                return Err(self.wrong(&span.start, "anchors and aliases are not read".to_owned()));
            }
            _ => return Err(self.wrong(&span.start, "broken YAML: a value is missing".to_owned())),
        };
        self.depth -= 1;
        Ok(value.map(|value| Located { value, place }))
    }

    fn items(&mut self, table: &Arc<str>) -> Result<Vec<Located>> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.extend(self.value(event, span, table)?);
        }
        Ok(items)
    }

    fn entries(&mut self, table: &Arc<str>) -> Result<Section> {
        let mut section = Section::new();
        while let Some((event, span)) = self.next()? {
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(self.wrong(&span.start, "a key must be a string".to_owned())),
            };
            let place = self.place(&span.start, table);
            let Some((event, at)) = self.next()? else { break };
            let inner = Arc::from(inner_name(table, &key));
            let value = self.value(event, at, &inner)?;
            if section.contains_key(&key) {
                return Err(self.wrong(&span.start, format!("the key {key:?} is there twice")));
            }
            if let Some(Located { value, .. }) = value {
                section.insert(key, Located { value, place });
            }
        }
        Ok(section)
    }
}

/// What a plain word means; text in quotes is text.
fn scalar(text: &str, style: ScalarStyle) -> Option<Value> {
    if !matches!(style, ScalarStyle::Plain) {
        return Some(Value::Text(text.to_owned()));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return None,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Some(Value::Bool(true));
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Some(Value::Bool(false));
        }
        _ => {}
    }
    if let Ok(number) = text.parse() {
        return Some(Value::Integer(number));
    }
    let numeric = text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
    Some(match text.parse() {
        Ok(number) if numeric => Value::Float(number),
        _ => Value::Text(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line_and_table() {
        let documents =
            parse(Path::new("x.yaml"), "a: 1\n---\nb:\n  c: [x, \"1\"]\n  d: {e: yes}\n---\n# nothing\n")
                .unwrap();
        assert_eq!(documents.len(), 2);
        let Value::Table(second) = &documents[1].value else { panic!("a table") };
        let Value::Table(b) = &second["b"].value else { panic!("a table") };
        assert_eq!(b["c"].place.here().to_string(), "x.yaml:4 [b]");
        let json = documents[1].value.to_json().unwrap();
        assert_eq!(json, serde_json::json!({"b": {"c": ["x", "1"], "d": {"e": true}}}));
    }

    #[test]
    fn plain_words_have_types() {
        let documents =
            parse(Path::new("x"), "[1, -2, 1.5, 1e3, 250m, 160Mi, ~, 1.2.3, 0x, on, 'on']").unwrap();
        let json = documents[0].value.to_json().unwrap();
        assert_eq!(json, serde_json::json!([1, -2, 1.5, 1000.0, "250m", "160Mi", "1.2.3", "0x", true, "on"]));
    }

    #[test]
    fn what_is_broken_is_told_with_its_line() {
        for (text, place) in [
            ("a: 1\nb: [", "x:2"),
            ("a: 1\na: 2", "x:2"),
            ("a: &x 1\nb: *x", "x:1"),
            ("a:\n  ? [1]\n  : 2", "x:2"),
        ] {
            let error = parse(Path::new("x"), text).unwrap_err();
            let subject = error.subject().unwrap_or_default();
            assert!(subject.starts_with("x:"), "{text}: {error}");
            if text != "a: 1\nb: [" {
                assert_eq!(subject, place, "{error}");
            }
        }
    }

    #[test]
    fn depth_has_an_end() {
        for text in ["[".repeat(100_000), "- ".repeat(10_000), "{a: ".repeat(10_000)] {
            assert!(parse(Path::new("x"), &text).is_err());
        }
    }
}
