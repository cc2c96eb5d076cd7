//! What the API server checks.

use super::Toleration;
use crate::document::{Located, Value};
use crate::foreign::did_you_mean;

/// DNS labels with dots between them.
pub(super) fn subdomain(name: &str) -> Result<(), String> {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(format!("{name:?} is no DNS name: lower case letters, digits, - and dots, at most 253"))
}

/// A quantity such as `250m` or `160Mi`, which must not be negative.
pub(super) fn quantity(item: &Located) -> Result<String, String> {
    let text = match &item.value {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        other => return Err(format!("a quantity is wanted, but there is {}", other.type_name())),
    };
    let wrong = || format!("{text:?} is no quantity such as \"250m\", \"160Mi\" or 1");
    if text.starts_with('-') {
        return Err(format!("{text:?} is negative"));
    }
    let unsigned = text.strip_prefix('+').unwrap_or(&text);
    let digits = unsigned.len() - unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, suffix) = unsigned.split_at(digits);
    let is_number = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() <= 1;
    let units = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
        .contains(&suffix);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| {
        let power = power.strip_prefix(['+', '-']).unwrap_or(power);
        !power.is_empty() && power.bytes().all(|b| b.is_ascii_digit())
    });
    if is_number && (units || exponent) { Ok(text) } else { Err(wrong()) }
}

/// The rules about which fields go together.
pub(super) fn toleration(read: &Toleration) -> Result<(), String> {
    let one_of = |name: &str, given: &Option<String>, known: &[&str]| match given {
        Some(text) if !known.contains(&text.as_str()) => {
            let close = did_you_mean(text, known.iter().copied());
            Err(format!("key {name:?} is {text:?}, which is none of {}{close}", known.join(", ")))
        }
        _ => Ok(()),
    };
    one_of("operator", &read.operator, &["Exists", "Equal"])?;
    one_of("effect", &read.effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"])?;
    let exists = read.operator.as_deref() == Some("Exists");
    if exists && read.value.is_some() {
        return Err("key \"value\" must be empty where the operator is Exists".to_owned());
    }
    if read.key.is_none() && !exists {
        return Err("without a \"key\" the operator must be Exists".to_owned());
    }
    if read.toleration_seconds.is_some() && read.effect.as_deref() != Some("NoExecute") {
        return Err("key \"tolerationSeconds\" needs the effect NoExecute".to_owned());
    }
    Ok(())
}
