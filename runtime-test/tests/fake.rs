//! The fake keeps every clause, with everything it can do and with the core alone.

mod full {
    runtime_test::conformance_tests!(runtime_test::FakeHarness::full());
}

mod minimal {
    runtime_test::conformance_tests!(runtime_test::FakeHarness::minimal());
}
