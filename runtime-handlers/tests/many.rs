//! Many handlers in many files, and choosing one of them.

use runtime_handlers::load;

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
