//! Checkpoint and restore: an image is a directory with one file, the state of the processes as JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runtime_api::{
    CheckpointOutcome, CheckpointRequest, ContainerId, ContainerState, Error, ErrorKind, RestoreRequest,
    Result,
};
use tokio::time::sleep;

use crate::Defect;

use super::{FakeRuntime, WORK};
use crate::fake::model::Saved;

/// The file in an image.
const FILE: &str = "processes.json";

impl FakeRuntime {
    pub(super) async fn save(
        &self,
        id: &ContainerId,
        request: CheckpointRequest,
    ) -> Result<CheckpointOutcome> {
        for option in request.needs() {
            if !self.defect(Defect::CheckpointIgnoresOptions) {
                self.profile.capabilities().require(option)?;
            }
        }
        let (key, early) = self.world.act(|parts| parts.model.save(id))?;
        let image = self.room_for(&request.image)?;
        let done = if self.defect(Defect::DroppedCheckpointIsTorn) {
            self.world.act(|parts| parts.model.saved(key, &request));
            sleep(WORK).await;
            write(&image, &early)
        } else {
            self.save_in_a_task(id, &image, request).await
        };
        done.map(|()| CheckpointOutcome::new(image))
    }

    /// Writes the image and lets the container end. It goes on when its caller goes away.
    async fn save_in_a_task(&self, id: &ContainerId, image: &Path, request: CheckpointRequest) -> Result<()> {
        let (world, id, at) = (Arc::clone(&self.world), id.clone(), image.to_owned());
        let work = async move {
            sleep(WORK).await;
            world.act(|parts| {
                let (key, saved) = parts.model.save(&id)?;
                write(&at, &saved)?;
                parts.model.saved(key, &request);
                Ok(())
            })
        };
        tokio::spawn(work).await.unwrap_or_else(|error| {
            let what = "a checkpoint did not come to its end".to_owned();
            Err(Error::new(ErrorKind::Internal(what)).caused_by(error))
        })
    }

    /// Refuses a place where no image can be.
    fn room_for(&self, image: &Path) -> Result<PathBuf> {
        let named = |error: Error| error.on(format_args!("image {}", image.display()));
        if image.exists() {
            if self.defect(Defect::CheckpointOverwrites) {
                let _ = fs::remove_dir_all(image);
            } else {
                return Err(named(Error::new(ErrorKind::AlreadyExists)));
            }
        }
        if !image.parent().is_some_and(Path::is_dir) {
            return Err(named(Error::new(ErrorKind::ConfigInvalid("its directory does not exist".into()))));
        }
        Ok(image.to_owned())
    }

    pub(super) async fn revive(&self, request: RestoreRequest) -> Result<ContainerState> {
        for option in request.needs() {
            self.profile.capabilities().require(option)?;
        }
        let mut saved = match read(&request.image) {
            Err(_) if self.defect(Defect::BrokenImageBeginsAnew) => None,
            read => Some(read?),
        };
        if self.defect(Defect::RestoreBeginsAnew)
            && let Some(saved) = &mut saved
        {
            saved.rewind();
        }
        let mut create = request.create;
        if self.defect(Defect::RestoreEmptiesTheLog)
            && let Some(log) = &create.log.path
        {
            let _ = fs::write(log, "");
        }
        if self.defect(Defect::RestoreForgetsTheStopSignal) {
            create.stop_signal = runtime_api::Signal::from_number(28).ok();
        }
        if self.defect(Defect::RestoreReplaces) {
            // Whether there was one to replace is the defect's own affair.
            let _ = self.remove(&create.id, true).await;
        }
        let id = create.id.clone();
        self.make(create).await?;
        if self.defect(Defect::RestoreUsesTheImageUp) {
            let _ = fs::remove_dir_all(&request.image);
        }
        let revived = self.world.act(|parts| {
            let key = parts.model.key_of(&id)?;
            match &saved {
                Some(saved) => parts.model.revive(key, saved),
                None => parts.model.start(&id).ok().and_then(|()| parts.model.state(&id).ok()),
            }
        });
        match revived {
            Some(state) => Ok(state),
            None => {
                self.remove(&id, true).await?;
                Err(broken(&request.image, "it tells of no process"))
            }
        }
    }
}

/// Writes beside the place and renames, so that no image is ever seen half.
fn write(image: &Path, saved: &Saved) -> Result<()> {
    let host = |error: std::io::Error| {
        Error::new(ErrorKind::Internal("the image cannot be written".into()))
            .on(format_args!("image {}", image.display()))
            .caused_by(error)
    };
    let text = serde_json::to_vec(saved).map_err(|error| host(error.into()))?;
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hidden = image.with_file_name(format!(".{name}"));
    fs::create_dir(&hidden)
        .and_then(|()| fs::write(hidden.join(FILE), text))
        .and_then(|()| fs::rename(&hidden, image))
        .map_err(|error| {
            let _ = fs::remove_dir_all(&hidden);
            host(error)
        })
}

fn read(image: &Path) -> Result<Saved> {
    let path = image.join(FILE);
    let text = fs::read(&path).map_err(|error| broken(image, "it is no complete image").caused_by(error))?;
    serde_json::from_slice(&text).map_err(|error| broken(image, "it is damaged").caused_by(error))
}

fn broken(image: &Path, why: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid(why.to_owned())).on(format_args!("image {}", image.display()))
}
