//! A table by key, with values of the wanted type.

use std::path::PathBuf;
use std::time::Duration;

use runtime_api::Result;

use super::schema::complain;
use super::{Located, Section, Value};
use crate::quantity;

/// A table by key, with errors that name the place. An absent table answers like an empty one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a>(Option<&'a Section>);

impl<'a> View<'a> {
    pub(crate) fn new(section: &'a Section) -> Self {
        Self(Some(section))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Located> {
        self.0?.get(name)
    }

    pub(crate) fn inner(&self, name: &str) -> Self {
        match self.get(name) {
            Some(Located { value: Value::Table(section), .. }) => Self(Some(section)),
            _ => Self(None),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<(&'a str, &'a Located)> {
        match self.get(name) {
            Some(key @ Located { value: Value::Text(text), .. }) => Some((text, key)),
            _ => None,
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<(&'a str, &'a Located)> {
        let Some(Located { value: Value::Array(items), .. }) = self.get(name) else { return Vec::new() };
        items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Text(text) => Some((text.as_str(), item)),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn map(&self, name: &str) -> impl Iterator<Item = (&'a str, &'a str, &'a Located)> + use<'a> {
        self.inner(name).0.into_iter().flatten().filter_map(|(key, item)| match &item.value {
            Value::Text(text) => Some((key.as_str(), text.as_str(), item)),
            _ => None,
        })
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Located { value: Value::Bool(true), .. }))
    }

    /// An absolute path, or a bare name for `PATH`.
    fn binary(name: &str, text: &str, at: &Located) -> Result<PathBuf> {
        let path = PathBuf::from(text);
        let bare = !text.is_empty() && !text.contains('/') && text != "." && text != "..";
        if bare { Ok(path) } else { absolute(name, text, at) }
    }

    /// Binaries: absolute paths, or bare names for `PATH`.
    pub(crate) fn binaries(&self, name: &str) -> Result<Vec<PathBuf>> {
        let one = self.text(name).into_iter();
        one.chain(self.texts(name)).map(|(text, key)| Self::binary(name, text, key)).collect()
    }

    pub(crate) fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        self.text(name).map(|(text, key)| absolute(name, text, key)).transpose()
    }

    pub(crate) fn filled(&self, name: &str) -> Result<Option<String>> {
        match self.text(name) {
            Some(("", key)) => Err(complain(key, &format!("key {name:?} is empty; leave it out"))),
            Some((text, _)) => Ok(Some(text.to_owned())),
            None => Ok(None),
        }
    }

    pub(crate) fn one_of(&self, name: &str, only: &str) -> Result<Option<String>> {
        match self.text(name) {
            Some((text, key)) if text != only => {
                Err(complain(key, &format!("key {name:?} can only be {only:?}, not {text:?}")))
            }
            Some((text, _)) => Ok(Some(text.to_owned())),
            None => Ok(None),
        }
    }

    pub(crate) fn time(&self, name: &str) -> Result<Option<Duration>> {
        let Some(key) = self.get(name) else { return Ok(None) };
        let read = match &key.value {
            Value::Text(text) => quantity::time(text),
            Value::Integer(number) => quantity::seconds(*number),
            _ => return Ok(None),
        };
        read.map(Some).map_err(|why| complain(key, &format!("key {name:?}: {why}")))
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<Option<u64>> {
        let Some(key) = self.get(name) else { return Ok(None) };
        let read = match &key.value {
            Value::Text(text) => quantity::bytes(text),
            Value::Integer(number) => {
                u64::try_from(*number).map_err(|_| format!("the size {number} is negative"))
            }
            _ => return Ok(None),
        };
        read.map(Some).map_err(|why| complain(key, &format!("key {name:?}: {why}")))
    }
}

/// What the key `name` says, which must be an absolute path.
pub(crate) fn absolute(name: &str, text: &str, at: &Located) -> Result<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(complain(at, &format!("key {name:?}: the path {text:?} is not absolute")))
}
