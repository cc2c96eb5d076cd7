use super::*;

fn read(texts: &[&str], there: &[&str]) -> Result<HandlerTable> {
    let sources: Vec<_> =
        texts.iter().enumerate().map(|(nth, text)| Source::new(format!("f{nth}"), *text)).collect();
    parse(&sources, &Has(there))
}

#[derive(Debug)]
struct Has<'a>(&'a [&'a str]);

impl Host for Has<'_> {
    fn has(&self, program: &Path) -> bool {
        self.0.iter().any(|each| Path::new(each) == program)
    }

    fn exists(&self, path: &Path) -> bool {
        self.has(path)
    }
}

fn crun(texts: &[&str], there: &[&str]) -> HandlerConfig {
    let name = HandlerName::new("crun").unwrap();
    read(texts, there).unwrap().handlers.remove(&name).unwrap()
}

#[test]
fn the_default_is_the_first_that_is_there() {
    let default = |there: &[&str]| read(&[], there).unwrap().default.map(|name| name.to_string());
    assert_eq!(default(&["/usr/bin/runc", "/usr/bin/crun"]).as_deref(), Some("crun"));
    assert_eq!(default(&["/usr/sbin/runc"]).as_deref(), Some("runc"));
    assert_eq!(default(&["kata"]).as_deref(), Some("kata"), "on PATH");
    assert_eq!(default(&["/usr/bin/youki"]), None, "it is not among those that are preferred");
}

#[test]
fn arrays_are_replaced_or_added_to() {
    // The four files of the documentation, and what it says comes out.
    let documented = [
        "[engine]\nconmon_env_vars = ['A=1']",
        "[engine]\nconmon_env_vars = ['B=2']",
        "[engine]\nconmon_env_vars = ['C=3', {append = true}]",
        "[engine]\nconmon_env_vars = ['D=4']",
    ];
    assert_eq!(crun(&documented, &[]).monitor.env, ["B=2", "C=3", "D=4"]);
    let mut last = documented;
    last[3] = "[engine]\nconmon_env_vars = ['D=4', {append = false}]";
    assert_eq!(crun(&last, &[]).monitor.env, ["D=4"]);
    let added =
        crun(&["[engine]\nconmon_path = ['/x/conmon', {append = true}]"], &["/x/conmon", "/usr/bin/conmon"]);
    assert_eq!(added.monitor.path.unwrap(), Path::new("/usr/bin/conmon"), "added behind what is built in");
    let replaced = crun(&["[engine]\nconmon_path = ['/x/conmon']"], &["/x/conmon", "/usr/bin/conmon"]);
    assert_eq!(replaced.monitor.path.unwrap(), Path::new("/x/conmon"));
    assert_eq!(crun(&[], &[]).monitor.path, None, "PATH is searched");
}

#[test]
fn other_attributes_are_refused_and_runtimes_take_none() {
    for (text, place) in [
        ("[engine]\nconmon_path = ['/x', {prepend = true}]", "f0:2 [engine]"),
        ("[engine]\nconmon_path = [1]", "f0:2 [engine]"),
        ("[engine]\nconmon_path = 'x'", "f0:2 [engine]"),
        ("[engine.runtimes]\ncrun = ['/x', {append = true}]", "f0:2 [engine.runtimes]"),
        ("[engine.runtimes]\ncrun = '/x'", "f0:2 [engine.runtimes]"),
        ("[engine.runtimes_flags]\ncrunn = ['debug']", "f0:2 [engine.runtimes_flags]"),
        ("[engine]\nruntime = 'crunn'", "f0:2 [engine]"),
        ("[engine]\nruntimes = 1", "f0:2 [engine]"),
        ("engine = 1", "f0:1 [top level]"),
    ] {
        let error = read(&[text], &[]).unwrap_err();
        assert_eq!(error.subject(), Some(place), "{text}: {error}");
    }
}

#[test]
fn a_path_as_the_default_is_a_runtime_of_its_own() {
    let table = read(&["[engine]\nruntime = '/opt/bin/crun-next'"], &[]).unwrap();
    let default = table.select(None).unwrap();
    assert_eq!(
        (default.name.as_str(), default.paths.as_slice()),
        ("crun-next", &[PathBuf::from("/opt/bin/crun-next"), PathBuf::from("crun-next")][..])
    );
}

#[test]
fn path_is_searched_after_all_places() {
    let text = "[engine.runtimes]\ncrun = ['/opt/crun']\nmine = ['/opt/mine']\n";
    let table = read(&[text], &["/usr/bin/crun"]).unwrap();
    let found = |name: &str| table.handlers[&HandlerName::new(name).unwrap()].paths.clone();
    assert_eq!(found("crun"), [Path::new("/opt/crun"), Path::new("crun")]);
    let here = table.resolved(&Has(&["crun"]));
    let name = |text| HandlerName::new(text).unwrap();
    assert!(!here.unavailable.contains_key(&name("crun")), "it is on PATH");
    assert_eq!(here.unavailable[&name("mine")].reason, "no executable /opt/mine nor mine");
}

#[test]
fn the_default_is_chosen_by_the_places_that_are_built_in() {
    let default = |text: &str, there: &[&str]| {
        read(&[text], there).unwrap().default.map(|name| name.to_string()).unwrap_or_default()
    };
    let elsewhere = "[engine.runtimes]\ncrun = ['/opt/crun']\n";
    assert_eq!(default(elsewhere, &["/opt/crun", "/usr/bin/runc"]), "runc");
    assert_eq!(default(elsewhere, &["/usr/bin/crun", "/usr/bin/runc"]), "crun");
    assert_eq!(default(elsewhere, &["/opt/crun"]), "");
}

#[test]
fn cgroups_are_those_of_the_host_unless_a_file_says() {
    let systemd = |texts: &[&str], there: &[&str]| crun(texts, there).options.contains_key("systemd_cgroup");
    assert!(systemd(&[], &[SYSTEMD]) && !systemd(&[], &[]));
    assert!(systemd(&["[engine]\ncgroup_manager = 'systemd'"], &[]));
    assert!(!systemd(&["[engine]\ncgroup_manager = 'cgroupfs'"], &[SYSTEMD]));
}

#[test]
fn slips_outside_the_tables_of_runtimes_are_noted() {
    let told = |text: &str| -> Vec<String> {
        read(&[text], &[]).unwrap().notes.iter().map(ToString::to_string).collect()
    };
    let notes = told("[engin]\n[engine]\ncgroup_managr = 'systemd'\n[containers]\nseccomp_profil = '/x'\n");
    let wanted =
        ["did you mean \"engine\"?", "did you mean \"seccomp_profile\"?", "did you mean \"cgroup_manager\"?"];
    assert!(
        notes.len() == 3 && notes.iter().zip(wanted).all(|(note, what)| note.ends_with(what)),
        "{notes:?}"
    );
    assert!(told("[engine]\nruntime_path = []\ncgroup_check = true\nconmonrs_path = []\n[network]\n[Engine.runtimes]").is_empty());
}

#[test]
fn flags_with_dashes_are_told() {
    let table = read(&["[engine.runtimes_flags]\ncrun = ['--debug', 'x']\n"], &[]).unwrap();
    assert_eq!(table.notes.len(), 1);
    assert!(table.notes[0].text.contains("\"--debug\" gets two dashes more"), "{}", table.notes[0]);
}
