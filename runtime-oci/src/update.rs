//! Update: the limits go to the runtime's standard input, so that nothing is left on disk when it is killed.

use std::time::Duration;

use runtime_api::{ContainerId, Error, ErrorKind, Operation, Rejection, Result, UpdateRequest};
use runtime_host::cgroup::Place;
use runtime_host::stats;

use crate::backend::Backend;
use crate::record::Record;

const LIMIT: Duration = Duration::from_secs(10);

impl Backend {
    pub(crate) async fn update(&self, id: &ContainerId, request: UpdateRequest) -> Result<()> {
        let named = |error: Error| error.during(Operation::Update).on(format_args!("container \"{id}\""));
        request.check().map_err(named)?;
        let text = serde_json::to_vec(&request.resources).map_err(|error| {
            named(Error::new(ErrorKind::InvalidArgument("the limits cannot be written as JSON".into())))
                .caused_by(error)
        })?;
        let (locked, _) = self.admit(Operation::Update, id).await?;
        self.check_memory(&locked.record, &request).map_err(named)?;
        let verb = ["update", "--resources", "-", id.as_str()];
        self.run_verb_with_input(&locked.dir, &verb, Some(text), LIMIT).await.map(|_| ()).map_err(named)
    }

    /// Refuses a limit of memory below what is in use, where the kernel would not: version 2 takes it and kills.
    fn check_memory(&self, record: &Record, request: &UpdateRequest) -> Result<()> {
        let wanted = request.resources.memory().as_ref().and_then(|memory| memory.limit());
        let (Some(wanted), Some(cgroup)) = (wanted, &record.own_cgroup) else { return Ok(()) };
        if !matches!(self.hierarchies.place("memory", cgroup), Some(Place::V2(_))) {
            return Ok(());
        }
        let Some(memory) = stats::read(&self.hierarchies, cgroup).map(|stats| stats.memory) else {
            return Ok(());
        };
        too_low(wanted, memory.usage.saturating_sub(memory.cache))
    }
}

/// Refuses a limit below what cannot be given up.
fn too_low(wanted: i64, used: u64) -> Result<()> {
    match u64::try_from(wanted) {
        Ok(wanted) if wanted > 0 && wanted < used => {
            let message = format!(
                "a memory limit of {wanted} is below the {used} bytes in use that cannot be given up"
            );
            Err(Error::new(ErrorKind::Rejected { class: Rejection::Other, message }))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_below_what_is_used_is_too_low() {
        for (wanted, used, fits) in [(99, 100, false), (100, 100, true), (-1, 100, true), (0, 100, true)] {
            assert_eq!(too_low(wanted, used).is_ok(), fits, "{wanted} of {used}");
        }
    }
}
