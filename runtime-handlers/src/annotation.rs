//! Which annotations a container of a handler may carry.
//!
//! A rule is a prefix (`run.oci.`), an exact name (`=io.example.name`), or a pattern for the whole name where it holds `*`,
//! `?` or `[` (`io.example.*`; `*` and `?` stop at `/`).
//!
//! The policy is applied when a container is created through the [`Runtime`](crate::Runtime) facade: what is not allowed is
//! refused, not dropped, because a container without what its author asked for would be another container. For callers
//! that generate specs there are [`complete`] and [`filter`]: a finished bundle is never changed.

use std::collections::BTreeMap;

use runtime_api::{AnnotationPolicy, Error, ErrorKind, Result};

use crate::glob;

/// Refuses the first annotation that the policy does not allow. An empty list of allowed rules allows everything;
/// denied rules win.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`], which names the annotation and the rule.
pub fn check<'a>(policy: &AnnotationPolicy, keys: impl IntoIterator<Item = &'a str>) -> Result<()> {
    keys.into_iter()
        .find_map(|key| objection(policy, key))
        .map_or(Ok(()), |what| Err(Error::new(ErrorKind::ConfigInvalid(what))))
}

/// Adds the policy's defaults to annotations that a spec is being made from. What is already set stays.
pub fn complete(policy: &AnnotationPolicy, annotations: &mut BTreeMap<String, String>) {
    for (key, value) in &policy.default {
        annotations.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// Takes out what the policy does not allow, as CRI-O and containerd do with the annotations of a pod. The answer is what
/// was taken out, with the reasons.
pub fn filter(
    policy: &AnnotationPolicy,
    annotations: &mut BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut dropped = BTreeMap::new();
    annotations.retain(|key, _| {
        let objection = objection(policy, key);
        let keep = objection.is_none();
        dropped.extend(objection.map(|what| (key.clone(), what)));
        keep
    });
    dropped
}

/// What is wrong with a rule.
pub(crate) fn wrong_rule(rule: &str) -> Option<String> {
    if rule.is_empty() || rule == "=" {
        return Some("an empty prefix would match every annotation".to_owned());
    }
    (glob::is_pattern(rule) && !rule.starts_with('=') && glob::matches(rule, "").is_none())
        .then(|| format!("{rule:?} is no pattern: a bracket is not closed, or what stands in it is no range"))
}

fn objection(policy: &AnnotationPolicy, key: &str) -> Option<String> {
    // A malformed rule never opens anything.
    if let Some(rule) = policy.denied.iter().find(|rule| covers(rule, key).unwrap_or(true)) {
        return Some(format!("the annotation {key:?} is denied by the rule {rule:?}"));
    }
    let allowed =
        policy.allowed.is_empty() || policy.allowed.iter().any(|rule| covers(rule, key) == Some(true));
    (!allowed).then(|| {
        format!("the annotation {key:?} is allowed by none of the rules: {}", policy.allowed.join(", "))
    })
}

/// Whether a rule is about this annotation; `None` if it is malformed.
fn covers(rule: &str, key: &str) -> Option<bool> {
    if let Some(name) = rule.strip_prefix('=') {
        return Some(name == key);
    }
    if glob::is_pattern(rule) { glob::matches(rule, key) } else { Some(key.starts_with(rule)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_rules_win_over_allowed_ones() {
        let mut policy = AnnotationPolicy::default();
        check(&policy, ["anything"]).unwrap();
        policy.allowed = vec!["run.oci.".into()];
        policy.denied = vec!["run.oci.hooks.".into()];
        check(&policy, ["run.oci.systemd"]).unwrap();
        let denied = check(&policy, ["run.oci.systemd", "run.oci.hooks.x"]).unwrap_err();
        assert!(denied.to_string().contains("denied by the rule \"run.oci.hooks.\""), "{denied}");
        let stranger = check(&policy, ["com.example"]).unwrap_err();
        assert!(stranger.to_string().contains("none of the rules: run.oci."), "{stranger}");
    }

    #[test]
    fn a_rule_is_a_prefix_a_name_or_a_pattern() {
        let mut policy = AnnotationPolicy::default();
        policy.allowed = vec!["a.".into(), "=b".into(), "c.*.[xy]".into()];
        policy.denied = vec!["a.*.secret".into()];
        check(&policy, ["a.b", "a.b/c", "b", "c.1.x"]).unwrap();
        for bad in ["bb", "c.1.z", "c.1/2.x", "a.b.secret", "a"] {
            assert!(check(&policy, [bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_malformed_rule_opens_nothing() {
        let mut policy = AnnotationPolicy::default();
        policy.allowed = vec!["[".into()];
        assert!(check(&policy, ["a"]).is_err());
        policy.allowed.clear();
        policy.denied = vec!["[".into()];
        assert!(check(&policy, ["a"]).is_err());
        assert!(wrong_rule("[").is_some() && wrong_rule("").is_some() && wrong_rule("=").is_some());
        assert!(["a", "a*", "=["].into_iter().all(|rule| wrong_rule(rule).is_none()));
    }

    #[test]
    fn what_is_filtered_out_is_told() {
        let mut policy = AnnotationPolicy::default();
        policy.denied = vec!["devices.crio.io".into()];
        let mut annotations = BTreeMap::from([
            ("devices.crio.io/c".to_owned(), "x".to_owned()),
            ("a".to_owned(), "y".to_owned()),
        ]);
        let dropped = filter(&policy, &mut annotations);
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["a"]);
        assert!(dropped["devices.crio.io/c"].contains("denied by the rule"), "{dropped:?}");
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
