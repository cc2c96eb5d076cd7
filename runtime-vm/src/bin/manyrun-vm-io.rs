//! The monitor of a containerd shim: it carries what the shim's programs read and print, and writes down how they end.
//!
//! It is started by whatever uses `runtime-vm`, with the directory that holds its order; see `runtime_vm::monitor`.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let dir = match (arguments.next(), arguments.next()) {
        (Some(word), None) if word == "--version" => {
            println!("manyrun-vm-io {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        (Some(dir), None) if Path::new(&dir).is_absolute() => dir,
        _ => {
            eprintln!(
                "usage: manyrun-vm-io DIRECTORY\n\nIt is started by manyrun, one for each containerd shim."
            );
            return ExitCode::from(2);
        }
    };
    runtime_vm::monitor::run(Path::new(&dir)).unwrap_or_else(|error| {
        eprintln!("manyrun-vm-io: {error}");
        ExitCode::FAILURE
    })
}
