//! What choosing a handler costs: it is done for every container, beside reloads.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::sync::mpsc;

use runtime_api::HandlerName;
use runtime_handlers::native::{self, Source};
use runtime_handlers::{HandlerTable, Registry, Runtime, runtime_class};

fn many() -> HandlerTable {
    let mut text = "default = 'h500'\n".to_owned();
    for nth in 0..1000 {
        text.push_str(&format!("[runtimes.h{nth}]\nkind = 'oci'\npath = '/usr/bin/h{nth}'\n"));
    }
    native::parse(&[Source::new("handlers.toml", text)]).unwrap()
}

#[test]
fn choosing_a_handler_allocates_nothing() {
    let runtime = Runtime::new(many(), Registry::new(), "/nonexistent/base");
    let name = HandlerName::new("h999").unwrap();
    let manifest = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: a}\nhandler: h7\n";
    let (classes, _) = runtime_class::parse(&Source::new("class.yaml", manifest)).unwrap();
    // The first look of a thread at the table makes its place in the list of readers.
    drop(runtime.table());
    let info = allocation_counter::measure(|| {
        for _ in 0..100 {
            let table = runtime.table();
            assert_eq!(table.select(None).unwrap().name.as_str(), "h500");
            assert_eq!(table.select(Some(&name)).unwrap().name.as_str(), "h999");
            assert_eq!(classes[0].resolve(&table).unwrap().name.as_str(), "h7");
        }
    });
    assert_eq!((info.count_total, info.bytes_total), (0, 0), "{info:?}");
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(7_u64))));
    assert_eq!(counted.count_total, 1, "the counter counts");
}

/// A reload holds the one lock that there is around the table until it has read everything.
#[test]
fn choosing_a_handler_waits_for_no_reload() {
    let runtime = Runtime::new(many(), Registry::new(), "/nonexistent/base");
    let (say, heard) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        let runtime = &runtime;
        scope.spawn(move || {
            runtime.reload(|| {
                say.send(()).unwrap();
                // Until the other thread has chosen.
                answered.recv().unwrap();
                Ok(HandlerTable::built_in())
            })
        });
        heard.recv().unwrap();
        assert_eq!(runtime.table().select(None).unwrap().name.as_str(), "h500");
        answer.send(()).unwrap();
    });
    assert_eq!(runtime.table().select(None).unwrap().name.as_str(), "crun");
}
