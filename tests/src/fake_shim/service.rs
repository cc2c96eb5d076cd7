//! From the bytes of a request to the method, and back.

use std::sync::Arc;

use protobuf::Message;
use ttrpc::Code;

use super::refusal::Refusal;
use super::world::World;

/// How a method ends.
pub(super) type Reply<T> = Result<T, Refusal>;

/// Calls a method of the Task service.
pub(super) async fn call(world: &Arc<World>, request: &ttrpc::Request) -> Reply<Vec<u8>> {
    let service = world.api().service();
    if request.service != service {
        return Err(Refusal::new(Code::UNIMPLEMENTED, format!("service {}", request.service)));
    }
    let namespace = request.metadata.iter().find(|pair| pair.key == "containerd-namespace-ttrpc");
    if namespace.is_none_or(|namespace| namespace.value != world.namespace()) {
        return Err(Refusal::new(Code::INVALID_ARGUMENT, "the namespace is another one than the shim's"));
    }
    let bytes = request.payload.as_slice();
    match request.method.as_str() {
        "Create" => said(world.create(read(bytes)?)),
        "Start" => said(world.start(&read(bytes)?)),
        "State" => said(world.state(&read(bytes)?)),
        "Wait" => said(world.wait(&read(bytes)?).await),
        "Kill" => said(world.kill(&read(bytes)?)),
        "Exec" => said(world.exec(read(bytes)?)),
        "ResizePty" => said(world.resize(&read(bytes)?)),
        "CloseIO" => said(world.close_io(&read(bytes)?)),
        "Pids" => said(world.pids(&read(bytes)?)),
        "Pause" => said(world.pause(&read(bytes)?)),
        "Resume" => said(world.resume(&read(bytes)?)),
        "Update" => said(world.update(&read(bytes)?)),
        "Stats" => said(world.stats(&read(bytes)?)),
        "Checkpoint" => said(world.checkpoint(&read(bytes)?)),
        "Delete" => said(world.delete(&read(bytes)?)),
        "Connect" => said(world.connect(&read(bytes)?)),
        "Shutdown" => said(world.shut_down(&read(bytes)?)),
        other => Err(Refusal::new(Code::UNIMPLEMENTED, format!("method {other} is not implemented"))),
    }
}

fn read<M: Message>(bytes: &[u8]) -> Reply<M> {
    M::parse_from_bytes(bytes).map_err(|error| Refusal::new(Code::INVALID_ARGUMENT, error.to_string()))
}

fn said(reply: Reply<impl Message>) -> Reply<Vec<u8>> {
    let message = reply?;
    message.write_to_bytes().map_err(|error| Refusal::new(Code::INTERNAL, error.to_string()))
}
