//! Kubernetes' `RuntimeClass`: manifests that name a handler. Parsing does no I/O; [`crate::load::runtime_classes`] reads
//! a file.
//!
//! A file may hold several documents, and lists of them; what is no `RuntimeClass` is not looked at. What the API server
//! would refuse is refused here, with the file and the line.

mod check;

use std::collections::BTreeMap;

use runtime_api::{Error, ErrorKind, HandlerConfig, HandlerName, Origin, Result};

use crate::document::schema::{Key, Shape, Unknown, check_section, complain, key};
use crate::document::view::View;
use crate::document::{Located, Section, Value, yaml};
use crate::source::Source;
use crate::table::{HandlerTable, Note};

/// One manifest.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeClass {
    /// What pods call it.
    pub name: String,
    /// The handler that it means.
    pub handler: HandlerName,
    /// What a pod costs beyond its containers: a quantity for each resource (`overhead.podFixed`).
    pub overhead: BTreeMap<String, String>,
    /// Labels that a node needs.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that its pods tolerate.
    pub tolerations: Vec<Toleration>,
    /// Where it was written.
    pub origin: Origin,
}

/// A taint that pods tolerate.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toleration {
    /// The taint's key; all, if there is none.
    pub key: Option<String>,
    /// `Equal` or `Exists`.
    pub operator: Option<String>,
    /// The taint's value.
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; all, if there is none.
    pub effect: Option<String>,
    /// How long it is tolerated.
    pub toleration_seconds: Option<i64>,
}

impl RuntimeClass {
    /// The handler that it means in this table.
    ///
    /// # Errors
    /// Those of [`HandlerTable::select`], with the class and its place.
    pub fn resolve<'a>(&self, table: &'a HandlerTable) -> Result<&'a HandlerConfig> {
        table.select(Some(&self.handler)).map_err(|error| {
            let hint = error.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
            error.hint(format!("the RuntimeClass {:?} at {} names it{hint}", self.name, self.origin))
        })
    }
}

const CLASS: &[Key] = &[
    key("apiVersion", Shape::Text),
    key("kind", Shape::Text),
    key("metadata", Shape::Free),
    key("handler", Shape::Text),
    key("overhead", Shape::Table(OVERHEAD)),
    key("scheduling", Shape::Table(SCHEDULING)),
];
const OVERHEAD: &[Key] = &[key("podFixed", Shape::Free)];
const SCHEDULING: &[Key] = &[key("nodeSelector", Shape::TextMap), key("tolerations", Shape::Any)];
const TOLERATION: &[Key] = &[
    key("key", Shape::Text),
    key("operator", Shape::Text),
    key("value", Shape::Text),
    key("effect", Shape::Text),
    key("tolerationSeconds", Shape::Integer),
];

/// Reads every `RuntimeClass` of a file, and what is worth telling.
///
/// # Errors
/// [`ConfigInvalid`](runtime_api::ErrorKind::ConfigInvalid), which names the file and the line; also for a file without any.
pub fn parse(source: &Source) -> Result<(Vec<RuntimeClass>, Vec<Note>)> {
    let (mut classes, mut notes) = (Vec::new(), Vec::new());
    for document in yaml::parse(&source.path, &source.text)? {
        read(&document, &mut classes, &mut notes)?;
    }
    if classes.is_empty() {
        let what = "there is no RuntimeClass (apiVersion: node.k8s.io/v1, kind: RuntimeClass)".to_owned();
        return Err(Error::new(ErrorKind::ConfigInvalid(what))
            .on(format_args!("{} [top level]", source.path.display()))
            .during_step("read handlers"));
    }
    Ok((classes, notes))
}

fn read(document: &Located, classes: &mut Vec<RuntimeClass>, notes: &mut Vec<Note>) -> Result<()> {
    let Value::Table(section) = &document.value else { return Ok(()) };
    let view = View::new(section);
    let kind = view.text("kind").map(|(kind, _)| kind);
    if let (Some("List" | "RuntimeClassList"), Some(Located { value: Value::Array(items), .. })) =
        (kind, section.get("items"))
    {
        // A list in a list is none of the API's.
        for item in items.iter().filter(|item| !is_list(item)) {
            read(item, classes, notes)?;
        }
        return Ok(());
    }
    if kind != Some("RuntimeClass") {
        return Ok(());
    }
    match view.text("apiVersion") {
        Some(("node.k8s.io/v1" | "node.k8s.io/v1beta1", _)) => {}
        Some((other, key)) => {
            let what = format!("key \"apiVersion\" is {other:?}; node.k8s.io/v1 and v1beta1 are read");
            return Err(complain(key, &what));
        }
        None => {
            return Err(complain(document, "key \"apiVersion\" is missing (node.k8s.io/v1)"));
        }
    }
    check_section(section, CLASS, &mut Unknown::Noted(notes))?;
    classes.push(class(document, section, &view, notes)?);
    Ok(())
}

fn is_list(item: &Located) -> bool {
    matches!(&item.value, Value::Table(section) if section.contains_key("items"))
}

fn class(
    document: &Located,
    section: &Section,
    view: &View<'_>,
    notes: &mut Vec<Note>,
) -> Result<RuntimeClass> {
    let metadata = view.inner("metadata");
    let name = match metadata.text("name") {
        Some((name, key)) => {
            check::subdomain(name).map_err(|what| complain(key, &format!("key \"name\": {what}")))?;
            name.to_owned()
        }
        None => return Err(complain(document, "key \"name\" is missing in \"metadata\"")),
    };
    let Some((handler, key)) = view.text("handler") else {
        return Err(complain(document, "key \"handler\" is missing"));
    };
    let parsed = HandlerName::new(handler).ok().filter(HandlerName::fits_runtime_class);
    let Some(handler) = parsed else {
        let what = format!(
            "key \"handler\" is {handler:?}, which is no DNS label: lower case letters, digits and -, at most 63"
        );
        return Err(complain(key, &what));
    };
    let mut overhead = BTreeMap::new();
    if let Some(Located { value: Value::Table(fixed), .. }) = view.inner("overhead").get("podFixed") {
        for (resource, item) in fixed {
            let quantity =
                check::quantity(item).map_err(|what| complain(item, &format!("key {resource:?}: {what}")))?;
            overhead.insert(resource.clone(), quantity);
        }
    }
    let scheduling = view.inner("scheduling");
    let node_selector = scheduling
        .map("nodeSelector")
        .map(|(label, value, _)| (label.to_owned(), value.to_owned()))
        .collect();
    let tolerations = match scheduling.get("tolerations") {
        None => Vec::new(),
        Some(Located { value: Value::Array(items), .. }) => {
            items.iter().map(|item| toleration(item, notes)).collect::<Result<_>>()?
        }
        Some(other) => return Err(complain(other, "key \"tolerations\" must be an array")),
    };
    let origin = section.get("handler").map_or(&document.place, |key| &key.place).here();
    Ok(RuntimeClass { name, handler, overhead, node_selector, tolerations, origin })
}

fn toleration(item: &Located, notes: &mut Vec<Note>) -> Result<Toleration> {
    let Value::Table(section) = &item.value else {
        return Err(complain(item, "a toleration must be a table"));
    };
    check_section(section, TOLERATION, &mut Unknown::Noted(notes))?;
    let view = View::new(section);
    let text = |name: &str| view.text(name).map(|(text, _)| text.to_owned()).filter(|text| !text.is_empty());
    let read = Toleration {
        key: text("key"),
        operator: text("operator"),
        value: text("value"),
        effect: text("effect"),
        toleration_seconds: match view.get("tolerationSeconds") {
            Some(Located { value: Value::Integer(seconds), .. }) => Some(*seconds),
            _ => None,
        },
    };
    check::toleration(&read).map_err(|what| complain(item, &what))?;
    Ok(read)
}

#[cfg(test)]
mod tests;
