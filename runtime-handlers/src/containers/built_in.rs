//! What podman brings along: the runtimes it knows, with the places where it looks for them, and those of conmon.

/// As `[engine]` would say it.
pub(super) const RUNTIMES: &str = r#"
conmon_env_vars = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
conmon_path = [
  "/usr/libexec/podman/conmon", "/usr/local/libexec/podman/conmon", "/usr/local/lib/podman/conmon",
  "/usr/bin/conmon", "/usr/sbin/conmon", "/usr/local/bin/conmon", "/usr/local/sbin/conmon",
  "/run/current-system/sw/bin/conmon",
]
[runtimes]
crun = [
  "/usr/bin/crun", "/usr/sbin/crun", "/usr/local/bin/crun", "/usr/local/sbin/crun", "/sbin/crun", "/bin/crun",
  "/run/current-system/sw/bin/crun",
]
crun-vm = [
  "/usr/bin/crun-vm", "/usr/local/bin/crun-vm", "/usr/local/sbin/crun-vm", "/sbin/crun-vm", "/bin/crun-vm",
  "/run/current-system/sw/bin/crun-vm",
]
crun-wasm = [
  "/usr/bin/crun-wasm", "/usr/sbin/crun-wasm", "/usr/local/bin/crun-wasm", "/usr/local/sbin/crun-wasm",
  "/sbin/crun-wasm", "/bin/crun-wasm", "/run/current-system/sw/bin/crun-wasm",
]
kata = [
  "/usr/bin/kata-runtime", "/usr/sbin/kata-runtime", "/usr/local/bin/kata-runtime", "/usr/local/sbin/kata-runtime",
  "/sbin/kata-runtime", "/bin/kata-runtime", "/usr/bin/kata-qemu", "/usr/bin/kata-fc",
]
krun = ["/usr/bin/krun", "/usr/local/bin/krun"]
ocijail = ["/usr/local/bin/ocijail"]
runc = [
  "/usr/bin/runc", "/usr/sbin/runc", "/usr/local/bin/runc", "/usr/local/sbin/runc", "/sbin/runc", "/bin/runc",
  "/usr/lib/cri-o-runc/sbin/runc", "/run/current-system/sw/bin/runc",
]
runj = ["/usr/local/bin/runj"]
runsc = [
  "/usr/bin/runsc", "/usr/sbin/runsc", "/usr/local/bin/runsc", "/usr/local/sbin/runsc", "/bin/runsc", "/sbin/runsc",
  "/run/current-system/sw/bin/runsc",
]
youki = ["/usr/local/bin/youki", "/usr/bin/youki", "/bin/youki", "/run/current-system/sw/bin/youki"]
"#;
