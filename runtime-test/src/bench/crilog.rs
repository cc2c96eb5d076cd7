//! Reads log files in the CRI format: `TIME STREAM TAG TEXT`, one record a line, where the tag `P` says that the line
//! goes on in the next record of the same stream and `F` that it ends.

use std::fmt;

/// What a log file says, each stream put together again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CriLog {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A record that is not in the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    line: usize,
    text: String,
    why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log line {}: {}: {:?}", self.line, self.why, self.text)
    }
}

/// Reads a whole file. A last record without its newline is still being written and is left out.
pub(crate) fn read(text: &str) -> Result<CriLog, Malformed> {
    let mut log = CriLog::default();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        let malformed = |why| Malformed { line: index + 1, text: line.chars().take(80).collect(), why };
        let mut parts = line.splitn(4, ' ');
        let (Some(time), Some(stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("has fewer than three words before the text"));
        };
        let content = parts.next().ok_or_else(|| malformed("has no text part"))?;
        if !is_rfc3339_nano(time) {
            return Err(malformed("does not begin with a time such as 2024-01-02T03:04:05.000000006Z"));
        }
        let target = match stream {
            "stdout" => &mut log.stdout,
            "stderr" => &mut log.stderr,
            _ => return Err(malformed("names neither stdout nor stderr")),
        };
        target.push_str(content);
        match tag {
            "F" => target.push('\n'),
            "P" => {}
            _ => return Err(malformed("has a tag other than P and F")),
        }
    }
    Ok(log)
}

/// Date, `T`, time with a fraction of one to nine digits, and `Z` or an offset such as `+01:00`.
fn is_rfc3339_nano(text: &str) -> bool {
    let shape = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'+' => matches!(byte, b'+' | b'-'),
                other => byte == other,
            })
    };
    let Some((seconds, rest)) = text.split_at_checked(19) else { return false };
    let Some(rest) = rest.strip_prefix('.') else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let zone = &rest[digits..];
    shape(seconds, "0000-00-00T00:00:00")
        && (1..=9).contains(&digits)
        && (zone == "Z" || shape(zone, "+00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2024-01-02T03:04:05.000000006+00:00";

    #[test]
    fn records_are_put_together() {
        let text = format!(
            "{TIME} stdout P ab\n{TIME} stderr F oh no\n{TIME} stdout F cd\n{TIME} stdout F \n{TIME} stdout F half"
        );
        let log = read(&text).unwrap();
        assert_eq!((log.stdout.as_str(), log.stderr.as_str()), ("abcd\n\n", "oh no\n"));
    }

    #[test]
    fn other_formats_are_refused() {
        for bad in [
            "hello",
            "yesterday stdout F x",
            "2024-01-02T03:04:05Z stdout F x",
            "2024-01-02T03:04:05.1Z stdin F x",
            "2024-01-02T03:04:05.1Z stdout X x",
            "2024-01-02T03:04:05.1Z stdout F",
        ] {
            assert!(read(&format!("{bad}\n")).is_err(), "{bad}");
        }
    }
}
