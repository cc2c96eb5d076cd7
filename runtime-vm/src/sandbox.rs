//! Which sandbox a container belongs to, by the request or by the annotations of CRI-O and of containerd.

use std::collections::BTreeMap;

use runtime_api::{CreateRequest, SandboxId};

/// The annotations for the type of a container and for the id of its sandbox, and what a sandbox's own type is called.
const ANNOTATIONS: &[(&str, &str, &str)] = &[
    ("io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID", "sandbox"),
    ("io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id", "sandbox"),
];

/// What a container is to its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has none.
    Alone,
    /// It is the one that makes it.
    Sandbox(Option<SandboxId>),
    /// It joins the others.
    Member(SandboxId),
}

impl Role {
    pub(crate) fn sandbox(&self) -> Option<&SandboxId> {
        match self {
            Self::Alone => None,
            Self::Sandbox(id) => id.as_ref(),
            Self::Member(id) => Some(id),
        }
    }
}

/// What a new container is to its sandbox. The request counts before the annotations.
pub(crate) fn role_of(request: &CreateRequest, annotations: &BTreeMap<String, String>) -> Role {
    let noted = ANNOTATIONS.iter().find_map(|(kind, sandbox, own)| {
        let kind = annotations.get(*kind)?;
        let id = annotations.get(*sandbox).and_then(|id| SandboxId::new(id).ok());
        Some((kind == own, id))
    });
    let (is_sandbox, id) = noted.unwrap_or((false, None));
    let id = request.sandbox.clone().or(id);
    match id {
        id if is_sandbox => Role::Sandbox(id.or_else(|| SandboxId::new(request.id.as_str()).ok())),
        Some(id) => Role::Member(id),
        None => Role::Alone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::ContainerId;

    fn role(pairs: &[(&str, &str)], request: Option<&str>) -> Role {
        let annotations = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut asked = CreateRequest::new(ContainerId::new("own").unwrap(), "/b");
        asked.sandbox = request.map(|id| SandboxId::new(id).unwrap());
        role_of(&asked, &annotations)
    }

    #[test]
    fn the_annotations_of_both_engines_are_read_and_the_request_counts_first() {
        let id = |text: &str| SandboxId::new(text).unwrap();
        assert_eq!(role(&[], None), Role::Alone);
        assert_eq!(role(&[], Some("pod")), Role::Member(id("pod")));
        for (kind, sandbox, own) in ANNOTATIONS {
            assert_eq!(role(&[(kind, own), (sandbox, "pod")], None), Role::Sandbox(Some(id("pod"))));
            assert_eq!(role(&[(kind, own)], None), Role::Sandbox(Some(id("own"))));
            assert_eq!(role(&[(kind, "container"), (sandbox, "pod")], None), Role::Member(id("pod")));
            assert_eq!(role(&[(kind, "container"), (sandbox, "pod")], Some("x")), Role::Member(id("x")));
        }
    }
}
