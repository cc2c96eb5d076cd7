//! What a backend author writes so that the suite can test the backend.

mod fake;

use std::path::PathBuf;

use async_trait::async_trait;
use runtime_api::{Error, ErrorKind, Result, SharedRuntime};

use crate::{BundleOptions, Scratch, Workload, bundle};

pub use fake::FakeHarness;

/// Opens runtimes and makes bundles for the clauses.
///
/// ```
/// use async_trait::async_trait;
/// use runtime_api::{Result, SharedRuntime};
/// use runtime_test::{Harness, Scratch};
///
/// struct Acme;
///
/// #[async_trait]
/// impl Harness for Acme {
///     fn reference(&self) -> String {
///         "acme".to_owned()
///     }
///     async fn open(&self, at: &Scratch) -> Result<SharedRuntime> {
///         # let _ = at; unreachable!()
///         // acme::open(at.state_dir()).await
///     }
/// }
/// // runtime_test::conformance_tests!(Acme);
/// ```
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The name of the runtime in reports and on the command line: `oci:runc`.
    fn reference(&self) -> String;

    /// Opens a runtime value whose records are below [`Scratch::state_dir`]. Clauses about reopening call it again
    /// with the same scratch after they dropped the first value; so does the clean-up.
    ///
    /// # Errors
    /// Any; the clause then fails with it.
    async fn open(&self, at: &Scratch) -> Result<SharedRuntime>;

    /// Makes a bundle that runs `workload`, at a path of its own below [`Scratch::bundles_dir`].
    ///
    /// # Errors
    /// Any; the clause then fails with it.
    fn bundle(&self, at: &Scratch, workload: &Workload, options: &BundleOptions) -> Result<PathBuf> {
        let dir = at.fresh_bundle_dir()?;
        bundle::write_with(&dir, workload, options).map_err(|error| {
            Error::new(ErrorKind::Internal("the bundle cannot be written".to_owned()))
                .during_step("prepare a clause")
                .on(dir.display())
                .caused_by(error)
        })?;
        Ok(dir)
    }

    /// The clauses that are known to fail, as TOML: a `[[known]]` table each with `clause`, `reason` and `link`.
    fn known_failures(&self) -> &str {
        ""
    }

    /// Whether the runtime lives on tokio's clock alone, so that the clock can be paused and waiting costs nothing.
    /// There are no processes to look for then.
    fn virtual_time(&self) -> bool {
        false
    }

    /// What this host lacks so that the runtime could be tested, with the command that would help: "runc is not
    /// installed: apt-get install runc". Every clause is then skipped with this reason.
    fn unmet(&self) -> Option<String> {
        None
    }

    /// What only the backend can see of things left behind, one line each. It is asked after every clause, when all
    /// containers are deleted and the runtime value is dropped.
    fn leftovers(&self, at: &Scratch) -> Vec<String> {
        let _ = at;
        Vec::new()
    }
}
