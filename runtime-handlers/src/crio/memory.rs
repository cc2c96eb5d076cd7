//! Sizes as CRI-O reads them: a number, perhaps with a fraction, and a unit of 1024 in any case (`12MiB`, `12mb`, `1.5 g`).

/// In bytes.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let bytes = number * 1024_f64.powi(power);
    // What is larger does not fit the signed number that CRI-O keeps.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and below 2^63"
    )]
    (bytes < 9.2e18).then_some(bytes as u64)
}

/// At the last character that can belong to a number; one space may follow it.
fn split(text: &str) -> Option<(&str, &str)> {
    let at = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = text.split_at(at + 1);
    Some((number.strip_suffix(' ').unwrap_or(number), unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_there() {
        for (text, size) in [
            ("12MiB", 12 << 20),
            ("12mb", 12 << 20),
            ("12M", 12 << 20),
            ("500KiB", 500 << 10),
            ("1.5 g", 3 << 29),
            ("7", 7),
            ("7b", 7),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for bad in ["", "MiB", "-1", "12 MiBs", "12Q", "1 2", "nan", "1e999", "9999999p"] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }
}
