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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_counts() {
        assert_eq!(last_line("first\n  the \t last\n\n").as_deref(), Some("the last"));
        assert_eq!(last_line("why\n\nStack backtrace:\n 0: x\n").as_deref(), Some("why"));
        assert_eq!(last_line(" \n"), None);
    }
}
