//! One test per clause, made from the one list.

/// Makes a `#[test]` of every clause, named `area::words_of_the_sentence`, that runs it against the given
/// [`Harness`](crate::Harness).
///
/// The argument is an expression; it is evaluated once per test. The tests stand in modules named after the areas, so
/// two of these in one file need a module each:
///
/// ```text
/// mod full { runtime_test::conformance_tests!(super::Mine::full()); }
/// mod minimal { runtime_test::conformance_tests!(super::Mine::minimal()); }
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($harness:expr) => {
        fn conformance_harness() -> impl $crate::Harness {
            $harness
        }
        $crate::each_clause! { $crate::conformance_test_functions }
    };
}

/// Makes modules of tests. Part of [`conformance_tests!`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_test_functions {
    ($($area:ident { $($name:ident,)+ })+) => {
        $(mod $area {
            $(#[test]
            fn $name() {
                $crate::suite::keeps(super::conformance_harness(), &$crate::clauses::$area::$name::CLAUSE);
            })+
        })+
    };
}
