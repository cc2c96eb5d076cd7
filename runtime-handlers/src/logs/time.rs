//! Times as log files have them.

use std::time::{Duration, SystemTime};

/// Reads a time in RFC 3339, in UTC (`Z`) or with an offset such as `+01:00`. `None` for anything else.
#[must_use]
pub fn parse_time(text: &str) -> Option<SystemTime> {
    let (local, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let (sign, zone) = zone.split_at_checked(1)?;
            let (hours, minutes) = zone.split_once(':')?;
            let seconds = two_digits(hours)? * 3600 + two_digits(minutes)? * 60;
            let offset = match sign {
                "+" => seconds,
                "-" => -seconds,
                _ => return None,
            };
            (local, offset)
        }
    };
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let shift = Duration::from_secs(offset.unsigned_abs());
    if offset < 0 { local.checked_add(shift) } else { local.checked_sub(shift) }
}

fn two_digits(text: &str) -> Option<i64> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_taken_into_account_and_other_texts_refused() {
        let utc = parse_time("2024-01-02T03:04:05.000000006Z").unwrap();
        assert_eq!(humantime::format_rfc3339_nanos(utc).to_string(), "2024-01-02T03:04:05.000000006Z");
        for same in [
            "2024-01-02T04:04:05.000000006+01:00",
            "2024-01-01T21:34:05.000000006-05:30",
            "2024-01-02T03:04:05.000000006-00:00",
        ] {
            assert_eq!(parse_time(same), Some(utc), "{same}");
        }
        assert!(parse_time("2024-01-02T03:04:05Z").is_some());
        for bad in [
            "",
            "Z",
            "yesterday",
            "2024-01-02T03:04:05+1:00",
            "2024-01-02T03:04:05*01:00",
            "é+01:00",
            "2024-01-02T03:04:05+é:0",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
