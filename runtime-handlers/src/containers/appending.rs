//! Arrays to which a later file can add: `["a", {append = true}]`.

use runtime_api::Result;

use crate::document::schema::complain;
use crate::document::{Located, Value};

/// The strings so far, each with its place, and whether the next file adds to them.
#[derive(Debug)]
pub(super) struct Appending {
    values: Vec<(String, Located)>,
    append: bool,
}

impl Appending {
    pub(super) fn new(built_in: Option<Located>) -> Self {
        let mut list = Self { values: Vec::new(), append: false };
        if let Some(Located { value: Value::Array(items), .. }) = built_in {
            for item in items {
                list.push(item);
            }
        }
        list
    }

    pub(super) fn values(&self) -> &[(String, Located)] {
        &self.values
    }

    /// Reads the array of one file. What a file says of appending holds for itself and for those after it.
    pub(super) fn lay_over(&mut self, name: &str, item: Located) -> Result<()> {
        let form = || {
            let what = format!(
                "key {name:?} must be an array of strings, with {{append = true}} or {{append = false}} in it at most"
            );
            complain(&item, &what)
        };
        let Value::Array(items) = &item.value else { return Err(form()) };
        let mut append = self.append;
        for each in items {
            match &each.value {
                Value::Text(_) => {}
                Value::Table(attributes) => {
                    for (key, value) in attributes {
                        match value.value {
                            Value::Bool(flag) if key == "append" => append = flag,
                            _ => return Err(form()),
                        }
                    }
                }
                _ => return Err(form()),
            }
        }
        self.append = append;
        if !append {
            self.values.clear();
        }
        if let Value::Array(items) = item.value {
            for each in items {
                self.push(each);
            }
        }
        Ok(())
    }

    fn push(&mut self, item: Located) {
        if let Value::Text(text) = &item.value {
            self.values.push((text.clone(), item));
        }
    }
}
