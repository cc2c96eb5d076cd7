//! Port-forward into a container's network namespace.

use runtime_api::{BoxRead, BoxWrite, ContainerId, Error, ErrorKind, Operation, PortForwardRequest, Result};
use runtime_host::port_forward::{carry, dial};

use crate::backend::Backend;

impl Backend {
    pub(crate) async fn port_forward(
        &self,
        id: &ContainerId,
        request: PortForwardRequest,
        from: BoxRead,
        to: BoxWrite,
    ) -> Result<()> {
        let named =
            |error: Error| error.during(Operation::PortForward).on(format_args!("container \"{id}\""));
        if request.port == 0 {
            return Err(named(Error::new(ErrorKind::InvalidArgument("there is no port 0".into()))));
        }
        // No lock is held: the connection may last as long as the container, and its namespace is held open.
        let record = self.admit_unlocked(Operation::PortForward, id).await?;
        let Some(init) = record.init else {
            return Err(named(Error::new(ErrorKind::Internal("a running container without an init".into()))));
        };
        let socket = dial(init, request.port).await.map_err(named)?;
        carry(socket, from, to, init).await;
        Ok(())
    }
}
