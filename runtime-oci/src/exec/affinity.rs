//! On which CPU an exec begins, where the handler says `exec_cpu_affinity = "first"`: on the first of those that the
//! container's spec gives it, so that a probe does not disturb what runs on the others. A container whose spec names no CPUs
//! is not concerned, nor is one whose spec itself says where its execs begin.
//!
//! Runtimes take that from the process document, since the OCI specification 1.2.1. Before, they ignored it without a word.

use serde_json::{Value, json};

/// The first version of the specification that has `process.execCPUAffinity`.
const SINCE: (u64, u64, u64) = (1, 2, 1);

/// Whether a runtime's features document says that it reads `process.execCPUAffinity`; else why it is not believed to.
pub(crate) fn is_heeded(features: Option<&Value>) -> Result<(), String> {
    let since = format!("process.execCPUAffinity came with {}.{}.{}", SINCE.0, SINCE.1, SINCE.2);
    let Some(newest) = features.and_then(|document| document["ociVersionMax"].as_str()) else {
        return Err(format!("the runtime does not say which OCI versions it knows, and {since}"));
    };
    // What comes before a release is not yet it.
    let mut numbers = newest.split('.').map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) if (major, minor, patch) >= SINCE => Ok(()),
        _ => Err(format!("the runtime knows OCI versions up to {newest}, and {since}")),
    }
}

/// Says in a process document of an exec where it begins; `spec` is that of its container.
pub(crate) fn begin_on_first(process: &mut Value, spec: &Value) {
    let cpus = spec.pointer("/linux/resources/cpu/cpus").and_then(Value::as_str);
    if let (Some(first), None) = (cpus.and_then(first_of), process.get("execCPUAffinity")) {
        process["execCPUAffinity"] = json!({"initial": first.to_string()});
    }
}

/// The lowest number of a list such as `4-7,2`.
fn first_of(list: &str) -> Option<u32> {
    let begins = list.split(',').map(|range| range.split('-').next().unwrap_or_default().trim().parse().ok());
    begins.collect::<Option<Vec<u32>>>()?.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_believed_from_the_version_on_that_brought_it() {
        let heeds =
            |newest: &str| is_heeded(Some(&json!({"ociVersionMin": "1.0.0", "ociVersionMax": newest})));
        for newest in ["1.2.1", "1.3.0", "2.0.0"] {
            assert_eq!(heeds(newest), Ok(()), "{newest}");
        }
        for newest in ["1.2.0", "1.0.2-dev", "1.1.0+dev", "1.2.1-rc.1", "1.2", "", "x"] {
            let why = heeds(newest).unwrap_err();
            assert!(why.contains(newest) && why.contains("1.2.1"), "{why}");
        }
        assert!(is_heeded(None).is_err() && is_heeded(Some(&json!({}))).is_err());
    }

    #[test]
    fn the_first_cpu_is_the_lowest() {
        for (list, first) in
            [("0", Some(0)), ("4-7,2", Some(2)), ("3, 1", Some(1)), ("", None), ("a-b", None)]
        {
            assert_eq!(first_of(list), first, "{list:?}");
        }
    }

    #[test]
    fn only_what_has_cpus_and_no_word_of_its_own_is_told_where_to_begin() {
        let spec = json!({"linux": {"resources": {"cpu": {"cpus": "2-3"}}}});
        let mut process = json!({"args": ["x"]});
        begin_on_first(&mut process, &spec);
        assert_eq!(process["execCPUAffinity"], json!({"initial": "2"}));
        let mut own = json!({"execCPUAffinity": {"final": "3"}});
        begin_on_first(&mut own, &spec);
        assert_eq!(own["execCPUAffinity"], json!({"final": "3"}));
        let mut none = json!({"args": ["x"]});
        begin_on_first(&mut none, &json!({"linux": {}}));
        assert_eq!(none, json!({"args": ["x"]}));
    }
}
