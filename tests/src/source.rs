//! Reads the workspace's own files, for tests that hold them to rules.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// One file of the workspace.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path below the root.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Every text file below the root but build output, the lock file and what version control keeps, in order of path.
///
/// # Errors
/// When a directory or file cannot be read.
pub fn files() -> std::io::Result<Vec<Source>> {
    let root = root();
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if !name.starts_with("target") && name != ".git" {
                    directories.push(entry.path());
                }
            } else if kind.is_file()
                && name != "Cargo.lock"
                && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
            {
                let path = entry.path();
                let path = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Rust source with every comment and the inside of every literal blanked out; line breaks stay.
#[must_use]
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = (!after_word).then(|| literal(rest)).flatten() {
            length
        } else {
            after_word = first.is_alphanumeric() || first == '_';
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
        after_word = false;
    }
    code
}

/// The length of the (nesting) block comment at the start.
fn block_comment(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string or character literal at the start, if there is one.
fn literal(text: &str) -> Option<usize> {
    let unprefixed = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - unprefixed.len();
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + length);
    }
    let quote = unprefixed.chars().next()?;
    match quote {
        '"' => Some(prefix + quoted(unprefixed, '"')),
        '\'' => {
            let inside = &unprefixed[1..];
            let is_character = inside.starts_with('\\') || inside.chars().nth(1) == Some('\'');
            is_character.then(|| prefix + quoted(unprefixed, '\''))
        }
        _ => None,
    }
}

/// The length of a literal that starts with `quote` and ends with the next one that is not escaped.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Rust source up to its module of tests.
#[must_use]
pub fn before_tests(text: &str) -> &str {
    text.find("\n#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank() {
        for (text, code) in [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* y */ z */ b", "a                     b"),
            (r#"f("un\"safe", 'x', '\'')"#, "f(           ,    ,     )"),
            ("r#\"a\"b\"# + br\"c\"", "           +      "),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ] {
            let found = code_only(text);
            assert_eq!(
                found.split_whitespace().collect::<Vec<_>>(),
                code.split_whitespace().collect::<Vec<_>>()
            );
            assert_eq!(found.chars().count(), text.chars().count(), "{text:?}");
        }
    }

    #[test]
    fn identifiers_that_end_like_a_prefix_are_code() {
        assert_eq!(code_only("bar b"), "bar b");
        assert_eq!(code_only("number'"), "number'");
    }

    #[test]
    fn this_file_is_found() {
        let files = files().unwrap();
        assert!(files.iter().any(|file| file.path == "tests/src/source.rs"));
    }
}
