//! Handlers as CRI-O's own option `--runtimes` has them:
//! `NAME:PATH:ROOT[:TYPE[:PRIVILEGED_WITHOUT_HOST_DEVICES[:CONFIG_PATH[:MIN_MEMORY]]]]`.

use std::path::Path;

use runtime_api::{Error, ErrorKind, Result};

use crate::document::{BUILT_IN, Located, Place, Section, Value, inner_name};

/// What messages call the place.
const OPTION: &str = "--runtimes";

/// One handler, as a table of a file would have it, with its name.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] for another form.
pub(super) fn entry(text: &str) -> Result<(String, Located)> {
    let wrong = |what: &str| {
        let form = "NAME:PATH:ROOT[:TYPE[:PRIVILEGED_WITHOUT_HOST_DEVICES[:CONFIG_PATH[:MIN_MEMORY]]]]";
        Error::new(ErrorKind::InvalidArgument(what.to_owned()))
            .on(format_args!("{OPTION} {text:?}"))
            .during_step("read handlers")
            .hint(format!("the form is {form}"))
    };
    let fields: Vec<&str> = text.split(':').collect();
    if !(3..=7).contains(&fields.len()) {
        return Err(wrong(&format!("it has {} parts between colons, and 3 to 7 are wanted", fields.len())));
    }
    if fields[0].is_empty() {
        return Err(wrong("the name is empty"));
    }
    let place = Place {
        file: Path::new(OPTION).into(),
        table: inner_name("crio.runtime.runtimes", fields[0]).into(),
        line: BUILT_IN,
    };
    let at = |value: Value| Located { value, place: place.clone() };
    let mut section = Section::new();
    let names = ["runtime_path", "runtime_root", "runtime_type"];
    for (name, field) in names.into_iter().zip(&fields[1..]) {
        section.insert(name.to_owned(), at(Value::Text((*field).to_owned())));
    }
    match fields.get(4) {
        None | Some(&("" | "false")) => {}
        Some(&"true") => {
            section.insert("privileged_without_host_devices".to_owned(), at(Value::Bool(true)));
        }
        Some(other) => {
            return Err(wrong(&format!("the fifth part is {other:?}, and true or false is wanted")));
        }
    }
    for (name, field) in
        ["runtime_config_path", "container_min_memory"].into_iter().zip(fields.iter().skip(5))
    {
        section.insert(name.to_owned(), at(Value::Text((*field).to_owned())));
    }
    Ok((fields[0].to_owned(), at(Value::Table(section))))
}
