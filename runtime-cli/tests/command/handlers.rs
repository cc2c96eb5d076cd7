//! `manyrun handlers`.

use serde_json::Value;

use crate::invoke::Place;

const TABLE: &str = "default = 'one'\n[runtimes.one]\nkind = 'fake'\n\n[runtimes.Two_2]\ninherits = 'one'\n";

#[test]
fn show_tells_every_handler_and_where_it_stands() {
    let place = Place::new();
    let config = place.write("h.toml", TABLE);
    let answer = place.call(&["handlers", "show", "--origin", "--config", &config]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.contains(&format!("{config}:2 [runtimes.one]")), "{answer:?}");
    assert!(answer.stdout.contains("* one"), "{answer:?}");
    let answer = place.call(&["handlers", "show", "--config", &config, "--json", "-"]);
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(document["default"], "one");
    assert_eq!(document["handlers"]["Two_2"]["kind"], "fake");
}

#[test]
fn check_has_an_exit_code_for_each_outcome() {
    let place = Place::new();
    let noted = place.write("noted.toml", TABLE);
    assert_eq!(place.call(&["handlers", "check", "--config", &noted]).code, 0);
    let strict = place.call(&["handlers", "check", "--strict", "--config", &noted]);
    assert_eq!(strict.code, 1, "{strict:?}");
    assert!(strict.stdout.contains("RuntimeClass"), "{strict:?}");
    let kind = place.write(
        "kind.toml",
        "[runtimes.one]\nkind = 'jail'\n[runtimes.two]\nkind = 'vm'\noptions = { x = 1 }\n",
    );
    let answer = place.call(&["handlers", "check", "--config", &kind]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(
        answer.stderr.contains("jail") && answer.stderr.contains("`x`"),
        "all errors are told: {answer:?}"
    );
    let broken = place.write("broken.toml", "[runtimes.one\n");
    assert_eq!(place.call(&["handlers", "check", "--config", &broken]).code, 1);
    let binary = place.path("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    assert_eq!(place.call(&["handlers", "check", "--config", &binary.display().to_string()]).code, 2);
    assert_eq!(place.call(&["handlers", "check", "--config", "/no/such/file"]).code, 2);
}

#[test]
fn select_shows_what_a_container_would_get() {
    let place = Place::new();
    let config = place.write("h.toml", TABLE);
    let answer = place.call(&["handlers", "select", "--config", &config, "--json", "-"]);
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(document["handler"]["name"], "one");
    assert_eq!(document["snapshot"].as_str().unwrap().len(), 12);
    let unknown = place.call(&["handlers", "select", "--config", &config, "three"]);
    assert_eq!(unknown.code, 125);
    assert!(unknown.stderr.contains("Two_2, one"), "{unknown:?}");
}
