//! A clause: one sentence of the contract, and the code that holds a runtime to it.

mod check;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use runtime_api::{Capability, Operation};
use serde::Serialize;

use crate::Bench;

pub use check::{Checked, Violation};
pub(crate) use check::{ensure, ensure_eq, refused};

/// What the body of a clause returns while it runs.
pub type Checking<'a> = Pin<Box<dyn Future<Output = Checked> + Send + 'a>>;

/// One sentence of the contract that a runtime keeps or breaks.
#[non_exhaustive]
pub struct Clause {
    /// `area.words-of-the-sentence`.
    pub id: &'static str,
    /// The sentence.
    pub title: &'static str,
    /// The operation whose documentation says it.
    pub operation: Operation,
    /// What a runtime must declare so that the clause is about it. A runtime that does not is held to refuse it.
    pub needs: &'static [Capability],
    /// How long the body may take. It is far more than a slow machine needs.
    pub deadline: Duration,
    /// The body.
    pub run: for<'a> fn(&'a Bench) -> Checking<'a>,
}

/// Whom a clause binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every runtime.
    Core,
    /// Runtimes that declare the capability.
    Declared,
}

impl Level {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Declared => "declared",
        }
    }
}

impl Clause {
    /// How long a body may take unless the clause says otherwise.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// The part of the id before the last dot: `exec.sync`.
    #[must_use]
    pub fn area(&self) -> &'static str {
        self.id.rsplit_once('.').map_or(self.id, |(area, _)| area)
    }

    /// Whom it binds.
    #[must_use]
    pub const fn level(&self) -> Level {
        if self.needs.is_empty() { Level::Core } else { Level::Declared }
    }
}

impl fmt::Debug for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clause").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Makes a clause of the async function of the same name that follows it:
///
/// ```text
/// clause! {
///     /// The sentence.
///     words_of_it = "area.words-of-it", Operation, needs [Capability], deadline 60
/// }
/// async fn words_of_it(bench: &Bench) -> Checked { .. }
/// ```
macro_rules! clause {
    ($(#[doc = $doc:literal])+ $name:ident = $id:literal, $operation:ident
     $(, needs [$($capability:ident),+])? $(, deadline $seconds:literal)?) => {
        $(#[doc = $doc])+
        pub mod $name {
            /// The clause.
            pub static CLAUSE: $crate::Clause = $crate::Clause {
                id: $id,
                title: concat!($($doc),+).trim_ascii_start(),
                operation: runtime_api::Operation::$operation,
                needs: &[$($(runtime_api::Capability::$capability),+)?],
                deadline: $crate::clause::clause!(@deadline $($seconds)?),
                run: |bench| Box::pin(super::$name(bench)),
            };
        }
    };
    (@deadline) => { $crate::Clause::DEADLINE };
    (@deadline $seconds:literal) => { std::time::Duration::from_secs($seconds) };
}
pub(crate) use clause;
