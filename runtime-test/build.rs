//! Builds the probe program and hands it to the library, which embeds it.
//!
//! The program goes into root file systems that hold nothing else, so it is linked statically. Cargo cannot build one
//! package for the host and another statically in one run; calling the compiler for one file of `std` code can.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), String> {
    for file in ["build.rs", "probe/main.rs", "src/script.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let target = variable("TARGET")?;
    if !target.contains("-linux-") {
        return Err(format!("runtime-test needs Linux; the target is {target}"));
    }
    let output = Path::new(&variable("OUT_DIR")?).join("manyrun-probe");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--crate-name", "manyrun_probe", "--crate-type", "bin", "--edition", "2024"]);
    rustc.args(["-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols"]);
    rustc.args(["-C", "target-feature=+crt-static", "--target", &target]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    rustc.arg("-o").arg(&output).arg("probe/main.rs");
    let status = rustc.status().map_err(|error| format!("cannot run {rustc:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{rustc:?} failed: {status}")) }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("cargo did not set {name}: {error}"))
}
