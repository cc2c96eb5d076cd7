use super::*;

const FULL: &str = "\
# The documented shape.
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: { name: vm-strict, labels: { a: b } }
handler: kata-qemu
overhead:
  podFixed: { cpu: 250m, memory: 160Mi, ephemeral-storage: 1 }
scheduling:
  nodeSelector: { example.org/virt: \"true\" }
  tolerations:
    - { key: virt, operator: Exists, effect: NoSchedule }
    - key: slow
      value: \"1\"
      effect: NoExecute
      tolerationSeconds: 30
";

fn read(text: &str) -> Result<(Vec<RuntimeClass>, Vec<Note>)> {
    parse(&Source::new("class.yaml", text))
}

#[test]
fn every_field_is_read() {
    let (classes, notes) = read(FULL).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let [class] = classes.as_slice() else { panic!("{classes:?}") };
    assert_eq!((class.name.as_str(), class.handler.as_str()), ("vm-strict", "kata-qemu"));
    assert_eq!(class.origin.to_string(), "class.yaml:5 [top level]");
    let overhead: Vec<_> = class.overhead.iter().map(|(name, size)| format!("{name} {size}")).collect();
    assert_eq!(overhead, ["cpu 250m", "ephemeral-storage 1", "memory 160Mi"]);
    assert_eq!(class.node_selector["example.org/virt"], "true");
    assert_eq!(class.tolerations[0].operator.as_deref(), Some("Exists"));
    assert_eq!(class.tolerations[1].toleration_seconds, Some(30));
}

#[test]
fn a_class_finds_its_handler_or_says_why_not() {
    let (classes, _) = read(FULL).unwrap();
    let table = crate::native::parse(&[Source::new("h", "[runtimes.kata-qemu]\nkind = 'vm'\n")]).unwrap();
    assert_eq!(classes[0].resolve(&table).unwrap().kind.as_str(), "vm");
    let error = classes[0].resolve(&HandlerTable::built_in()).unwrap_err();
    assert!(error.is_not_found());
    let report = error.report();
    assert!(
        report.contains("\"vm-strict\" at class.yaml:5") && report.contains("known handlers are"),
        "{report}"
    );
}

#[test]
fn documents_and_lists_are_read_and_others_are_not_looked_at() {
    let small = |name: &str| {
        format!("apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {{name: {name}}}\nhandler: x\n")
    };
    let list = "kind: List\nitems:\n- {apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: c}, handler: y}\n- {kind: Pod}\n";
    let text = format!("{}---\n{}---\nkind: Pod\nspec: 1\n---\n{list}", small("a"), small("b"));
    let (classes, _) = read(&text).unwrap();
    let names: Vec<_> = classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(read("kind: Pod\n").unwrap_err().to_string().contains("there is no RuntimeClass"));
}

#[test]
fn what_the_api_server_refuses_is_refused_where_it_stands() {
    for (line, with, place, what) in [
        ("handler: kata-qemu", "handler: Kata", "class.yaml:5 [top level]", "no DNS label"),
        ("handler: kata-qemu\n", "", "class.yaml:2 [top level]", "\"handler\" is missing"),
        ("name: vm-strict", "name: VM", "class.yaml:4 [metadata]", "no DNS name"),
        ("node.k8s.io/v1", "node.k8s.io/v1alpha1", "class.yaml:2 [top level]", "v1beta1 are read"),
        ("memory: 160Mi", "memory: 160MB", "class.yaml:7 [overhead.podFixed]", "no quantity"),
        ("cpu: 250m", "cpu: -1", "class.yaml:7 [overhead.podFixed]", "negative"),
        ("\"true\"", "true", "class.yaml:9 [scheduling.nodeSelector]", "must be a string"),
        (
            "operator: Exists",
            "operator: Exist",
            "class.yaml:11 [scheduling.tolerations]",
            "did you mean \"Exists\"?",
        ),
        (
            "effect: NoExecute",
            "effect: NoSchedule",
            "class.yaml:12 [scheduling.tolerations]",
            "needs the effect",
        ),
    ] {
        let error = read(&FULL.replace(line, with)).unwrap_err();
        assert!(error.to_string().contains(what), "{with}: {error}");
        assert_eq!(error.subject(), Some(place), "{with}: {error}");
    }
    let (_, notes) = read(&FULL.replace("overhead:", "overheads:")).unwrap();
    assert!(notes[0].text.contains("did you mean \"overhead\"?"), "{notes:?}");
}
