//! A report as lines for people.

use std::fmt::Write as _;

use crate::report::ClauseResult;
use crate::{Report, Verdict};

/// Everything: who and where, one line per clause, and the closing line.
#[must_use]
pub fn write(report: &Report) -> String {
    let mut text = heading(report);
    for clause in &report.clauses {
        text.push_str(&line(clause));
    }
    text.push_str(&closing(report));
    text
}

/// One clause: verdict, id and time, and below it why, unless it passed.
#[must_use]
pub fn line(clause: &ClauseResult) -> String {
    let mut text = format!("{:<15} {:<42} {:>6} ms\n", clause.verdict, clause.id, clause.duration_ms);
    if let Some(reason) = &clause.reason {
        indented(&mut text, reason);
    }
    if let Some(link) = &clause.link {
        indented(&mut text, &format!("see {link}"));
    }
    if clause.verdict != Verdict::Passed {
        for evidence in &clause.evidence {
            indented(&mut text, evidence);
        }
    }
    text
}

/// Who was tested, and where.
#[must_use]
pub fn heading(report: &Report) -> String {
    let runtime = &report.runtime;
    let mut who = runtime.reference.clone();
    if let Some(info) = &runtime.info {
        let version = info.version.as_deref().unwrap_or("of unknown version");
        let _ = write!(who, ": {} {version}", info.name);
        if let Some(monitor) = &info.monitor {
            let version = monitor.version.as_deref().unwrap_or("of unknown version");
            let _ = write!(who, " under {} {version}", monitor.name);
        }
    }
    let host = &report.host;
    let unknown = "unknown";
    format!(
        "{who}\non {}, kernel {}, {}, {} processors, cgroups {}, user {}\n",
        host.os.as_deref().unwrap_or(unknown),
        host.kernel.as_deref().unwrap_or(unknown),
        host.arch,
        host.cpus,
        host.cgroups,
        host.user_id
    )
}

/// How many clauses came out how, and the plain line that scripts look for.
#[must_use]
pub fn closing(report: &Report) -> String {
    let summary = &report.summary;
    let counts: Vec<String> = Verdict::ALL
        .iter()
        .map(|verdict| (verdict, report.clauses.iter().filter(|clause| clause.verdict == *verdict).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(verdict, count)| format!("{verdict} {count}"))
        .collect();
    format!(
        "{} clauses, {} executed: {}\n{}\n",
        summary.total,
        summary.executed,
        counts.join(", "),
        summary.closing_line()
    )
}

fn indented(text: &mut String, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "                {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn the_text_keeps_its_shape() {
        let text = write(&example());
        assert_eq!(text, include_str!("golden/report.txt"), "\n{text}");
    }
}
