//! Every backend of this program. This is the only crate that sees them all.

use runtime_api::Result;
use runtime_handlers::Registry;
use runtime_oci::OciFactory;
use runtime_test::FakeFactory;
use runtime_vm::VmFactory;

/// The factories, one per kind.
pub(crate) fn registry() -> Result<Registry> {
    Registry::new().register(OciFactory)?.register(VmFactory::default())?.register(FakeFactory::new()?)
}
