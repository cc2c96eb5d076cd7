//! A report as a JSON document.

use crate::Report;

/// The document, indented, with a newline at its end.
///
/// # Panics
/// Never: every part of a report has a JSON form.
#[must_use]
pub fn write(report: &Report) -> String {
    let mut text = serde_json::to_string_pretty(report)
        .unwrap_or_else(|error| unreachable!("a report is plain data: {error}"));
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_document_keeps_its_shape() {
        let text = write(&example());
        assert_eq!(text, include_str!("golden/report.json"), "\n{text}");
    }

    #[test]
    fn a_document_is_read_back() {
        let report = example();
        assert_eq!(serde_json::from_str::<Report>(&write(&report)).unwrap(), report);
    }
}
