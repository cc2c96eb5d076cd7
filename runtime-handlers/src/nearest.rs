//! The known name that a mistyped one probably meant.

/// More edits than this are another name, however long it is.
const MOST: usize = 4;

/// The closest of `known` to `typed`, if any is close enough to be worth proposing.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (typed.chars().count().max(3) / 3).min(MOST);
    let (typed, length) = (typed.to_lowercase(), typed.chars().count());
    known
        .into_iter()
        .filter(|name| name.chars().count().abs_diff(length) <= limit)
        .map(|name| (distance(&typed, &name.to_lowercase()), name))
        .filter(|(steps, _)| *steps <= limit)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, name)| name)
}

/// How many single-character edits lead from one to the other.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["path", "paths", "root", "monitor"];
        assert_eq!(nearest("pathz", known), Some("path"));
        assert_eq!(nearest("moniter", known), Some("monitor"));
        assert_eq!(nearest("rot", known), Some("root"));
        assert_eq!(nearest("PATH", known), Some("path"), "capital letters are no slip of their own");
        assert_eq!(nearest("snapshotter", known), None);
        assert_eq!(distance("", "abc"), 3);
    }
}
