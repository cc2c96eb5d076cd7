//! What other programs say, as something to quote.

/// One line, without what agents in virtual machines add of where in their own code they were.
pub(crate) fn one_line(text: &str) -> String {
    let text = text.split("Stack backtrace:").next().unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The last line that says something, which is where programs say why they end.
pub(crate) fn last_line(text: &str) -> Option<String> {
    let text = text.split("Stack backtrace:").next().unwrap_or(text);
    text.lines().rev().map(one_line).find(|line| !line.is_empty())
}

/// A message as it was before the Rust shim wrote its error value, name and quotes and all: `Others("...")`.
pub(crate) fn unwrapped(message: String) -> String {
    let inner = message.strip_prefix("Others(\"").and_then(|rest| rest.strip_suffix("\")"));
    match inner {
        Some(inner) => unescaped(inner),
        None => message,
    }
}

/// What is in quotes in Rust, as far as messages have it.
fn unescaped(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_out_error_value_is_unwrapped() {
        let rows = [
            (r#"Others("Other: exec: \"/x\": no\n such \\ file")"#, "Other: exec: \"/x\": no\n such \\ file"),
            ("Others(\"", "Others(\""),
            ("Others(\"\\\")", "\\"),
            ("plain", "plain"),
        ];
        for (message, plain) in rows {
            assert_eq!(unwrapped(message.to_owned()), plain);
        }
    }

    #[test]
    fn the_last_line_that_says_something_counts() {
        assert_eq!(last_line("first\n  the \t last\n\n").as_deref(), Some("the last"));
        assert_eq!(last_line("why\n\nStack backtrace:\n 0: x\n").as_deref(), Some("why"));
        assert_eq!(last_line(" \n"), None);
    }
}
