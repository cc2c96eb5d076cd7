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

const CRIO: &str = "[crio.runtime]\ndefault_runtime = 'runc'\ncgroup_manager = 'cgroupfs'\n[crio.runtime.runtimes.runc]\n\
                    runtime_path = '/bin/sh'\n[crio.runtime.runtimes.gone]\nruntime_path = '/no/such/runtime'\n";

#[test]
fn configuration_of_other_programs_is_shown_with_the_place_of_each_key() {
    let place = Place::new();
    let crio = place.write("crio.conf", CRIO);
    let answer = place.call(&["handlers", "show", "--origin", "--crio", &crio]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let key = format!("paths = [\"/bin/sh\"]  {crio}:5 [crio.runtime.runtimes.runc] runtime_path");
    assert!(answer.stdout.contains(&key), "{answer:?}");
    assert!(answer.stdout.contains("unavailable: no executable /no/such/runtime"), "{answer:?}");
    let containers =
        place.write("containers.conf", "[engine]\nruntime = 'mine'\n[engine.runtimes]\nmine = ['/bin/sh']\n");
    let answer = place.call(&["handlers", "select", "--containers", &containers]);
    assert!(answer.stdout.contains("it is the default"), "{answer:?}");
    let refused =
        place.write("refused.toml", "[runtimes.a]\nkind = 'oci'\npath = '/bin/sh'\noptions = { x = 1 }\n");
    let answer = place.call(&["handlers", "show", "--native", &refused]);
    assert!(answer.stdout.contains("unavailable: options: unknown field `x`"), "{answer:?}");
    let both = place.call(&["handlers", "show", "--crio", &crio, "--containers", &containers]);
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn a_broken_handler_of_another_program_is_a_note_unless_it_is_the_default() {
    let place = Place::new();
    let crio = place.write("crio.conf", CRIO);
    let check = |file: &str, more: &[&str]| {
        let args = ["handlers", "check", "--crio", file];
        place.call(&args.iter().chain(more).copied().collect::<Vec<_>>())
    };
    assert_eq!(check(&crio, &["--strict"]).code, 0);
    let host = check(&crio, &["--host"]);
    assert!(host.code == 0 && host.stdout.contains("0 errors, 1 note\n"), "{host:?}");
    assert_eq!(check(&crio, &["--host", "--strict"]).code, 1);
    let default = place.write("default.conf", &CRIO.replace("= 'runc'", "= 'gone'"));
    assert_eq!(check(&default, &[]).code, 0);
    let host = check(&default, &["--host"]);
    assert!(host.code == 1 && host.stderr.contains("\"gone\" is unavailable"), "{host:?}");
    let slip = place.write("slip.conf", &CRIO.replace("runtime_path", "runtime_pth"));
    let told = check(&slip, &[]);
    assert!(told.code == 0 && told.stdout.contains("did you mean \"runtime_path\"?"), "{told:?}");
    assert_eq!(check(&slip, &["--strict"]).code, 1);
    let wrong = place.write("wrong.conf", "[crio.runtime]\ndefault_runtime = 1\n");
    assert_eq!(check(&wrong, &[]).code, 1);
    assert_eq!(check("/no/such/crio.conf", &[]).code, 2);
}

#[test]
fn handlers_are_written_for_other_programs_and_come_back() {
    let place = Place::new();
    let crio = place.write("crio.conf", CRIO);
    for (to, option) in [("native", "native"), ("crio", "crio")] {
        let answer = place.call(&["handlers", "convert", "--crio", &crio, "--to", to]);
        assert_eq!(answer.code, 0, "{answer:?}");
        let file = place.write(&format!("{to}.toml"), &answer.stdout);
        let again = place.call(&["handlers", "convert", &format!("--{option}"), &file, "--to", "native"]);
        let first = place.call(&["handlers", "convert", "--crio", &crio, "--to", "native"]);
        assert_eq!(again.stdout, first.stdout, "{to}");
    }
    let containerd = place.call(&["handlers", "convert", "--crio", &crio, "--to", "containerd"]);
    assert!(containerd.stdout.contains("BinaryName = \"/bin/sh\""), "{containerd:?}");
    assert!(containerd.stderr.contains("min_memory of the handler \"runc\" is left out"), "{containerd:?}");
}

#[test]
fn of_several_candidates_the_one_that_is_here_is_written_for_other_programs() {
    let place = Place::new();
    let text = "[engine]\nruntime = 'mine'\n[engine.runtimes]\nmine = ['/opt/mine', '/bin/sh']\n";
    let containers = place.write("containers.conf", text);
    for (to, wanted) in [("crio", "runtime_path = \"/bin/sh\""), ("containerd", "BinaryName = \"/bin/sh\"")] {
        let answer = place.call(&["handlers", "convert", "--containers", &containers, "--to", to]);
        assert!(answer.code == 0 && answer.stdout.contains(wanted), "{answer:?}");
        let note =
            "candidates for the binary of the handler \"mine\" only /bin/sh is kept: there is place for one";
        assert!(answer.stderr.contains(note), "{answer:?}");
    }
    let native = place.call(&["handlers", "convert", "--containers", &containers, "--to", "native"]);
    assert!(native.stdout.contains("paths = [\"/opt/mine\", \"/bin/sh\""), "{native:?}");
}

#[test]
fn two_configurations_are_compared() {
    let place = Place::new();
    let old = place.write("handlers.toml", TABLE);
    let new = place.write("new.toml", &TABLE.replace("default = 'one'\n", "").replace("Two_2", "two"));
    let native = format!("native:{new}");
    let answer = place.call(&["handlers", "diff", &old, &native]);
    assert_eq!(answer.code, 1, "{answer:?}");
    assert_eq!(answer.stdout, "default: one -> none\n- Two_2\n+ two\n");
    assert_eq!(place.call(&["handlers", "diff", &old, &old]).code, 0);
    assert_eq!(place.call(&["handlers", "diff", &old, "native:/no/such/file"]).code, 2);
    let crio = format!("crio:{}", place.write("any.name", CRIO));
    assert_eq!(place.call(&["handlers", "diff", &crio, &crio]).code, 0);
    for (guess, what) in [(new.as_str(), "its name does not tell"), ("podman:/x", "\"podman\" is no dialect")]
    {
        let answer = place.call(&["handlers", "diff", &old, guess]);
        assert_eq!(answer.code, 2, "{answer:?}");
        assert!(answer.stderr.contains(what) && answer.stderr.contains("containers:PATH"), "{answer:?}");
    }
}

#[test]
fn show_names_the_files_that_were_read() {
    let place = Place::new();
    let crio = place.write("crio.conf", CRIO);
    std::fs::create_dir(place.path("crio.conf.d")).unwrap();
    let drop_ins: Vec<_> = (1..=3)
        .map(|nth| place.write(&format!("crio.conf.d/{nth}.conf"), "[crio.runtime]\nno_pivot = true\n"))
        .collect();
    let answer = place.call(&["handlers", "show", "--crio", &crio]);
    let first = format!("crio: {crio}, {}, {} and 1 more (--origin names all)\n", drop_ins[0], drop_ins[1]);
    assert!(answer.stdout.starts_with(&first), "{answer:?}");
    let answer = place.call(&["handlers", "show", "--origin", "--crio", &crio]);
    assert!(answer.stdout.starts_with(&format!("crio: {crio}, {}\n", drop_ins.join(", "))), "{answer:?}");
}

#[test]
fn what_cri_o_writes_by_itself_is_no_note() {
    let place = Place::new();
    let text = CRIO
        .replace("cgroupfs", "systemd")
        .replace("'/bin/sh'", "'/bin/sh'\nmonitor_cgroup = 'system.slice'");
    let crio = place.write("crio.conf", &text);
    let answer = place.call(&["handlers", "check", "--strict", "--crio", &crio]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let crio = place.write("crio.conf", &text.replace("system.slice", "pod"));
    assert_eq!(place.call(&["handlers", "check", "--strict", "--crio", &crio]).code, 1);
}

#[test]
fn a_directory_is_no_binary() {
    let place = Place::new();
    let config = place.write("h.toml", "[runtimes.one]\nkind = 'oci'\npath = '/usr'\n");
    let answer = place.call(&["handlers", "check", "--host", "--native", &config]);
    assert!(answer.stdout.contains("no executable /usr"), "{answer:?}");
}

#[test]
fn a_handler_is_chosen_by_path_capability_and_runtime_class() {
    let place = Place::new();
    let table = "default = 'small'\n[runtimes.small]\nkind = 'fake'\noptions = { profile = 'minimal' }\n[runtimes.full]\nkind = 'fake'\n\
                 [runtimes.sh]\nkind = 'oci'\npath = '/bin/sh'\n";
    let config = place.write("h.toml", table);
    let select = |args: &[&str]| {
        let all = ["handlers", "select", "--native", &config];
        place.call(&all.iter().chain(args).copied().collect::<Vec<_>>())
    };
    let can = select(&["--can", "checkpoint"]);
    assert!(can.stdout.contains("handler   full"), "{can:?}");
    assert!(can.stdout.contains("not small: not supported (checkpoint)"), "{can:?}");
    assert!(select(&["/bin/sh"]).stdout.contains("the handler \"sh\" names this binary"));
    assert!(select(&["/opt/containerd-shim-x-v2"]).stdout.contains("kind      vm"));
    assert_eq!(select(&["--can", "flight"]).code, 2);
    let class = |handler: &str| {
        format!(
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: strict}}\nhandler: {handler}\n\
             overhead: {{podFixed: {{memory: 160Mi}}}}\n"
        )
    };
    let good = place.write("good.yaml", &class("full"));
    let chosen = select(&["--runtime-class", &good]);
    assert!(chosen.stdout.contains("the RuntimeClass \"strict\" names it"), "{chosen:?}");
    assert!(chosen.stdout.contains("overhead  memory 160Mi"), "{chosen:?}");
    let bad = place.write("bad.yaml", &class("ful"));
    let refused = select(&["--runtime-class", &bad]);
    assert!(refused.code != 0 && refused.stderr.contains("bad.yaml:4"), "{refused:?}");
    let check =
        |file: &str| place.call(&["handlers", "check", "--native", &config, "--runtime-class", file]).code;
    assert_eq!((check(&good), check(&bad), check("/no/such/file")), (0, 1, 2));
}

#[test]
fn what_the_other_program_was_given_on_its_command_line_counts() {
    let place = Place::new();
    let crio = place.write("crio.conf", CRIO);
    let given = ["handlers", "select", "--crio", &crio, "--runtimes", "mine:/bin/sh:/run/mine", "mine"];
    let answer = place.call(&given);
    assert!(answer.code == 0 && answer.stdout.contains("origin    --runtimes"), "{answer:?}");
    let wrong = place.call(&["handlers", "show", "--crio", &crio, "--runtimes", "mine:/bin/sh"]);
    assert!(wrong.code != 0 && wrong.stderr.contains("NAME:PATH:ROOT"), "{wrong:?}");
    assert_eq!(place.call(&["handlers", "show", "--runtimes", "mine:/bin/sh:"]).code, 2);
    let containers =
        place.write("containers.conf", "[engine]\nruntime = 'mine'\n[engine.runtimes]\nmine = ['/bin/sh']\n");
    std::fs::create_dir(place.path("containers.conf.modules")).unwrap();
    place.write("containers.conf.modules/debug.conf", "[engine.runtimes_flags]\nmine = ['debug']\n");
    let answer =
        place.call(&["handlers", "show", "--origin", "--containers", &containers, "--module", "debug.conf"]);
    assert!(answer.stdout.contains("args = [\"--debug\"]"), "{answer:?}");
}

#[test]
fn handlers_that_run_does_not_read_by_itself_are_marked_so() {
    let place = Place::new();
    let podman = place.write("containers.conf", "[engine]\nruntime = 'crun'\n");
    let mut command = place.command(&["handlers", "show"]);
    let searched = crate::invoke::finish(command.env("CONTAINERS_CONF", &podman).spawn().unwrap());
    // The host may have a table of Manyrun's own.
    let is_own = searched.stdout.starts_with("native:");
    assert_eq!(
        searched.stdout.contains("hint: these are not the handlers of `manyrun run`"),
        !is_own,
        "{searched:?}"
    );
    let named = place.call(&["handlers", "show", "--containers", &podman]);
    assert!(named.code == 0 && !named.stdout.contains("hint:"), "{named:?}");
}

#[test]
fn a_bare_name_becomes_a_path_for_cri_o_or_is_left_out() {
    let place = Place::new();
    let table =
        "[runtimes.one]\nkind = 'oci'\npath = 'sh'\n[runtimes.two]\nkind = 'oci'\npath = 'no-such-program'\n";
    let table = place.write("handlers.toml", table);
    let answer = place.call(&["handlers", "convert", "--config", &table, "--to", "crio"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let paths: Vec<_> = answer.stdout.lines().filter(|line| line.starts_with("runtime_path")).collect();
    assert!(paths.len() == 1 && paths[0].ends_with("/sh\""), "{answer:?}");
    assert!(answer.stderr.contains("CRI-O takes a path, and no-such-program is none"), "{answer:?}");
}

#[test]
fn a_handler_that_is_not_installed_is_not_said_to_lack_a_capability() {
    let place = Place::new();
    let table = "default = 'gone'\n[runtimes.gone]\nkind = 'oci'\npath = '/nonexistent/crun'\n[runtimes.model]\nkind = 'fake'\n";
    let table = place.write("handlers.toml", table);
    let answer = place.call(&["handlers", "select", "--config", &table, "--can", "pause"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(
        answer.stdout.contains("gone: it is not usable on this host: no executable /nonexistent/crun"),
        "{answer:?}"
    );
    let only = "default = 'gone'\n[runtimes.gone]\nkind = 'oci'\npath = '/nonexistent/crun'\n";
    let only = place.write("only.toml", only);
    let answer = place.call(&["handlers", "select", "--config", &only, "--can", "pause"]);
    assert_eq!((answer.code, answer.stderr.matches("not available").count()), (125, 1), "{answer:?}");
}
