//! What a runtime said when it failed, from its JSON log where it keeps one, else from standard error.

use std::path::Path;

use serde::Deserialize;

/// The keys of a record, whichever program wrote it.
#[derive(Deserialize)]
struct Record {
    level: String,
    #[serde(alias = "message")]
    msg: String,
}

/// The last error of a JSON log; records of other levels and broken lines are passed over.
pub(crate) fn last_error(log: &str) -> Option<String> {
    let records = log.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok());
    let is_error =
        |level: &str| ["error", "fatal", "panic"].iter().any(|word| level.eq_ignore_ascii_case(word));
    let mut errors = records.filter(|record| is_error(&record.level));
    errors.next_back().map(|record| one_line(without_backtrace(&record.msg)))
}

/// The best account of a failure: the log's last error, else the last line of standard error, else nothing.
pub(crate) fn account(log: Option<&Path>, stderr: &str) -> String {
    let logged = log.and_then(|path| std::fs::read(path).ok());
    let logged = logged.and_then(|bytes| last_error(&String::from_utf8_lossy(&bytes)));
    logged.or_else(|| last_error(stderr)).unwrap_or_else(|| {
        let text = without_backtrace(stderr);
        if let Some(chain) = with_causes(text) {
            return chain;
        }
        let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        last.map_or_else(|| "it said nothing".to_owned(), unwrap_logrus)
    })
}

/// Takes the message out of `time="..." level=error msg="..."`.
fn unwrap_logrus(line: &str) -> String {
    let quoted =
        line.split_once(" msg=").and_then(|(_, rest)| serde_json::from_str::<String>(rest.trim()).ok());
    one_line(quoted.as_deref().unwrap_or(line))
}

/// Programs that list the causes of an error below it end with the last of them, which alone says little.
fn with_causes(text: &str) -> Option<String> {
    let (before, causes) = text.rsplit_once("\nCaused by:\n")?;
    let error = before.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let causes = causes.lines().map(str::trim).filter(|line| !line.is_empty());
    Some(one_line(&std::iter::once(error).chain(causes).collect::<Vec<_>>().join(": ")))
}

/// Some programs add where in their own code they were, which helps nobody here.
fn without_backtrace(text: &str) -> &str {
    text.split("Stack backtrace:").next().unwrap_or(text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_counts() {
        let log = "{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"t\"}\n{\"level\":\"error\",\"msg\":\"one\"}\nnoise\n{\"level\":\"error\",\"message\":\"two\\n three\"}\n";
        assert_eq!(last_error(log).as_deref(), Some("two three"));
        assert_eq!(last_error("{\"level\":\"info\",\"msg\":\"x\"}"), None);
    }

    #[test]
    fn a_backtrace_is_cut_off() {
        let log = "{\"timestamp\":\"t\",\"level\":\"ERROR\",\"message\":\"container nope does not exist.\\n\\nStack backtrace:\\n   0: <unknown>\",\"target\":\"youki\"}";
        assert_eq!(last_error(log).as_deref(), Some("container nope does not exist."));
        let stderr = "Error: container nope does not exist.\n\nStack backtrace:\n   0: <unknown>\n";
        assert_eq!(account(None, stderr), "Error: container nope does not exist.");
    }

    #[test]
    fn an_error_comes_with_its_causes() {
        let stderr = "Error: failed to seal /proc/self/exe\n\nCaused by:\n    Device or resource busy (os error 16)\n\nStack backtrace:\n   0: x\n";
        let expected = "Error: failed to seal /proc/self/exe: Device or resource busy (os error 16)";
        assert_eq!(account(None, stderr), expected);
    }

    #[test]
    fn plain_text_is_unwrapped() {
        let stderr = "time=\"2026-11-21T22:27:04Z\" level=error msg=\"exec: \\\"/nope\\\": not found\"\n";
        assert_eq!(account(None, stderr), "exec: \"/nope\": not found");
        assert_eq!(account(None, "first\nlast one\n\n"), "last one");
        assert_eq!(account(None, ""), "it said nothing");
    }
}
