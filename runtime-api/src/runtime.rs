//! The trait.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    AttachEnd, AttachRequest, BoxRead, BoxWrite, Capabilities, Capability, CheckpointOutcome,
    CheckpointRequest, ContainerId, ContainerState, CreateRequest, DeleteRequest, DiskStats, Error,
    ErrorKind, EventStream, ExecId, ExecOutcome, ExecRequest, ExecSessionRequest, ExecSessionState,
    ExecSyncRequest, ExitStatus, KillRequest, MonitorHealth, Operation, PortForwardRequest, RestoreRequest,
    Result, RuntimeInfo, Stats, StopRequest, Streams, UpdateRequest, WindowSize,
};

/// A runtime value that is shared: what factories give out and callers hold.
pub type SharedRuntime = Arc<dyn RuntimeImpl>;

#[doc = include_str!("runtime/overview.md")]
#[expect(unused_variables, reason = "what is refused uses none of its arguments")]
#[async_trait]
pub trait RuntimeImpl: fmt::Debug + Send + Sync + 'static {
    /// Who this is. Constant for the life of the value; never blocks.
    fn info(&self) -> &RuntimeInfo;

    /// What it can do, with reasons and evidence. Constant for the life of the value; never blocks.
    fn capabilities(&self) -> &Capabilities;

    /// Whether containers can be saved to an image; the reason is in [`RuntimeImpl::capabilities`].
    fn supports_checkpoint(&self) -> bool {
        self.capabilities().has(Capability::Checkpoint)
    }

    /// Whether the runtime reports its errors as JSON records.
    fn supports_json_errors(&self) -> bool {
        self.capabilities().has(Capability::JsonErrors)
    }

    /// Whether containers can be run without cgroups.
    fn supports_no_cgroups(&self) -> bool {
        self.capabilities().has(Capability::NoCgroups)
    }

    #[doc = include_str!("runtime/create.md")]
    async fn create(&self, request: CreateRequest) -> Result<ContainerState>;

    /// Runs the program of a created container.
    ///
    /// - The program runs exactly once. `start.runs-the-program`
    /// - A second start is refused with `WrongState`. `start.twice-is-refused`
    /// - So is a start after the program ended. `start.after-the-end-is-refused`
    /// - It sets the start time and nothing else. `state.times-are-ordered`
    ///
    /// **Cancel**: if dropped midway the program was started or not; `state` tells.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Rejected` (afterwards Stopped, cause StartFailed, also for those who wait),
    /// `Unavailable`, `TimedOut`, `Busy`.
    async fn start(&self, id: &ContainerId) -> Result<()>;

    /// Tells how one container stands.
    ///
    /// - An unknown id is `NotFound`, never a default value. `state.unknown-is-not-found`
    /// - The status follows the life: Created, Running, Stopped. `state.follows-the-life`
    /// - Created, started and finished times are in order, and once set they stay. `state.times-are-ordered`
    /// - The exit status is there exactly when the container is Stopped, and equals what `wait` gives. `state.exit-equals-wait`
    /// - The annotations of `config.json` and the labels of the request come back unchanged. `state.keeps-annotations-and-labels`
    /// - It answers while a stop is under way, and says so. `state.answers-during-a-stop`
    ///
    /// **Cancel**: nothing happens.
    ///
    /// # Errors
    /// `NotFound`; `ConfigInvalid` when the container's own record is damaged.
    async fn state(&self, id: &ContainerId) -> Result<ContainerState>;

    /// Tells how all containers of this value stand, the oldest first.
    ///
    /// - It is empty where nothing was created, and after everything was deleted. `list.empty-without-containers`
    /// - The order is that of creation. `list.oldest-first`
    /// - Each entry equals what `state` says. `list.agrees-with-state`
    ///
    /// **Cancel**: nothing happens.
    ///
    /// # Errors
    /// Only when the state directory cannot be read; a damaged record fails its own container alone.
    async fn list(&self) -> Result<Vec<ContainerState>>;

    /// Sends a signal to the container's init, or with `all` to every process.
    ///
    /// - The program gets the signal that was sent. `kill.delivers-the-signal`
    /// - Each of many signals arrives as its own number. `kill.delivers-many-signals`
    /// - So does each real-time signal where `kill.real-time` is declared. `kill.delivers-real-time-signals`
    /// - KILL ends a program that ignores everything else; the code is 137. `kill.kill-ends-it`
    /// - A stopped container is refused with `WrongState`. `kill.stopped-is-refused`
    /// - KILL ends a created container. `kill.created-dies-of-kill`
    /// - Where `kill.created` is not declared, any other signal to a created container is `Unsupported`; where it is, the
    ///   signal is handed to the init, and whether an init that has not run the program reacts is the runtime's affair.
    ///   `kill.created-accepts-signals`
    /// - KILL ends a paused container without thawing it for its program. `kill.paused-dies-of-kill`
    /// - Where `kill.paused` is declared, any other signal stays pending until resume. `kill.paused-keeps-signals-pending`
    ///
    /// **Cancel**: the signal was sent or not.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` (a container that dies during the call is Ok), `Unsupported` (`kill.all`,
    /// `kill.created`, `kill.paused`, `kill.real-time`), `Busy`.
    async fn kill(&self, id: &ContainerId, request: KillRequest) -> Result<()>;

    /// Ends the program: the stop signal first, KILL when the grace is over.
    ///
    /// - A program that ends on the stop signal keeps its own exit code. `stop.keeps-the-programs-code`
    /// - A program that ignores it is killed when the grace is over, not before; the code is 137. `stop.kills-after-the-grace`
    /// - A grace of zero kills at once. `stop.zero-grace-kills`
    /// - The stop signal of the create request is what the program gets. `stop.sends-the-configured-signal`
    /// - A created container is killed at once. `stop.kills-created`
    /// - A paused container is thawed and then stopped like a running one. `stop.thaws-paused`
    /// - Stopping a stopped container is Ok, with the stored status unchanged. `stop.stopped-changes-nothing`
    /// - A second stop with a shorter grace shortens the first. `stop.shorter-grace-shortens`
    /// - One with a longer grace does not lengthen it. `stop.longer-grace-does-not-lengthen`
    /// - The signal is sent once, however many callers stop; all get the same status. `stop.many-callers-agree`
    ///
    /// **Cancel**: a stop whose future is dropped goes on.
    ///
    /// - The container still ends. `stop.dropped-goes-on`
    ///
    /// # Errors
    /// `NotFound`; `TimedOut` when it is still alive some time after KILL (10 s for host processes), with the advice to
    /// try later: the flag `stopping` stays and retries go on; `PeerLost`, `Busy`.
    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<ExitStatus>;

    /// Waits for the end of the program.
    ///
    /// - It gives the program's exit code. `wait.gives-the-exit-code`
    /// - A very short program has its own code too, not a made-up one. `wait.gives-the-code-of-a-short-life`
    /// - Death by signal n is 128 + n. `wait.gives-signal-deaths`
    /// - It blocks from Created on, until the real end. `wait.blocks-until-the-end`
    /// - Late callers get the same status. `wait.answers-late-callers`
    /// - Any number of callers get the same status. `wait.answers-many-callers`
    /// - A program that takes more memory than its limit is killed: code 137, cause OomKilled. `wait.tells-want-of-memory`
    /// - Callers that wait while the container is deleted get its final status. `wait.survives-a-delete`
    /// - A new wait after the delete is `NotFound`. `wait.after-delete-is-not-found`
    ///
    /// **Cancel**: dropping a wait has no effect on the container. `wait` has no deadline of its own.
    ///
    /// - The container goes on. `wait.dropped-changes-nothing`
    ///
    /// # Errors
    /// `NotFound`.
    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus>;

    /// Forgets a container and removes everything of it but its log.
    ///
    /// - Afterwards the id is unknown and not listed, and free for a new container. `delete.frees-the-id`
    /// - A running container is refused with `WrongState` and goes on. `delete.running-is-refused`
    /// - So is a paused one. `delete.paused-is-refused`
    /// - A created container is killed and deleted. `delete.kills-created`
    /// - With force any container is killed and deleted at once, also one that ignores TERM. `delete.force-kills`
    /// - With force a paused one too. `delete.force-kills-paused`
    /// - With force an unknown id is Ok. `delete.force-of-unknown-is-ok`
    /// - Without force a second delete is `NotFound`. `delete.again-is-not-found`
    /// - The log stays: it is the caller's. `delete.keeps-the-log`
    /// - No process of the container is left. `delete.leaves-no-process`
    /// - A state asked for at the same time is a state or `NotFound`, nothing else. `concurrency.delete-against-state`
    ///
    /// **Cancel**: if dropped midway, a further delete (with or without force) finishes it.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `TimedOut` (it could not be killed), `Busy`.
    async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()>;

    /// Runs a second program in a running container, with the caller's streams; gives its exit status.
    ///
    /// It follows [`RuntimeImpl::exec_sync`] in what it runs. After its end the client still gets all that was written.
    ///
    /// - Standard output and standard error come apart, complete and in order. `exec.carries-streams-apart`
    /// - Input reaches the program as it comes, and its end reaches it too. `exec.carries-input`
    /// - Input and output of any size arrive bit for bit. `exec.carries-large-streams`
    /// - Without streams the program's input is at its end and its output is dropped. `exec.works-without-streams`
    /// - The exit code is the program's, 128 + n for a signal. `exec.gives-the-exit-code`
    /// - A missing program is `Rejected`; nothing is written to the client. `exec.missing-program-is-rejected`
    /// - At the time limit it is `TimedOut`, and the program and its descendants are dead. `exec.times-out`
    /// - A background child delays the result by about a second at most. `exec.ignores-background-children`
    /// - A container that is not running is refused with `WrongState`. `exec.needs-a-running-container`
    /// - A client that reads nothing slows its own exec alone. `exec.slow-client-slows-itself-alone`
    /// - A client that closes a stream misses its rest; the program goes on. `exec.goes-on-without-a-stream`
    /// - It works while a stop grants its grace, and one that began before goes on. `exec.works-during-the-grace`
    /// - One that runs when its container is killed ends with it: code 137. `exec.ends-with-the-container`
    /// - The open files of the request are the program's, numbered from 3. `exec.passes-descriptors`
    /// - With a terminal everything comes on standard output, with its line ends. `exec.tty.merges-streams`
    /// - Keys reach the program line by line and are echoed, and so does the end. `exec.tty.carries-input`
    /// - The terminal has the size that is wanted when the exec begins, `exec.tty.begins-with-the-wanted-size`
    /// - and follows the sizes that are wanted later; the newest one counts. `exec.tty.follows-sizes`
    /// - Large output through a terminal arrives whole. `exec.tty.carries-large-output`
    ///
    /// **Cancel**: nothing of it goes on without its caller.
    ///
    /// - A dropped exec dies with its tree. `exec.dropped-ends-descendants`
    ///
    /// # Errors
    /// As [`RuntimeImpl::exec_sync`]; `TimedOut` when the limit of the request passed and the tree was killed.
    async fn exec(&self, id: &ContainerId, request: ExecRequest, streams: Streams) -> Result<ExitStatus> {
        Err(self.refuse(Operation::Exec))
    }

    /// Runs a second program in a running container and collects its output.
    ///
    /// - Standard output and standard error come apart, complete and in order. `exec.sync.separates-output`
    /// - The exit code is the program's, 128 + n for a signal. `exec.sync.gives-the-exit-code`
    /// - It takes arguments, environment and working directory as given, and keeps the container's environment. `exec.sync.passes-process-settings`
    /// - It runs as the user and with the groups that it is given, else as the container does. `exec.sync.runs-as-the-user`
    /// - It has the container's capabilities and its no-new-privileges, unless it is given capabilities of its own. `exec.sync.keeps-the-containers-privileges`
    /// - A missing program is `Rejected` with the class "exec not found"; the container is not harmed. `exec.sync.missing-program-is-rejected`
    /// - At the time limit the program is killed and the outcome is `TimedOut` with what was captured. `exec.sync.times-out`
    /// - Its descendants are killed with it, those in sessions of their own too. `exec.sync.timeout-ends-descendants`
    /// - Output beyond the limit is dropped, and the outcome says so. `exec.sync.limits-output`
    /// - A background child that holds the output open delays the result by no more than about a second. `exec.sync.ignores-background-children`
    /// - A container that is not running is refused with `WrongState`. `exec.sync.needs-a-running-container`
    /// - Execs at the same time do not mix. `exec.sync.runs-in-parallel`
    /// - It works while a stop grants its grace. `exec.sync.works-during-the-grace`
    /// - One that runs when its container is killed ends with it: code 137. `exec.sync.ends-with-the-container`
    /// - With a terminal standard output holds everything. `exec.tty.serves-collected-execs`
    /// - One that meets the kill of its container ends with it or is `WrongState`. `exec.sync.meets-the-kill`
    ///
    /// **Cancel**: nothing of it goes on without its caller.
    ///
    /// - A dropped exec dies with its tree. `exec.sync.dropped-ends-descendants`
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `InvalidArgument` (no argv, zero limit), `Rejected`, `Unavailable`, `Busy`.
    async fn exec_sync(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        Err(self.refuse(Operation::ExecSync))
    }

    /// Starts a session: a second program in a running container that outlives the caller.
    ///
    /// - Afterwards it is Running, with the pid of its program, until that ends. `exec.session.runs-the-program`
    /// - Arguments, environment, working directory are those of an exec. `exec.session.passes-process-settings`
    /// - A known session id is `AlreadyExists`; ids are each container's own. `exec.session.known-id-is-refused`
    /// - Elsewhere than in a running container it is `WrongState`. `exec.session.needs-a-running-container`
    /// - A missing program is `Rejected`; the id stays free. `exec.session.missing-program-is-rejected`
    /// - One that asks for a terminal has it, with all that belongs to one. `exec.session.has-a-terminal`
    /// - With `reopen` it goes on while no value is open, and its end is known. `exec.session.outlives-a-reopen`
    /// - It ends with its container: 137 when that is killed, unknown after a delete. `exec.session.ends-with-the-container`
    /// - A start that is dropped leaves nothing, soon or at the next open. `exec.session.dropped-start-leaves-nothing`
    ///
    /// # Errors
    /// `NotFound`, `WrongState` (also once a stop has begun to kill), `AlreadyExists`, `InvalidArgument` (no argv),
    /// `Unsupported` (a terminal without `exec.tty`), `Rejected`, `Unavailable`, `TimedOut`, `Busy`.
    async fn exec_start(&self, id: &ContainerId, request: ExecSessionRequest) -> Result<ExecSessionState> {
        Err(self.refuse(Operation::ExecStart))
    }

    /// Connects to a session's streams, as [`RuntimeImpl::attach`] does to the container's; what was written before is gone.
    ///
    /// - Output and input are carried, and their ends. `exec.session.attach-carries-streams`
    /// - Several clients all get what is written meanwhile. `exec.session.attach-serves-several-clients`
    /// - A session that ended is refused with `WrongState`. `exec.session.attach-needs-a-running-session`
    ///
    /// # Errors
    /// `NotFound` (container or session), `WrongState`, `Rejected` (a size, and no terminal), `PeerLost`, `Lagged`.
    async fn exec_attach(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        Err(self.refuse(Operation::ExecAttach))
    }

    /// Tells how a session stands.
    ///
    /// - The code is the program's, 128 + n for a signal; it stays until the cleanup. `exec.session.keeps-the-exit-code`
    /// - An unknown session is `NotFound`, in all but a cleanup. `exec.session.unknown-is-not-found`
    ///
    /// # Errors
    /// `NotFound` (container or session).
    async fn exec_state(&self, id: &ContainerId, session: &ExecId) -> Result<ExecSessionState> {
        Err(self.refuse(Operation::ExecState))
    }

    /// Ends a session's program: TERM first, KILL when the grace is over. A stop whose future is dropped goes on.
    ///
    /// - One that ends on TERM keeps its code, and the grace is not waited for. `exec.session.stop-keeps-the-programs-code`
    /// - One that ignores it dies with its descendants after the grace: 137. `exec.session.stop-kills-after-the-grace`
    /// - A second stop can shorten the grace; both get the same code. `exec.session.stop-shorter-grace-shortens`
    /// - Stopping a session that ended is Ok, and its code stays. `exec.session.stop-of-stopped-changes-nothing`
    /// - After a stop that is dropped the program still ends. `exec.session.stop-dropped-goes-on`
    /// - In a paused container it is `WrongState`, and goes on. `exec.session.stop-in-a-paused-container-is-refused`
    ///
    /// # Errors
    /// `NotFound` (container or session); `WrongState`; `TimedOut` when it lives on after KILL, as when the container is
    /// paused meanwhile: retries go on.
    async fn exec_stop(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: StopRequest,
    ) -> Result<ExecSessionState> {
        Err(self.refuse(Operation::ExecStop))
    }

    /// Forgets a session that ended, and its files. An unknown session is Ok.
    ///
    /// - Afterwards the session is unknown and its id is free. `exec.session.cleanup-frees-the-id`
    /// - A session that runs is refused with `WrongState` and goes on. `exec.session.cleanup-of-running-is-refused`
    ///
    /// # Errors
    /// `NotFound` (container), `WrongState` (it still runs).
    async fn exec_cleanup(&self, id: &ContainerId, session: &ExecId) -> Result<()> {
        Err(self.refuse(Operation::ExecCleanup))
    }

    /// Changes the size of a session's terminal. Of a burst of sizes the newest counts.
    ///
    /// - The program is told, and finds the new size. `exec.session.resize-reaches-the-program`
    /// - A session without a terminal is refused with `Rejected`. `exec.session.resize-needs-a-terminal`
    ///
    /// # Errors
    /// `NotFound` (container or session), `WrongState`, `Rejected` (it has no terminal), `PeerLost`, `TimedOut`.
    async fn exec_resize(&self, id: &ContainerId, session: &ExecId, size: WindowSize) -> Result<()> {
        Err(self.refuse(Operation::ExecResize))
    }

    #[doc = include_str!("runtime/attach.md")]
    async fn attach(&self, id: &ContainerId, request: AttachRequest, streams: Streams) -> Result<AttachEnd> {
        Err(self.refuse(Operation::Attach))
    }

    /// Changes the size of the container's terminal.
    ///
    /// - The program is told, and finds the new size. `attach.resize.reaches-the-program`
    /// - However fast sizes come, the last one stays. `attach.resize.last-of-a-burst-wins`
    /// - A container without a terminal is refused with `Rejected`. `attach.resize.needs-a-terminal`
    /// - A stopped one is refused with `WrongState`. `attach.resize.stopped-is-refused`
    ///
    /// **Cancel**: it has the new size or not.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Rejected` (no terminal), `PeerLost`, `TimedOut`.
    async fn attach_resize(&self, id: &ContainerId, size: WindowSize) -> Result<()> {
        Err(self.refuse(Operation::AttachResize))
    }

    /// Freezes every process of the container.
    ///
    /// - The container is Paused and its program stands still until resume. `pause.freezes-until-resume`
    /// - A paused container is refused with `WrongState`. `pause.twice-is-refused`
    /// - So is one that is created or stopped. `pause.needs-a-running-container`
    ///
    /// **Cancel**: it is frozen or not; `state` tells.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Rejected`, `Unavailable`, `Busy`.
    async fn pause(&self, id: &ContainerId) -> Result<()> {
        Err(self.refuse(Operation::Pause))
    }

    /// Thaws a paused container.
    ///
    /// - A container that is not paused is refused with `WrongState`. `resume.needs-a-paused-container`
    ///
    /// **Cancel**: it is thawed or not; `state` tells.
    ///
    /// # Errors
    /// As [`RuntimeImpl::pause`].
    async fn resume(&self, id: &ContainerId) -> Result<()> {
        Err(self.refuse(Operation::Resume))
    }

    /// Changes resource limits.
    ///
    /// - Limits of memory and of processes change, up and down, and the stats show it. `update.changes-limits`
    /// - What an update does not name stays as it was. `update.keeps-what-is-not-named`
    /// - A paused container stays paused, and a created one starts with the new limits. `update.paused-stays-paused`
    /// - A stopped container is refused with `WrongState`. `update.stopped-is-refused`
    /// - No limits at all are `InvalidArgument`. `update.nothing-is-invalid`
    /// - A memory limit below what is in use is `Rejected`; the old limits stay and the program goes on. `update.refused-limits-change-nothing`
    ///
    /// **Cancel**: some, all or none of the limits have changed; `stats` tells.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `InvalidArgument`, `Rejected` (the old limits stay), `Unavailable`, `TimedOut`, `Busy`.
    async fn update(&self, id: &ContainerId, request: UpdateRequest) -> Result<()> {
        Err(self.refuse(Operation::Update))
    }

    /// Reads resource use, as the host counts it. Where the container has a kernel of its own, what that uses is in it.
    ///
    /// - Processor time, memory and processes in use are counted. `stats.counts-what-is-used`
    /// - The processor time grows as the program works, and never goes back. `stats.grows-with-work`
    /// - Memory that the program takes is in its use and in its working set. `stats.sees-memory`
    /// - The limits of the bundle are shown. `stats.shows-limits`
    /// - A paused container answers, and uses no processor time. `stats.answers-while-paused`
    /// - A stopped container is refused with `WrongState`, never answered with stale numbers. `stats.stopped-is-refused`
    ///
    /// **Cancel**: nothing happens.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Unavailable` (this container has no cgroup of its own).
    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        Err(self.refuse(Operation::Stats))
    }

    /// Reads the use of the whole file system on which the container's root lies, as `df` does. What others have on the
    /// same file system is in it.
    ///
    /// - It has a size, and no more than that is in use. `stats.disk.tells-the-file-system`
    /// - A stopped container is refused with `WrongState`. `stats.disk.stopped-is-refused`
    ///
    /// **Cancel**: nothing happens.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Unavailable` (the file system cannot be asked).
    async fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        Err(self.refuse(Operation::DiskStats))
    }

    /// Saves a container to an image, a directory, from which [`RuntimeImpl::restore`] continues its program.
    ///
    /// - Afterwards it is Stopped with code 0 and the cause Checkpointed, however its processes were ended; those who wait
    ///   are told the same. `checkpoint.ends-the-container`
    /// - That stays so after a reopen. `checkpoint.end-survives-a-reopen`
    /// - Left running it is the same process, and goes on. `checkpoint.leaves-it-running`
    /// - Left running it is paused afterwards if it was before. `checkpoint.leaves-it-paused`
    /// - A container that is created or stopped is refused with `WrongState`. `checkpoint.needs-a-running-container`
    /// - An image that exists is refused with `AlreadyExists`, one whose directory does not with `ConfigInvalid`; the
    ///   container goes on, and no image is left. `checkpoint.failure-changes-nothing`
    /// - An option that is not declared is refused with `Unsupported` and changes nothing. `checkpoint.undeclared-options-are-refused`
    ///
    /// **Cancel**: a checkpoint that is dropped goes on.
    ///
    /// - In the end the container is checkpointed and its image complete, or it goes on and there is no image.
    ///   `checkpoint.dropped-is-whole-or-nothing`
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Unsupported` (of an option), `InvalidArgument`, `AlreadyExists` and `ConfigInvalid` (of
    /// the image), `Rejected` (the container goes on, and no image is left), `Unavailable`, `TimedOut`, `Busy`.
    async fn checkpoint(&self, id: &ContainerId, request: CheckpointRequest) -> Result<CheckpointOutcome> {
        Err(self.refuse(Operation::Checkpoint))
    }

    /// Makes a running container from an image. Its bundle, log, input and labels are those of the request; the bundle
    /// must be the one that was saved, or an equal one.
    ///
    /// - The program goes on where it was saved, under whichever id, as often as it is saved again. `restore.continues-the-program`
    /// - A log that exists is continued. `restore.continues-the-log`
    /// - An image can be restored many times, side by side. `restore.serves-many-times`
    /// - Execs, stop, wait and delete work as for any other container. `restore.is-a-whole-life`
    /// - A known id is refused with `AlreadyExists`, and the container stays as it was. `restore.rejects-a-known-id`
    /// - An image that is missing, incomplete or damaged is refused with `ConfigInvalid` and leaves nothing behind. `restore.rejects-broken-images`
    ///
    /// **Cancel**: a restore that is dropped leaves no container, as a create.
    ///
    /// # Errors
    /// As [`RuntimeImpl::create`]; `ConfigInvalid` (of the image), `Unsupported` (of an option).
    async fn restore(&self, request: RestoreRequest) -> Result<ContainerState> {
        Err(self.refuse(Operation::Restore))
    }

    /// Opens the log file anew after the caller renamed it. A container without a log file is left as it is.
    ///
    /// - Afterwards output goes to a new file at the old path, and the renamed one stays as it is.
    ///   `log.reopen.goes-on-in-a-new-file`
    /// - Nothing that the program prints meanwhile is lost or there twice. `log.reopen.loses-nothing`
    /// - While the path still is the open file it does nothing. `log.reopen.changes-nothing-without-a-rename`
    /// - Any number of callers may reopen at once. `log.reopen.at-once-is-safe`
    /// - It works while a stop grants its grace, and does not wait for the end. `log.reopen.works-during-the-grace`
    /// - A stopped container is refused with `WrongState`. `log.reopen.stopped-is-refused`
    ///
    /// **Cancel**: the log is opened anew or not.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `ConfigInvalid` (the directory is missing, or another file with content is in the log's
    /// place), `PeerLost`, `TimedOut`.
    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        Err(self.refuse(Operation::ReopenLog))
    }

    /// Connects two streams to a port on the container's loopback until both directions have ended. Each end of a direction
    /// is passed on; the other direction goes on.
    ///
    /// - Programs that listen on 127.0.0.1 alone or on ::1 alone are reached. `ports.reaches-both-families`
    /// - When the client's direction ends the program is told, and may go on to answer. `ports.client-may-end-first`
    /// - When the program's direction ends the client is told, and may go on to send. `ports.program-may-end-first`
    /// - Much data arrives whole in both directions. `ports.carries-much`
    /// - Where nobody listens it is `Rejected`, and both streams are closed. `ports.closed-port-is-rejected`
    /// - A container that is created or stopped is refused with `WrongState`. `ports.needs-a-running-container`
    /// - The connection ends with the container. `ports.ends-with-the-container`
    ///
    /// **Cancel**: dropping it closes the connection.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `InvalidArgument` (port 0), `Rejected` (nobody listens), `TimedOut` (whoever listens takes
    /// no connections), `PermissionDenied`.
    async fn port_forward(
        &self,
        id: &ContainerId,
        request: PortForwardRequest,
        from: BoxRead,
        to: BoxWrite,
    ) -> Result<()> {
        Err(self.refuse(Operation::PortForward))
    }

    /// Tells whether the process that watches the container lives. A lost one is an answer, not an error.
    ///
    /// - From create until the end it lives, and has a pid. `monitor.probe.finds-it-alive`
    /// - A stopped container is refused with `WrongState`. `monitor.probe.stopped-is-refused`
    ///
    /// **Cancel**: nothing happens.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    async fn probe_monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        Err(self.refuse(Operation::ProbeMonitor))
    }

    /// Subscribes to what happens to the containers of the state directory from now on, whoever makes it happen. There is no
    /// replay; a reader that falls behind by more than [`EventStream::CAPACITY`] is told how many it missed.
    ///
    /// - The start and the end of each container are told once, in this order, the end with its status. `events.tells-starts-and-ends`
    /// - The end of a container that is deleted with force is told too. `events.tells-ends-by-force`
    /// - Every subscriber is told everything. `events.reaches-every-subscriber`
    /// - What happened before the subscription is not told. `events.begins-with-the-subscription`
    /// - A kill for want of memory is told before the end, once. `events.tells-want-of-memory`
    /// - What another value over the same state directory does is told too. `events.tells-what-others-do`
    /// - The stream ends with the value. `events.ends-with-the-value`
    ///
    /// Where a monitor watches containers, its death is told while its container lives on.
    ///
    /// **Cancel**: nothing happens.
    ///
    /// # Errors
    /// `Unsupported`, `Exhausted` (the host gives no more watches), `Unavailable` (the value is being shut down).
    async fn events(&self) -> Result<EventStream> {
        Err(self.refuse(Operation::Events))
    }

    /// Ends the value's own tasks and waits for them; containers go on. The value must not be used afterwards.
    async fn shutdown(&self) {}

    /// The refusal of an undeclared operation, which the default bodies return. Not meant to be overridden.
    fn refuse(&self, operation: Operation) -> Error {
        match self.capabilities().require_for(operation) {
            Err(refusal) => refusal,
            Ok(()) => Error::new(ErrorKind::Internal(format!(
                "{} declares {operation} and does not implement it",
                self.info().name
            )))
            .during(operation),
        }
    }
}
