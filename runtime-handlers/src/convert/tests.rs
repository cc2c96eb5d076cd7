use crate::native::{self, Source};

#[test]
fn the_example_of_the_native_dialect_comes_back() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/handlers.toml");
    let table = native::parse(&[Source::new(path, std::fs::read_to_string(path).unwrap())]).unwrap();
    let converted = super::to_native(&table);
    let again = native::parse(&[Source::new("again.toml", converted.text.as_str())]).unwrap();
    let keys = |table: &crate::HandlerTable| {
        let keys = table.handlers.values().map(|config| format!("{:?}", super::native_keys(config)));
        (table.default.clone(), keys.collect::<Vec<_>>())
    };
    assert_eq!(keys(&again), keys(&table), "{}", converted.text);
    assert_eq!(converted.left_out.len(), 1, "the pattern that is switched off");
}
