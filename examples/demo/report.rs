//! What is printed of one handler: a line that stands for itself, and below it the reason for each "no".

use std::fmt::Write as _;

use runtime_api::{Capabilities, HandlerConfig};

use crate::life::{Outcome, Ran};

/// How much of a container's output is shown.
const SHOWN: usize = 60;

pub(crate) fn lines(config: &HandlerConfig, outcome: &Outcome) -> String {
    let (name, kind) = (config.name.as_str(), config.kind.as_str());
    match outcome {
        Outcome::Ran(ran) => format!("{name:<8} {kind:<5} {}", of_life(ran)),
        Outcome::LeftOut(why) => format!("{name:<8} {kind:<5} left out: {why}\n"),
        Outcome::Failed(why) => format!("{name:<8} {kind:<5} FAILED: {why}\n"),
        Outcome::Interrupted => format!("{name:<8} {kind:<5} interrupted\n"),
    }
}

fn of_life(ran: &Ran) -> String {
    let info = ran.runtime.info();
    let binary = info.binary.as_ref().map_or("no binary".to_owned(), |path| path.display().to_string());
    let version = info.version.as_deref().unwrap_or("of unknown version");
    let code = ran.status.code.map_or("lost".to_owned(), |code| code.to_string());
    let capabilities = ran.runtime.capabilities();
    let can: Vec<&str> =
        capabilities.iter().filter(|(_, answer)| answer.is_yes()).map(|(each, _)| each.id()).collect();
    let mut text = format!(
        "{binary} {version}; printed {}; exit {code}; {:.1} ms; can {}; cannot, and why:\n",
        shown(&ran.printed),
        ran.took.as_secs_f64() * 1e3,
        can.join(" "),
    );
    for (why, cannot) in reasons(capabilities) {
        let _ = writeln!(text, "         {}: {why}", cannot.join(" "));
    }
    text
}

/// The reasons in the order of the capabilities, each with those that it is given for.
fn reasons(capabilities: &Capabilities) -> Vec<(&str, Vec<&str>)> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (capability, answer) in capabilities.iter() {
        let Some(why) = answer.why_not.as_deref() else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, cannot)) => cannot.push(capability.id()),
            None => reasons.push((why, vec![capability.id()])),
        }
    }
    reasons
}

/// The first line in quotes, and how much more there is. With a terminal, lines end in two characters.
fn shown(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed);
    let line: String = text.lines().next().unwrap_or_default().chars().take(SHOWN).collect();
    let rest = text.trim_end().len().saturating_sub(line.len());
    if rest == 0 { format!("{line:?}") } else { format!("{line:?} and {rest} bytes more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_cut_and_counted() {
        assert_eq!(shown(b"hello\n"), "\"hello\"");
        assert_eq!(shown(b""), "\"\"");
        assert_eq!(shown(b"one\ntwo\n"), "\"one\" and 4 bytes more");
        assert_eq!(shown(b"with a terminal\r\n"), "\"with a terminal\"");
        assert_eq!(shown(&[b'x'; 100]), format!("{:?} and 40 bytes more", "x".repeat(60)));
    }
}
