//! The documentation of the trait and the list of clauses say the same.

use std::collections::BTreeSet;
use std::path::Path;

use runtime_test::clauses;

/// The file of the trait, with the documentation that stands in files of its own where it belongs.
fn contract() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime-api/src");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("it is in the repository");
    let mut text = String::new();
    for line in read("runtime.rs").lines() {
        let included = line.trim().strip_prefix("#[doc = include_str!(\"");
        match included.and_then(|rest| rest.strip_suffix("\")]")) {
            Some(name) => read(name).lines().for_each(|line| text.push_str(&format!("    /// {line}\n"))),
            None => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

/// The bullets of the trait's documentation, each on one line.
fn bullets() -> Vec<String> {
    let mut bullets: Vec<String> = Vec::new();
    let mut open = false;
    for line in contract().lines() {
        let Some(text) = line.trim_start().strip_prefix("///") else {
            open = false;
            continue;
        };
        if let Some(begun) = text.strip_prefix(" - ") {
            bullets.push(begun.trim().to_owned());
            open = true;
        } else if let (Some(rest), Some(bullet), true) = (text.strip_prefix("   "), bullets.last_mut(), open)
        {
            bullet.push(' ');
            bullet.push_str(rest.trim());
        } else {
            open = false;
        }
    }
    bullets
}

/// The backticked id at the end of a bullet, which may go on with "and" in the next one.
fn id_of(bullet: &str) -> Option<&str> {
    let end = bullet.trim_end_matches(',').strip_suffix('`')?;
    let id = &end[end.rfind('`')? + 1..];
    let of_an_id = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'-');
    (id.contains('.') && id.contains('-') && id.bytes().all(of_an_id)).then_some(id)
}

#[test]
fn every_bullet_ends_with_a_clause_that_exists() {
    let bullets = bullets();
    assert!(bullets.len() > 80, "the bullets are found: {}", bullets.len());
    for bullet in &bullets {
        let id = id_of(bullet).unwrap_or_else(|| panic!("no clause id at the end of: {bullet}"));
        assert!(clauses::find(id).is_some(), "there is no clause {id}, which ends: {bullet}");
    }
}

#[test]
fn every_clause_is_a_sentence_of_the_documentation() {
    let bullets = bullets();
    let documented: BTreeSet<&str> = bullets.iter().filter_map(|bullet| id_of(bullet)).collect();
    for clause in clauses::ALL {
        assert!(documented.contains(clause.id), "no bullet ends with {}", clause.id);
    }
}

#[test]
fn a_clause_stands_in_the_documentation_of_its_operation() {
    // The trait's own documentation and the states' times are about several operations.
    let contract = contract();
    let methods: Vec<(&str, String)> = contract
        .split("async fn ")
        .zip(contract.split("async fn ").skip(1))
        .filter_map(|(before, after)| {
            let name = after.split_once('(')?.0;
            let docs = before.rsplit_once("\n\n").map_or(before, |(_, docs)| docs);
            Some((name, docs.to_owned()))
        })
        .collect();
    for clause in clauses::ALL {
        let ends = format!("`{}`", clause.id);
        let places: Vec<&str> =
            methods.iter().filter(|(_, docs)| docs.contains(&ends)).map(|(name, _)| *name).collect();
        // The id may have the words of the method in another order: `stats.disk` is `disk_stats`.
        let words = |name: &str| name.split(['.', '-', '_']).map(str::to_owned).collect::<BTreeSet<_>>();
        let method = words(clause.operation.id());
        assert!(
            places.is_empty() || places.iter().any(|place| words(place) == method),
            "{} stands in {places:?}, and names the operation {}",
            clause.id,
            clause.operation
        );
    }
}
