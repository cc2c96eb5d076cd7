//! What is wrong with a text that is no TOML, in words that help to find it.

use toml::de::Error;

/// Nobody needs to see the whole of a long key.
const LONGEST: usize = 60;

/// What the parser says, and what stands at that place. Of a value nothing is shown: it may be a secret.
pub(super) fn tell(error: &Error, text: &str) -> String {
    // The parser's message may run over several lines and repeat the source; its first line says what is wrong.
    let message = error.message().lines().next().unwrap_or("it cannot be read");
    let Some(span) = error.span() else { return message.to_owned() };
    let begin = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(begin..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    if message == "duplicate key" {
        let key = short(text.get(span).unwrap_or_default());
        return match text.get(..begin).and_then(|before| earlier(before, line)) {
            Some(first) => {
                format!("duplicate key {key:?}: it stands in line {first} already; make one of both")
            }
            None => format!("duplicate key {key:?}; make one of both"),
        };
    }
    match name(line) {
        Some(name) => format!("{message}, in the line of {name:?}"),
        None => message.to_owned(),
    }
}

/// What a line is about: its key, or the table that it begins.
fn name(line: &str) -> Option<String> {
    let line = line.trim();
    let name = if line.starts_with('[') { line } else { line.split_once('=')?.0.trim() };
    (!name.is_empty()).then(|| short(name))
}

/// The line, counted from 1, that says the same as `line`: for a key one of the same table.
fn earlier(before: &str, line: &str) -> Option<usize> {
    let wanted = name(line)?;
    let is_table = wanted.starts_with('[');
    let lines: Vec<_> = before.lines().collect();
    let of_table = lines.iter().rposition(|line| line.trim().starts_with('[')).map_or(0, |at| at + 1);
    let from = if is_table { 0 } else { of_table };
    let found = lines[from..].iter().position(|line| name(line).as_ref() == Some(&wanted))?;
    Some(from + found + 1)
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use crate::document::parse;
    use std::path::Path;

    fn told(text: &str) -> String {
        parse(Path::new("f"), text).unwrap_err().to_string().split_once("broken TOML: ").unwrap().1.to_owned()
    }

    #[test]
    fn what_stands_there_twice_is_told_with_both_places() {
        for (text, wanted) in [
            ("[a]\n[t.x]\nk = 1\n[b]\n[t.x]\n", "duplicate key \"x\": it stands in line 2 already"),
            ("[a]\nk = 1\n[b]\nk = 1\nl = 2\nk = 3\n", "duplicate key \"k\": it stands in line 4 already"),
            ("k = 1\n k=2\n", "duplicate key \"k\": it stands in line 1 already"),
            ("a = { k = 1, k = 2 }\n", "duplicate key \"k\"; make one of both"),
        ] {
            assert!(told(text).starts_with(wanted), "{text:?}: {}", told(text));
        }
    }

    #[test]
    fn the_key_of_a_broken_line_is_told_and_its_value_is_not() {
        for (text, name) in [
            ("[t]\npassword = secret\n", "password"),
            ("[t]\npassword = \"secret\nk = 1\n", "password"),
            ("[secret\nk = 1\n", "[secret"),
        ] {
            let told = told(text);
            assert!(told.ends_with(&format!(", in the line of {name:?}")), "{text:?}: {told}");
            assert!(!told.replace("[secret", "").contains("secret"), "{told}");
        }
        let nothing = told("password: secret\n");
        assert!(!nothing.contains("secret"), "{nothing}");
        let long = told(&format!("{} = x\n", "é".repeat(500)));
        assert!(long.len() < 300, "{long}");
    }
}
