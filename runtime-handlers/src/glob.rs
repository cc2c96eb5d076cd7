//! Patterns with `*` (any run of characters but `/`), `?` (one character but `/`), `[a-z]`, `[^a-z]`, and `\` before a
//! character that is meant as it is. This is how containerd and Go read them.

/// Whether the whole text is what the pattern describes. `None` for a pattern that is malformed.
pub(crate) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern = parse(pattern)?;
    let text: Vec<char> = text.chars().collect();
    // Where to go on when what follows the last star does not fit: the star takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    let (mut at, mut read) = (0, 0);
    loop {
        let fits = match (pattern.get(at), text.get(read)) {
            (None, None) => return Some(true),
            (Some(Piece::Any), _) => {
                retry = Some((at + 1, read));
                at += 1;
                continue;
            }
            (Some(piece), Some(character)) => piece.fits(*character),
            _ => false,
        };
        if fits {
            (at, read) = (at + 1, read + 1);
            continue;
        }
        match retry {
            Some((after, from)) if text.get(from).is_some_and(|character| *character != '/') => {
                retry = Some((after, from + 1));
                (at, read) = (after, from + 1);
            }
            _ => return Some(false),
        }
    }
}

/// Whether it holds a character with a meaning.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

enum Piece {
    Any,
    One,
    Exactly(char),
    Among { ranges: Vec<(char, char)>, inside: bool },
}

impl Piece {
    fn fits(&self, character: char) -> bool {
        match self {
            Self::Any => true,
            Self::One => character != '/',
            Self::Exactly(wanted) => *wanted == character,
            Self::Among { ranges, inside } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) == *inside
            }
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        pieces.push(match character {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Exactly(characters.next()?),
            '[' => {
                let inside = characters.next_if_eq(&'^').is_none();
                let mut ranges = Vec::new();
                while ranges.is_empty() || characters.peek() != Some(&']') {
                    let low = one(&mut characters)?;
                    let high =
                        if characters.next_if_eq(&'-').is_some() { one(&mut characters)? } else { low };
                    ranges.push((low, high));
                }
                characters.next();
                Piece::Among { ranges, inside }
            }
            other => Piece::Exactly(other),
        });
    }
    Some(pieces)
}

/// One end of a range.
fn one(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match characters.next()? {
        '\\' => characters.next(),
        '-' | ']' => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_describe_whole_texts() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/c", "ab/c", true),
            ("*.d", "x.d.d", true),
            ("*a*b", "xaxxab", true),
            ("*a*b", "xaxxa", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*", "*", true),
            ("io.katacontainers.*", "io.katacontainers.config.hypervisor", true),
            ("io.katacontainers.*", "io.katacontainers", false),
        ] {
            assert_eq!(matches(pattern, text), Some(fits), "{pattern} {text}");
        }
    }

    #[test]
    fn malformed_patterns_are_told_apart() {
        for bad in ["[", "[]", "[a", "[a-", "[-]", "\\", "[]a]"] {
            assert_eq!(matches(bad, "a"), None, "{bad}");
        }
    }
}
