//! The suite over backends whose peers are fake ones, with the options and the report of `manyrun conformance`.

use std::process::ExitCode;

use manyrun_tests::fake_shim::FakeShimHarness;

fn main() -> ExitCode {
    runtime_test::cli::main(FakeShimHarness::default)
}
