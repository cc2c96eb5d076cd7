//! The tasks of one runtime value, and work that is undone unless it comes to its end.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use runtime_api::{Error, ErrorKind, Operation, Result};

/// Work that leaves nothing unless it comes to its end.
pub trait Work: Send + 'static {
    /// What comes of it.
    type Output;

    /// Does it. If this fails or is dropped, [`Work::undo`] is called.
    fn finish(&mut self) -> impl Future<Output = Result<Self::Output>> + Send;

    /// Removes everything that was made.
    fn undo(self) -> impl Future<Output = ()> + Send;
}

/// Work under way; it is undone when it fails and when its caller goes away.
#[derive(Debug)]
struct Unfinished<W: Work> {
    work: Option<Box<W>>,
    tasks: Arc<Tasks>,
}

impl<W: Work> Unfinished<W> {
    /// Undoes it in a task, which goes on without its caller; the receiver is told when it is done. Outside of a tokio
    /// runtime, as when the program ends, it is left to the next open, which finds it unfinished and nobody at work.
    fn undo(&mut self) -> Option<oneshot::Receiver<()>> {
        let work = self.work.take()?;
        tokio::runtime::Handle::try_current().ok()?;
        let (done, undone) = oneshot::channel();
        self.tasks.spawn(async move {
            work.undo().await;
            let _ = done.send(());
        });
        Some(undone)
    }
}

impl<W: Work> Drop for Unfinished<W> {
    fn drop(&mut self) {
        let _ = self.undo();
    }
}

/// The tasks of one value. They end with it.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    /// Starts a task that ends with the value.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What is done is let go of here, so that a value that lives long does not collect it.
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }

    /// Brings work to its end, or undoes it.
    ///
    /// # Errors
    /// That of the work, once it is undone.
    pub async fn complete<W: Work>(self: &Arc<Self>, operation: Operation, work: W) -> Result<W::Output> {
        let mut unfinished = Unfinished { work: Some(Box::new(work)), tasks: Arc::clone(self) };
        let made = match &mut unfinished.work {
            Some(work) => work.finish().await,
            None => Err(shut_down(operation)),
        };
        match made {
            Ok(output) => {
                // Between the last wait and here nothing can cut us off: either it is undone or the caller has it.
                unfinished.work = None;
                Ok(output)
            }
            Err(error) => {
                if let Some(undone) = unfinished.undo() {
                    // A sender that is dropped has done its work, or was ended with the runtime value.
                    let _ = undone.await;
                }
                Err(error)
            }
        }
    }

    /// Ends all tasks and waits until they are gone.
    pub async fn end(&self) {
        let mut set = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        set.shutdown().await;
    }
}

/// The refusal of what the value's own tasks would have done.
#[must_use]
pub fn shut_down(operation: Operation) -> Error {
    Error::new(ErrorKind::Unavailable("the runtime value is being shut down".into())).during(operation)
}
