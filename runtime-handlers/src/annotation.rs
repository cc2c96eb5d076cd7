//! Which annotations a container of a handler may carry.
//!
//! The policy is applied when a container is created through the [`Runtime`](crate::Runtime) facade: what is not allowed is
//! refused, not dropped, because a container without what its author asked for would be another container. Defaults are
//! for callers that generate specs ([`complete`]): a finished bundle is never changed.

use std::collections::BTreeMap;

use runtime_api::{AnnotationPolicy, Error, ErrorKind, Result};

/// Refuses the first annotation that the policy does not allow. An empty list of allowed prefixes allows everything;
/// denied prefixes win.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`], which names the annotation and the rule.
pub fn check<'a>(policy: &AnnotationPolicy, keys: impl IntoIterator<Item = &'a str>) -> Result<()> {
    for key in keys {
        if let Some(prefix) = policy.denied.iter().find(|prefix| key.starts_with(prefix.as_str())) {
            return Err(refusal(format!("the annotation {key:?} is denied by the prefix {prefix:?}")));
        }
        let allowed =
            policy.allowed.is_empty() || policy.allowed.iter().any(|prefix| key.starts_with(prefix.as_str()));
        if !allowed {
            let list = policy.allowed.join(", ");
            return Err(refusal(format!("the annotation {key:?} has none of the allowed prefixes: {list}")));
        }
    }
    Ok(())
}

/// Adds the policy's defaults to annotations that a spec is being made from. What is already set stays.
pub fn complete(policy: &AnnotationPolicy, annotations: &mut BTreeMap<String, String>) {
    for (key, value) in &policy.default {
        annotations.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn refusal(what: String) -> Error {
    Error::new(ErrorKind::ConfigInvalid(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_prefixes_win_over_allowed_ones() {
        let mut policy = AnnotationPolicy::default();
        check(&policy, ["anything"]).unwrap();
        policy.allowed = vec!["run.oci.".into()];
        policy.denied = vec!["run.oci.hooks.".into()];
        check(&policy, ["run.oci.systemd"]).unwrap();
        let denied = check(&policy, ["run.oci.systemd", "run.oci.hooks.x"]).unwrap_err();
        assert!(denied.to_string().contains("denied by the prefix \"run.oci.hooks.\""), "{denied}");
        let stranger = check(&policy, ["com.example"]).unwrap_err();
        assert!(stranger.to_string().contains("allowed prefixes: run.oci."), "{stranger}");
    }

    #[test]
    fn defaults_do_not_override() {
        let mut policy = AnnotationPolicy::default();
        policy.default = [("a".into(), "1".into()), ("b".into(), "1".into())].into();
        let mut annotations = BTreeMap::from([("a".to_owned(), "2".to_owned())]);
        complete(&policy, &mut annotations);
        assert_eq!(annotations["a"], "2");
        assert_eq!(annotations["b"], "1");
    }
}
