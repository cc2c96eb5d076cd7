//! Amounts as people write them in configuration files.

use std::time::Duration;

/// Bytes: `12582912`, `12MiB`, `12MB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: &[(&str, u64)] = &[
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    let trimmed = text.trim();
    let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim();
    let shape = || format!("{text:?} is not a size such as 12582912, \"12MiB\" or \"12MB\"");
    let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(shape)?;
    let number: u64 = number.parse().map_err(|_| shape())?;
    number.checked_mul(scale).ok_or_else(|| format!("the size {text:?} is too large"))
}

/// A time: `30s`, `1m 30s`. Zero is refused: it would let nothing finish.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let read = humantime::parse_duration(text.trim())
        .map_err(|_| format!("{text:?} is not a time such as \"30s\" or \"1m 30s\""))?;
    positive(read)
}

/// A time in whole seconds.
pub(crate) fn seconds(number: i64) -> Result<Duration, String> {
    let number = u64::try_from(number).map_err(|_| format!("the time {number} is negative"))?;
    positive(Duration::from_secs(number))
}

fn positive(time: Duration) -> Result<Duration, String> {
    if time.is_zero() {
        return Err("a time of zero would let nothing finish; leave the key out for the default".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        assert_eq!(bytes("12MiB"), Ok(12 << 20));
        assert_eq!(bytes("12 MB"), Ok(12_000_000));
        assert_eq!(bytes("512"), Ok(512));
        for bad in ["", "MiB", "12M", "-1", "1.5GiB", "99999999999TiB"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_positive() {
        assert_eq!(time("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(seconds(7), Ok(Duration::from_secs(7)));
        for bad in ["0s", "", "fast", "-1s"] {
            assert!(time(bad).is_err(), "{bad:?}");
        }
        assert!(seconds(0).is_err() && seconds(-1).is_err());
    }
}
