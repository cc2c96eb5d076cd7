//! Many handlers in many files, and choosing one of them.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::fmt::Write as _;

use runtime_handlers::native::{self, Source};
use runtime_handlers::{HandlerTable, load};

#[test]
fn a_thousand_drop_ins_are_read_and_each_key_knows_its_file() {
    let place = tempfile::tempdir().unwrap();
    let main = place.path().join("crio.conf");
    std::fs::write(&main, "[crio.runtime]\ndefault_runtime = 'h0500'\n").unwrap();
    let folder = place.path().join("crio.conf.d");
    std::fs::create_dir(&folder).unwrap();
    for nth in 0..1000 {
        let text = format!(
            "[crio.runtime.runtimes.h{nth:04}]\nruntime_path = '/usr/bin/crun'\nruntime_root = '/run/h{nth}'\n\
             monitor_env = ['A=1']\nallowed_annotations = ['devices.crio.io']\n"
        );
        std::fs::write(folder.join(format!("{nth:04}.conf")), text).unwrap();
    }
    let began = std::time::Instant::now();
    let table = load::crio(&main).unwrap();
    println!("1,000 drop-ins with 1,000 handlers: {:?}", began.elapsed());
    assert_eq!((table.handlers.len(), table.sources.len()), (1001, 1001));
    let default = table.select(None).unwrap();
    assert!(default.origin.to_string().contains("0500.conf:1 "), "{}", default.origin);
}

/// A main file, and drop-ins of which each begins a handler and changes another; each handler inherits from the one before.
fn inheriting(many: usize) -> Vec<Source> {
    let mut main = "default = 'h0'\n".to_owned();
    let handler = |nth: usize| match nth {
        0 => "[runtimes.h0]\nkind = 'oci'\npath = '/usr/bin/crun'\nargs = ['-v']\n".to_owned(),
        _ => format!("[runtimes.h{nth}]\ninherits = 'h{}'\nroot = '/run/h{nth}'\n", nth - 1),
    };
    for nth in 0..many {
        main.push_str(&handler(nth));
    }
    let mut sources = vec![Source::new("handlers.toml", main)];
    for nth in 0..many {
        let mut text = format!("[runtimes.h{nth}]\nmin_memory = {nth}\n");
        write!(text, "[runtimes.new{nth}]\ninherits = 'h{nth}'\n").unwrap();
        sources.push(Source::new(format!("handlers.toml.d/{nth}.toml"), text));
    }
    sources
}

fn read(sources: &[Source]) -> (HandlerTable, u64) {
    let began = std::time::Instant::now();
    let mut table = None;
    let counted = allocation_counter::measure(|| table = Some(native::parse(sources).unwrap()));
    println!("{} files: {:?}, {} allocations", sources.len(), began.elapsed(), counted.count_total);
    (table.unwrap(), counted.count_total)
}

/// Times would depend on the machine; how much is allocated does not.
#[test]
fn a_long_line_of_inheriting_handlers_costs_no_more_for_each() {
    let (_, small) = read(&inheriting(250));
    let (table, large) = read(&inheriting(1000));
    assert_eq!((table.handlers.len(), table.notes.len()), (2000, 1000));
    let last = table.handlers.values().find(|config| config.name.as_str() == "new999").unwrap();
    assert_eq!((last.args.len(), last.min_memory), (1, Some(999)));
    assert_eq!(last.root.as_deref(), Some("/run/h999".as_ref()));
    assert!(large < small * 5, "four times as many handlers took {large} allocations instead of {small}");
}

/// The other way to be slow is to look through everything for each.
#[test]
fn a_circle_of_many_handlers_is_named_shortly() {
    let mut sources = inheriting(1000);
    sources.push(Source::new("last.toml", "[runtimes.h0]\ninherits = 'h999'\n"));
    let error = native::parse(&sources).unwrap_err();
    let text = error.report();
    assert!(text.contains("it inherits itself: ") && text.len() < 300, "{text}");
    assert_eq!(error.subject().map(|at| at.ends_with(']')), Some(true));
}
