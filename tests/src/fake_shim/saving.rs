//! Checkpoint, over the model: an image has the files that criu's have, and one of them holds the processes.

use std::path::Path;

use containerd_shim_protos::api;
use containerd_shim_protos::shim::oci::CheckpointOptions;
use protobuf::Message as _;
use runtime_api::CheckpointRequest;
use runtime_host::criu::{LANDMARK, SAVED};
use runtime_test::fake::model::Saved;
use ttrpc::Code;

use super::refusal::Refusal;
use super::service::Reply;
use super::world::World;

impl World {
    pub(super) fn checkpoint(&self, request: &api::CheckpointTaskRequest) -> Reply<api::Empty> {
        let bytes = request.options.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
        let options = CheckpointOptions::parse_from_bytes(bytes)
            .map_err(|error| Refusal::new(Code::INVALID_ARGUMENT, error.to_string()))?;
        let image = Path::new(&request.path);
        self.act(|parts| {
            let id = parts.known(&request.id)?.id.clone();
            let (key, saved) = parts.model.save(&id)?;
            let text = serde_json::to_vec(&saved).map_err(std::io::Error::other);
            // As runtimes do, it makes what is not there.
            let made = std::fs::create_dir_all(image);
            made.and(text)
                .and_then(|text| std::fs::write(image.join(LANDMARK), text))
                .and_then(|()| std::fs::write(Path::new(&options.work_path).join(SAVED), "saved"))
                .map_err(|error| Refusal::new(Code::UNKNOWN, format!("nothing can be written: {error}")))?;
            let mut order = CheckpointRequest::new(image);
            order.leave_running = !options.exit;
            parts.model.saved(key, &order);
            Ok(api::Empty::new())
        })
    }
}

/// Reads an image.
pub(super) fn read(image: &Path) -> Reply<Saved> {
    let text = std::fs::read(image.join(LANDMARK)).map_err(|_| makes_no_sense())?;
    serde_json::from_slice(&text).map_err(|_| makes_no_sense())
}

pub(super) fn makes_no_sense() -> Refusal {
    Refusal::new(Code::UNKNOWN, "criu failed: the image makes no sense")
}
