//! What the README says about capabilities is what the backends say.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::collections::BTreeMap;

use manyrun_tests::{handler, host, source};
use runtime_api::{
    Capability, HandlerConfig, HandlerName, OpenContext, Origin, RuntimeFactory as _, SharedRuntime,
};
use runtime_test::FakeFactory;

/// Column by column: the heading, and for each capability whether it is a yes.
type Matrix = BTreeMap<String, BTreeMap<String, bool>>;

fn matrix() -> Matrix {
    let readme = std::fs::read_to_string(source::root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("<!-- matrix -->").unwrap();
    let (table, _) = rest.split_once("<!-- /matrix -->").unwrap();
    let mut rows = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let heading = rows.next().unwrap();
    let mut matrix = Matrix::new();
    for row in rows.skip(1) {
        for (column, cell) in heading.iter().zip(&row).skip(1) {
            let capability = row[0].trim_matches('`').to_owned();
            let answers = matrix.entry(column.clone()).or_default();
            answers.insert(capability, cell == "yes");
        }
    }
    matrix
}

fn answers(runtime: &SharedRuntime) -> BTreeMap<String, bool> {
    let capabilities = runtime.capabilities();
    Capability::ALL.iter().map(|each| (each.id().to_owned(), capabilities.has(*each))).collect()
}

fn heading(runtime: &SharedRuntime) -> String {
    let info = runtime.info();
    [info.name.as_str(), info.version.as_deref().unwrap_or_default()].join(" ").trim().to_owned()
}

#[tokio::test]
async fn the_column_of_the_fake_is_what_the_fake_says() {
    let place = tempfile::tempdir().unwrap();
    let factory = FakeFactory::new().unwrap();
    let name = HandlerName::new("fake").unwrap();
    let config = HandlerConfig::new(name, factory.kind(), Origin::other("this test"));
    let fake = factory.open(&config, OpenContext::new(place.path(), "/manyrun/readme")).await.unwrap();
    let matrix = matrix();
    let column = matrix.get(&heading(&fake)).unwrap_or_else(|| panic!("no column {:?}", heading(&fake)));
    assert_eq!(*column, answers(&fake), "left: README.md; right: the fake. Run make matrix");
}

#[tokio::test]
async fn the_columns_of_the_runtimes_here_are_what_they_say() {
    let place = tempfile::tempdir().unwrap();
    let matrix = matrix();
    let mut needs = Vec::new();
    for binary in ["runc", "crun", "vm:runc"] {
        if let Some(need) = host::lacks(binary) {
            needs.push(need);
            continue;
        }
        let config = handler::config(binary).unwrap();
        let context = OpenContext::new(place.path().join(config.name.as_str()), "/manyrun/readme");
        let runtime = handler::open(&config, context).await.unwrap();
        match matrix.get(&heading(&runtime)) {
            Some(column) => {
                assert_eq!(*column, answers(&runtime), "left: README.md; right: {binary}. Run make matrix");
            }
            None => needs.push(format!("README.md has no column for {}", heading(&runtime))),
        }
        runtime.shutdown().await;
    }
    if !needs.is_empty() {
        host::skipped(&needs.join("; "));
    }
}
