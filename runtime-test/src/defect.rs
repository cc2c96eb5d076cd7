//! Named violations of the contract, which the fake runtime can be told to commit.
//!
//! They prove that the clauses bite: a test runs the suite over the fake with each defect and demands that the clauses
//! which the defect names do fail, and that every clause is named by some defect.

use std::fmt;

macro_rules! defects {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal breaks [$($clause:literal),+];)+) => {
        /// One violation of the contract.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Defect {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Defect {
            /// Every defect, in the order of the trait's documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name: `delete-running-succeeds`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim(),)+ }
            }

            /// The ids of the clauses that must fail because of it; a few others may fail too.
            #[must_use]
            pub const fn breaks(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($clause),+],)+ }
            }
        }
    };
}

defects! {
    /// `info` gives another version once a container was created.
    InfoChanges = "info-changes" breaks ["identity.info-is-constant"];
    /// `capabilities` declares one thing more once a container was created.
    CapabilitiesChange = "capabilities-change" breaks ["identity.capabilities-are-constant"];
    /// One capability is denied without a reason.
    ReasonIsMissing = "reason-is-missing" breaks ["identity.answers-have-reasons"];
    /// An operation that is not declared says Ok.
    UnsupportedSaysOk = "unsupported-says-ok" breaks ["identity.undeclared-is-refused"];
    /// A signal to an unknown container is Ok.
    KillUnknownIsOk = "kill-unknown-is-ok" breaks ["identity.unknown-id-is-not-found"];
    /// While one container is being stopped, no other can be created.
    OneLifeAtATime = "one-life-at-a-time" breaks ["concurrency.lives-side-by-side"];
    /// Dropping the value kills its containers.
    DropEndsContainers = "drop-ends-containers" breaks ["reopen.running-stays-running"];
    /// Dropping the value thaws what is paused.
    ReopenThaws = "reopen-thaws" breaks ["reopen.paused-stays-paused"];
    /// The codes of programs that ended while no value was open are lost.
    ReopenLosesExits = "reopen-loses-exits" breaks ["reopen.exit-while-away-is-known"];

    /// What create gives back says Running.
    CreateSaysRunning = "create-says-running" breaks ["create.leaves-created"];
    /// A created container starts by itself after 400 ms.
    CreatedStartsByItself = "created-starts-by-itself" breaks ["create.does-not-run-the-program"];
    /// A second create of an id replaces the first container.
    CreateTwiceOverwrites = "create-twice-overwrites" breaks ["create.rejects-duplicate-id"];
    /// A missing bundle makes a container without a program.
    MissingBundleIsAccepted = "missing-bundle-is-accepted" breaks ["create.rejects-missing-bundle"];
    /// A broken `config.json` makes a container without a program.
    BrokenConfigIsAccepted = "broken-config-is-accepted" breaks ["create.rejects-broken-config"];
    /// A program that does not exist is run, and ends with 127.
    MissingProgramRuns = "missing-program-runs" breaks ["create.rejects-missing-program"];
    /// The log's missing parent directory is made.
    LogDirectoryIsMade = "log-directory-is-made" breaks ["create.rejects-missing-log-directory"];
    /// A log may be limited to fewer than 8,192 bytes.
    TinyLogLimitIsAccepted = "tiny-log-limit-is-accepted" breaks ["create.rejects-tiny-log-limits"];
    /// The input of every program stays open.
    InputIsAlwaysOpen = "input-is-always-open" breaks ["create.closes-input-unless-asked"];
    /// A symbolic link in place of the log is followed.
    LogLinkIsFollowed = "log-link-is-followed" breaks ["create.rejects-symlinked-log"];
    /// Create leaves a file in the bundle.
    CreateWritesToTheBundle = "create-writes-to-the-bundle" breaks ["create.leaves-bundle-unchanged"];
    /// Start reads `config.json` anew.
    ConfigIsReadAtStart = "config-is-read-at-start" breaks ["create.ignores-later-changes"];
    /// A bundle can be used by one container at a time.
    BundleIsExclusive = "bundle-is-exclusive" breaks ["create.shares-a-bundle"];
    /// Several creates of one id at the same time all say Ok.
    ConcurrentCreatesAllWin = "concurrent-creates-all-win" breaks ["concurrency.one-create-wins"];
    /// A create that is dropped keeps the id.
    DroppedCreateStays = "dropped-create-stays" breaks ["create.dropped-leaves-nothing"];

    /// A program that prints a little and ends is run twice.
    StartRunsTwice = "start-runs-twice" breaks ["start.runs-the-program"];
    /// A second start is Ok.
    StartTwiceIsOk = "start-twice-is-ok" breaks ["start.twice-is-refused"];
    /// A start after the end is Ok.
    StartAfterTheEndIsOk = "start-after-the-end-is-ok" breaks ["start.after-the-end-is-refused"];

    /// A container that never was is reported as Stopped.
    StateInventsContainers = "state-invents-containers" breaks ["state.unknown-is-not-found"];
    /// A quarter of a second after its end a container calls itself Running again.
    StoppedSaysRunning = "stopped-says-running" breaks ["state.follows-the-life"];
    /// The start time lies before the creation.
    StartTimeIsWrong = "start-time-is-wrong" breaks ["state.times-are-ordered"];
    /// The state shows another end than `wait` gives.
    StateExitDiffers = "state-exit-differs" breaks ["state.exit-equals-wait"];
    /// Labels are lost.
    LabelsAreLost = "labels-are-lost" breaks ["state.keeps-annotations-and-labels"];
    /// A stop that is under way is not shown.
    StoppingIsHidden = "stopping-is-hidden" breaks ["state.answers-during-a-stop"];

    /// The list shows a container before the first was created.
    ListShowsAPhantom = "list-shows-a-phantom" breaks ["list.empty-without-containers"];
    /// The list begins with the newest.
    ListNewestFirst = "list-newest-first" breaks ["list.oldest-first"];
    /// The list leaves out the times of the start.
    ListDisagrees = "list-disagrees" breaks ["list.agrees-with-state"];

    /// USR2 is sent where USR1 was asked for.
    KillSendsAnother = "kill-sends-another" breaks ["kill.delivers-the-signal"];
    /// Of signals that come quickly one after the other only the first arrives.
    BurstsOfSignalsAreLost = "bursts-of-signals-are-lost" breaks ["kill.delivers-many-signals"];
    /// All signals above 31 arrive as the first of them.
    RealTimeSignalsAreFolded = "real-time-signals-are-folded" breaks ["kill.delivers-real-time-signals"];
    /// A program that ignores signals ignores KILL too.
    KillCanBeIgnored = "kill-can-be-ignored" breaks ["kill.kill-ends-it"];
    /// A signal to a stopped container is Ok.
    KillStoppedIsOk = "kill-stopped-is-ok" breaks ["kill.stopped-is-refused"];
    /// KILL does nothing to a created container.
    CreatedSurvivesKill = "created-survives-kill" breaks ["kill.created-dies-of-kill"];
    /// Signals to a created container are refused, though the capability is declared.
    KillCreatedIsRefused = "kill-created-is-refused" breaks ["kill.created-accepts-signals"];
    /// KILL does nothing to a paused container.
    PausedSurvivesKill = "paused-survives-kill" breaks ["kill.paused-dies-of-kill"];
    /// Signals to a paused container are lost.
    PausedLosesSignals = "paused-loses-signals" breaks ["kill.paused-keeps-signals-pending"];

    /// A stop takes its whole grace, although the program has ended on the signal.
    StopTakesItsGrace = "stop-takes-its-grace" breaks ["stop.keeps-the-programs-code"];
    /// Only half of the grace is granted.
    GraceIsHalved = "grace-is-halved" breaks ["stop.kills-after-the-grace"];
    /// A grace of zero is taken for ten seconds.
    ZeroGraceWaits = "zero-grace-waits" breaks ["stop.zero-grace-kills"];
    /// A stop always sends TERM.
    StopAlwaysSendsTerm = "stop-always-sends-term" breaks ["stop.sends-the-configured-signal"];
    /// A created container cannot be stopped.
    StopRefusesCreated = "stop-refuses-created" breaks ["stop.kills-created"];
    /// A paused container is not thawed by a stop.
    StopLeavesItFrozen = "stop-leaves-it-frozen" breaks ["stop.thaws-paused"];
    /// A stop of a stopped container moves its end.
    StopMovesTheEnd = "stop-moves-the-end" breaks ["stop.stopped-changes-nothing"];
    /// A second stop with a shorter grace changes nothing.
    ShorterGraceIsIgnored = "shorter-grace-is-ignored" breaks ["stop.shorter-grace-shortens"];
    /// A second stop with a longer grace replaces the first.
    LongerGraceLengthens = "longer-grace-lengthens" breaks ["stop.longer-grace-does-not-lengthen"];
    /// Every caller of stop sends the signal once more.
    EachStopSignals = "each-stop-signals" breaks ["stop.many-callers-agree"];
    /// A stop that is dropped is given up.
    DroppedStopIsForgotten = "dropped-stop-is-forgotten" breaks ["stop.dropped-goes-on"];

    /// Wait knows codes up to 192 and gives that for larger ones.
    WaitCutsTheCode = "wait-cuts-the-code" breaks ["wait.gives-the-exit-code"];
    /// Programs that end in the moment of their start have the code 0, all but the first.
    ShortLifeHasNoCode = "short-life-has-no-code" breaks ["wait.gives-the-code-of-a-short-life"];
    /// A program that traps nothing and is killed has the code 9, not 137.
    SignalDeathIsBare = "signal-death-is-bare" breaks ["wait.gives-signal-deaths"];
    /// The times in a log count from 1970.
    LogTimesAreWrong = "log-times-are-wrong" breaks ["log.cri-format"];
    /// A line that was never ended is logged as if it had been.
    LogEndsEveryLine = "log-ends-every-line" breaks ["log.marks-pieces"];
    /// The limit of a log's size is ignored.
    LogLimitIsIgnored = "log-limit-is-ignored" breaks ["log.limits-its-size"];
    /// Bytes that are zero do not reach the log.
    LogDropsBinaryData = "log-drops-binary-data" breaks ["log.keeps-binary-data"];
    /// Everybody on the host may read a log.
    LogIsPublic = "log-is-public" breaks ["log.is-private"];
    /// A log that is there already is begun anew.
    LogIsBegunAnew = "log-is-begun-anew" breaks ["log.continues-a-file"];
    /// A log that is reopened goes on in the old file.
    ReopenKeepsTheOldFile = "reopen-keeps-the-old-file" breaks ["log.reopen.goes-on-in-a-new-file"];
    /// The first piece of output after a reopen is lost.
    ReopenLosesALine = "reopen-loses-a-line" breaks ["log.reopen.loses-nothing"];
    /// A reopen begins the log anew although it was not renamed.
    ReopenBeginsAnew = "reopen-begins-anew" breaks ["log.reopen.changes-nothing-without-a-rename"];
    /// Of two reopens at once the second loses what is printed next.
    ReopensTogetherLose = "reopens-together-lose" breaks ["log.reopen.at-once-is-safe"];
    /// While a container is being stopped its log cannot be reopened.
    StopRefusesReopens = "stop-refuses-reopens" breaks ["log.reopen.works-during-the-grace"];
    /// Reopening the log of a stopped container is Ok.
    ReopenStoppedIsOk = "reopen-stopped-is-ok" breaks ["log.reopen.stopped-is-refused"];
    /// A monitor that lives is said to be lost.
    MonitorIsGivenUp = "monitor-is-given-up" breaks ["monitor.probe.finds-it-alive"];
    /// The monitor of a stopped container can be asked after.
    ProbeOfStoppedIsOk = "probe-of-stopped-is-ok" breaks ["monitor.probe.stopped-is-refused"];

    /// Wait is refused before the start.
    WaitRefusesCreated = "wait-refuses-created" breaks ["wait.blocks-until-the-end"];
    /// Once a wait was answered, a later one is told that nothing is known.
    WaitForgetsLateCallers = "wait-forgets-late-callers" breaks ["wait.answers-late-callers"];
    /// Of several who wait only the first gets an answer.
    OneWaiterIsAnswered = "one-waiter-is-answered" breaks ["wait.answers-many-callers"];
    /// Those who wait while the container is deleted are told that it is not found.
    DeleteFailsWaiters = "delete-fails-waiters" breaks ["wait.survives-a-delete"];
    /// A new wait after the delete gets the old status.
    WaitRemembersTheDeleted = "wait-remembers-the-deleted" breaks ["wait.after-delete-is-not-found"];
    /// A wait that is dropped kills the container.
    DroppedWaitKills = "dropped-wait-kills" breaks ["wait.dropped-changes-nothing"];

    /// An id that was used once stays taken.
    DeleteKeepsTheId = "delete-keeps-the-id" breaks ["delete.frees-the-id"];
    /// A running container can be deleted without force.
    DeleteRunningSucceeds = "delete-running-succeeds" breaks ["delete.running-is-refused"];
    /// A paused container can be deleted without force.
    DeletePausedSucceeds = "delete-paused-succeeds" breaks ["delete.paused-is-refused"];
    /// A created container cannot be deleted without force.
    DeleteRefusesCreated = "delete-refuses-created" breaks ["delete.kills-created"];
    /// A forced delete grants ten seconds to a program that traps signals.
    ForceIsPolite = "force-is-polite" breaks ["delete.force-kills"];
    /// A paused container cannot be deleted, with force neither.
    ForceRefusesPaused = "force-refuses-paused" breaks ["delete.force-kills-paused"];
    /// A forced delete of a container that never was fails.
    ForceOfUnknownFails = "force-of-unknown-fails" breaks ["delete.force-of-unknown-is-ok"];
    /// A delete without force of what was deleted already is Ok.
    DeleteAgainIsOk = "delete-again-is-ok" breaks ["delete.again-is-not-found"];
    /// Delete removes the log.
    DeleteRemovesTheLog = "delete-removes-the-log" breaks ["delete.keeps-the-log"];
    /// A container that is deleted with force while it runs leaves its processes, if it has several.
    DeleteLeavesProcesses = "delete-leaves-processes" breaks ["delete.leaves-no-process"];
    /// While a container is being deleted its state is an internal error.
    StateFailsDuringDelete = "state-fails-during-delete" breaks ["concurrency.delete-against-state"];

    /// The standard error of an exec with streams comes on standard output.
    AttachedExecMixesStreams = "attached-exec-mixes-streams" breaks ["exec.carries-streams-apart"];
    /// The end of the input of an exec with streams does not reach the program.
    AttachedInputNeverEnds = "attached-input-never-ends" breaks ["exec.carries-input"];
    /// Of the input of an exec with streams only the first 64 KiB arrive.
    AttachedInputIsCut = "attached-input-is-cut" breaks ["exec.carries-large-streams"];
    /// An exec with streams whose input was not given waits for input for ever.
    AttachedInputIsAwaited = "attached-input-is-awaited" breaks ["exec.works-without-streams"];
    /// An exec with streams that ends with a code above 100 is told as code 0.
    AttachedCodeIsCut = "attached-code-is-cut" breaks ["exec.gives-the-exit-code"];
    /// Why an exec with streams was refused is written to its standard error, too.
    AttachedRefusalIsPrinted = "attached-refusal-is-printed" breaks ["exec.missing-program-is-rejected"];
    /// The time limit of an exec with streams is told as an ordinary death by KILL.
    AttachedTimeoutIsHidden = "attached-timeout-is-hidden" breaks ["exec.times-out"];
    /// The time limit of an exec with streams ends the program alone.
    AttachedTimeoutSparesDescendants = "attached-timeout-spares-descendants" breaks ["exec.times-out"];
    /// An exec that nobody waits for any more goes on.
    DroppedExecGoesOn = "dropped-exec-goes-on" breaks
        ["exec.dropped-ends-descendants", "exec.sync.dropped-ends-descendants"];
    /// An exec with streams waits as long as a background child holds its output.
    AttachedExecWaitsForChildren = "attached-exec-waits-for-children" breaks
        ["exec.ignores-background-children"];
    /// An exec with streams in a container that was only created succeeds without running anything.
    AttachedExecBeforeStartIsOk = "attached-exec-before-start-is-ok" breaks ["exec.needs-a-running-container"];
    /// While one exec's client reads nothing, the clients of others get nothing.
    ClientsTakeTurns = "clients-take-turns" breaks ["exec.slow-client-slows-itself-alone"];
    /// An exec whose client closes a stream is over.
    LostClientEndsExec = "lost-client-ends-exec" breaks ["exec.goes-on-without-a-stream"];
    /// An exec with streams is refused once a stop has begun.
    StopRefusesAttachedExecs = "stop-refuses-attached-execs" breaks ["exec.works-during-the-grace"];
    /// An exec with streams whose container is killed is told as code 0.
    KilledAttachedExecSucceeds = "killed-attached-exec-succeeds" breaks ["exec.ends-with-the-container"];
    /// The open files that an exec is given are in the wrong order.
    DescriptorsAreSwapped = "descriptors-are-swapped" breaks ["exec.passes-descriptors"];
    /// What a program with a terminal writes to standard error comes on standard error.
    TerminalSplitsStreams = "terminal-splits-streams" breaks ["exec.tty.merges-streams"];
    /// The end of the input of an exec with a terminal does not reach the program.
    TypedInputNeverEnds = "typed-input-never-ends" breaks ["exec.tty.carries-input"];
    /// The terminal of an exec has no size.
    TerminalHasNoSize = "terminal-has-no-size" breaks ["exec.tty.begins-with-the-wanted-size"];
    /// The terminal of an exec keeps its first size.
    SizesOfExecsAreLost = "sizes-of-execs-are-lost" breaks ["exec.tty.follows-sizes"];
    /// Of what is printed at once on an exec's terminal only the first 64 KiB come.
    TerminalCutsLargeOutput = "terminal-cuts-large-output" breaks ["exec.tty.carries-large-output"];
    /// A collected exec that asks for a terminal gets none.
    CollectedExecsHaveNoTerminal = "collected-execs-have-no-terminal" breaks ["exec.tty.serves-collected-execs"];

    /// The standard error of an exec comes on standard output.
    ExecMixesStreams = "exec-mixes-streams" breaks ["exec.sync.separates-output"];
    /// A collected exec that ends with a code above 100 is told as code 0.
    ExecCodeIsCut = "exec-code-is-cut" breaks ["exec.sync.gives-the-exit-code"];
    /// An exec gets the container's environment and working directory, whatever was asked.
    ExecForgetsSettings = "exec-forgets-settings" breaks ["exec.sync.passes-process-settings", "exec.session.passes-process-settings"];
    /// An exec runs as the container's user, whatever was asked.
    ExecForgetsTheUser = "exec-forgets-the-user" breaks ["exec.sync.runs-as-the-user"];
    /// An exec has all capabilities.
    ExecHasAllCapabilities = "exec-has-all-capabilities" breaks ["exec.sync.keeps-the-containers-privileges"];
    /// An exec of a missing program is a program that ends with 127.
    ExecMissingProgramRuns = "exec-missing-program-runs" breaks ["exec.sync.missing-program-is-rejected", "exec.session.missing-program-is-rejected"];
    /// The time limit of an exec is told as an ordinary death by KILL.
    TimeoutIsHidden = "timeout-is-hidden" breaks ["exec.sync.times-out"];
    /// The time limit of an exec ends the program alone.
    TimeoutSparesDescendants = "timeout-spares-descendants" breaks ["exec.sync.timeout-ends-descendants"];
    /// The limit of an exec's output is ignored.
    OutputLimitIsIgnored = "output-limit-is-ignored" breaks ["exec.sync.limits-output"];
    /// An exec waits as long as a background child holds its output.
    ExecWaitsForChildren = "exec-waits-for-children" breaks ["exec.sync.ignores-background-children"];
    /// An exec in a container that was only created succeeds without running anything.
    ExecBeforeStartIsOk = "exec-before-start-is-ok" breaks ["exec.sync.needs-a-running-container"];
    /// What one exec prints, all that run at the same time get.
    ExecsShareTheirOutput = "execs-share-their-output" breaks ["exec.sync.runs-in-parallel"];
    /// An exec is refused once a stop has begun.
    StopRefusesExecs = "stop-refuses-execs" breaks ["exec.sync.works-during-the-grace"];
    /// An exec or a session whose container is killed is told as code 0.
    KilledExecSucceeds = "killed-exec-succeeds" breaks ["exec.sync.ends-with-the-container", "exec.session.ends-with-the-container"];
    /// An exec in a container that has ended since it was last looked at is a failure of the runtime.
    LateExecIsRejected = "late-exec-is-rejected" breaks ["exec.sync.meets-the-kill"];

    /// The state of a session has another pid than its start gave.
    SessionPidDiffers = "session-pid-differs" breaks ["exec.session.runs-the-program"];
    /// The code of a session is told once, and lost then.
    SessionForgetsItsCode = "session-forgets-its-code" breaks ["exec.session.keeps-the-exit-code"];
    /// A second start of a session id replaces the first session.
    SessionTwiceReplaces = "session-twice-replaces" breaks ["exec.session.known-id-is-refused"];
    /// A session in a container that was only created succeeds without running anything.
    SessionBeforeStartIsOk = "session-before-start-is-ok" breaks ["exec.session.needs-a-running-container"];
    /// A start of a session that is dropped keeps the id.
    DroppedSessionStays = "dropped-session-stays" breaks ["exec.session.dropped-start-leaves-nothing"];
    /// The end of a client's input ends that of a session, although it is to be kept open.
    SessionInputIsNotKept = "session-input-is-not-kept" breaks ["exec.session.attach-carries-streams"];
    /// A stop of a session takes its whole grace, although the program has ended.
    SessionStopTakesItsGrace = "session-stop-takes-its-grace" breaks ["exec.session.stop-keeps-the-programs-code"];
    /// A session is granted half of the grace.
    SessionGraceIsHalved = "session-grace-is-halved" breaks ["exec.session.stop-kills-after-the-grace"];
    /// A stop of a session kills its program alone.
    SessionStopSparesDescendants = "session-stop-spares-descendants" breaks ["exec.session.stop-kills-after-the-grace"];
    /// A second stop of a session with a shorter grace changes nothing.
    SessionShorterGraceIsIgnored = "session-shorter-grace-is-ignored" breaks ["exec.session.stop-shorter-grace-shortens"];
    /// A stop of a session that is dropped is given up.
    DroppedSessionStopIsForgotten = "dropped-session-stop-is-forgotten" breaks ["exec.session.stop-dropped-goes-on"];
    /// A stop of a session that ended makes its code 137.
    SessionStopChangesTheCode = "session-stop-changes-the-code" breaks ["exec.session.stop-of-stopped-changes-nothing"];
    /// A stop of a session in a paused container kills it.
    SessionStopIgnoresThePause = "session-stop-ignores-the-pause" breaks ["exec.session.stop-in-a-paused-container-is-refused"];
    /// A session that asks for a terminal gets pipes.
    SessionTerminalIsAPipe = "session-terminal-is-a-pipe" breaks ["exec.session.has-a-terminal"];
    /// A session's terminal keeps the size that it has.
    SessionResizeIsIgnored = "session-resize-is-ignored" breaks ["exec.session.resize-reaches-the-program"];
    /// A resize of a session without a terminal is Ok.
    SessionResizeWithoutTerminalIsOk = "session-resize-without-terminal-is-ok" breaks ["exec.session.resize-needs-a-terminal"];
    /// A session id that was used once stays taken.
    SessionCleanupKeepsTheId = "session-cleanup-keeps-the-id" breaks ["exec.session.cleanup-frees-the-id"];
    /// The cleanup of a session that runs kills it.
    SessionCleanupOfRunningIsOk = "session-cleanup-of-running-is-ok" breaks ["exec.session.cleanup-of-running-is-refused"];
    /// A stop of a session that never was is Ok.
    StopOfUnknownSessionIsOk = "stop-of-unknown-session-is-ok" breaks ["exec.session.unknown-is-not-found"];
    /// Dropping the value kills its sessions.
    SessionsEndWithTheValue = "sessions-end-with-the-value" breaks ["exec.session.outlives-a-reopen"];

    /// What a program writes to standard error at its start reaches nobody who attached before.
    AttachMissesTheStart = "attach-misses-the-start" breaks ["attach.before-start-misses-nothing"];
    /// The end of a client's input does not reach the program.
    InputNeverEnds = "input-never-ends" breaks ["attach.carries-input"];
    /// Only the newest client gets output.
    OneClientIsServed = "one-client-is-served" breaks
        ["attach.serves-several-clients", "attach.silent-clients-hold-up-no-others", "exec.session.attach-serves-several-clients"];
    /// Attach goes on when the program has ended, as long as the client's input has not.
    AttachNeverEnds = "attach-never-ends" breaks ["attach.ends-with-the-program"];
    /// Attaching to a stopped container, or to a session that ended, is Ok.
    AttachStoppedIsOk = "attach-stopped-is-ok" breaks ["attach.stopped-is-refused", "exec.session.attach-needs-a-running-session"];
    /// Of what is printed at once, clients get at most 64 KiB.
    LargeOutputIsCut = "large-output-is-cut" breaks ["attach.carries-large-output"];
    /// Clients that read nothing are never cut off.
    SilentClientsStay = "silent-clients-stay" breaks ["attach.cuts-off-silent-clients"];
    /// Clients that are merely slow are cut off.
    SlowClientsAreCutOff = "slow-clients-are-cut-off" breaks ["attach.waits-for-slow-clients"];
    /// The end of a client's input ends the program's although it is to be kept open.
    KeptInputEnds = "kept-input-ends" breaks ["attach.keeps-input-open"];
    /// Of a client's input only the first 512 KiB reach the program.
    LargeInputIsCut = "large-input-is-cut" breaks ["attach.carries-large-input"];
    /// The keys that detach are input like any other.
    DetachKeysAreInput = "detach-keys-are-input" breaks ["attach.detaches-by-keys"];
    /// Once a client has left, later ones get nothing.
    ClientsComeOnce = "clients-come-once" breaks ["attach.serves-later-clients"];
    /// What a program prints to a terminal comes as if there were none.
    TerminalIsAPipe = "terminal-is-a-pipe" breaks ["attach.shows-a-terminal"];
    /// The size that a client wants first is ignored.
    InitialSizeIsIgnored = "initial-size-is-ignored" breaks ["attach.sets-the-first-size"];
    /// The sizes that a client wants later are ignored.
    SizesAreNotPassedOn = "sizes-are-not-passed-on" breaks ["attach.passes-sizes-on"];
    /// A resize is Ok and changes nothing.
    ResizeIsIgnored = "resize-is-ignored" breaks ["attach.resize.reaches-the-program"];
    /// Of sizes that come close together the first one stays.
    BurstsOfSizesAreLost = "bursts-of-sizes-are-lost" breaks ["attach.resize.last-of-a-burst-wins"];
    /// A container without a terminal can be resized.
    ResizeWithoutTerminalIsOk = "resize-without-terminal-is-ok" breaks ["attach.resize.needs-a-terminal"];
    /// A stopped container can be resized.
    ResizeStoppedIsOk = "resize-stopped-is-ok" breaks ["attach.resize.stopped-is-refused"];

    /// A checkpointed container is told as one that was killed.
    CheckpointSaysKilled = "checkpoint-says-killed" breaks ["checkpoint.ends-the-container"];
    /// A later value tells of a checkpointed container that it was killed.
    ReopenForgetsCheckpoints = "reopen-forgets-checkpoints" breaks ["checkpoint.end-survives-a-reopen"];
    /// A checkpoint that is to leave the container running kills it.
    LeaveRunningEnds = "leave-running-ends" breaks ["checkpoint.leaves-it-running"];
    /// A checkpoint thaws the container.
    CheckpointThaws = "checkpoint-thaws" breaks ["checkpoint.leaves-it-paused"];
    /// A container that was only created can be checkpointed.
    CheckpointCreatedIsOk = "checkpoint-created-is-ok" breaks ["checkpoint.needs-a-running-container"];
    /// An image takes the place of whatever was there.
    CheckpointOverwrites = "checkpoint-overwrites" breaks ["checkpoint.failure-changes-nothing"];
    /// Options of a checkpoint that are not declared are ignored.
    CheckpointIgnoresOptions = "checkpoint-ignores-options" breaks ["checkpoint.undeclared-options-are-refused"];
    /// A checkpoint ends the container first and writes the image then; when its caller goes away in between, there is none.
    DroppedCheckpointIsTorn = "dropped-checkpoint-is-torn" breaks ["checkpoint.dropped-is-whole-or-nothing"];
    /// A restored program begins anew.
    RestoreBeginsAnew = "restore-begins-anew" breaks ["restore.continues-the-program"];
    /// A restore empties the log.
    RestoreEmptiesTheLog = "restore-empties-the-log" breaks ["restore.continues-the-log"];
    /// An image is gone once it was restored.
    RestoreUsesTheImageUp = "restore-uses-the-image-up" breaks ["restore.serves-many-times"];
    /// A restored container is stopped by a signal that its program does not know.
    RestoreForgetsTheStopSignal = "restore-forgets-the-stop-signal" breaks ["restore.is-a-whole-life"];
    /// A restore replaces a container of its id.
    RestoreReplaces = "restore-replaces" breaks ["restore.rejects-a-known-id"];
    /// A broken image makes a container that begins anew.
    BrokenImageBeginsAnew = "broken-image-begins-anew" breaks ["restore.rejects-broken-images"];

    /// A paused program goes on.
    PauseDoesNotFreeze = "pause-does-not-freeze" breaks ["pause.freezes-until-resume"];
    /// Pausing a paused container is Ok.
    PauseTwiceIsOk = "pause-twice-is-ok" breaks ["pause.twice-is-refused"];
    /// Pausing a created container is Ok.
    PauseCreatedIsOk = "pause-created-is-ok" breaks ["pause.needs-a-running-container"];
    /// Resuming a running container is Ok.
    ResumeRunningIsOk = "resume-running-is-ok" breaks ["resume.needs-a-paused-container"];

    /// A program that the kernel killed for want of memory is told as killed by anybody.
    OomIsHidden = "oom-is-hidden" breaks ["wait.tells-want-of-memory"];
    /// An update succeeds and changes nothing.
    UpdateDoesNothing = "update-does-nothing" breaks ["update.changes-limits"];
    /// An update takes away the limits that it does not name.
    UpdateForgetsTheRest = "update-forgets-the-rest" breaks ["update.keeps-what-is-not-named"];
    /// An update thaws a paused container.
    UpdateThaws = "update-thaws" breaks ["update.paused-stays-paused"];
    /// An update of a stopped container is Ok.
    UpdateOfTheStopped = "update-of-the-stopped" breaks ["update.stopped-is-refused"];
    /// An update that asks for nothing is Ok.
    EmptyUpdateIsOk = "empty-update-is-ok" breaks ["update.nothing-is-invalid"];
    /// A memory limit below what is used is refused and stays all the same.
    RefusedLimitsStay = "refused-limits-stay" breaks ["update.refused-limits-change-nothing"];
    /// A memory limit below what is used is accepted and forgotten.
    LowLimitIsOk = "low-limit-is-ok" breaks ["update.refused-limits-change-nothing"];
    /// Stats bear the time at which the value was opened.
    StatsAreOld = "stats-are-old" breaks ["stats.counts-what-is-used"];
    /// The processor time never grows.
    TimeStandsStill = "time-stands-still" breaks ["stats.grows-with-work"];
    /// What a program takes besides its own memory is not counted.
    EatenIsNotCounted = "eaten-is-not-counted" breaks ["stats.sees-memory"];
    /// Limits are not shown.
    LimitsAreHidden = "limits-are-hidden" breaks ["stats.shows-limits"];
    /// A paused container goes on to use the processor.
    PausedUsesTime = "paused-uses-time" breaks ["stats.answers-while-paused"];
    /// The stats of a stopped container are its last ones.
    StatsOfTheStopped = "stats-of-the-stopped" breaks ["stats.stopped-is-refused"];
    /// The file system is said to have no size.
    DiskHasNoSize = "disk-has-no-size" breaks ["stats.disk.tells-the-file-system"];
    /// The file system of a stopped container is told.
    DiskOfTheStopped = "disk-of-the-stopped" breaks ["stats.disk.stopped-is-refused"];

    /// Every end is told twice.
    EndsAreToldTwice = "ends-are-told-twice" breaks ["events.tells-starts-and-ends"];
    /// The end of a container that is being deleted is not told.
    ForceIsSilent = "force-is-silent" breaks ["events.tells-ends-by-force"];
    /// Only the newest subscriber is told anything.
    OneSubscriberIsTold = "one-subscriber-is-told" breaks ["events.reaches-every-subscriber"];
    /// A subscriber is told everything that ever happened.
    EventsAreReplayed = "events-are-replayed" breaks ["events.begins-with-the-subscription"];
    /// A kill for want of memory is told as an end only.
    OomIsNotTold = "oom-is-not-told" breaks ["events.tells-want-of-memory"];
    /// Only the subscribers of the newest value are told anything.
    OthersAreUnheard = "others-are-unheard" breaks ["events.tells-what-others-do"];
    /// The stream goes on when the value is gone.
    EventsNeverEnd = "events-never-end" breaks ["events.ends-with-the-value"];

    /// A program that listens on ::1 alone is not reached.
    OneFamilyIsReached = "one-family-is-reached" breaks ["ports.reaches-both-families"];
    /// The end of a client's direction does not reach the program.
    EndOfInputIsKept = "end-of-input-is-kept" breaks ["ports.client-may-end-first"];
    /// The end of the program's direction ends the connection.
    ProgramsEndEndsAll = "programs-end-ends-all" breaks ["ports.program-may-end-first"];
    /// After a mebibyte nothing comes back.
    ForwardIsCut = "forward-is-cut" breaks ["ports.carries-much"];
    /// A connection to a port where nobody listens is Ok, and over at once.
    ClosedPortIsOk = "closed-port-is-ok" breaks ["ports.closed-port-is-rejected"];
    /// A connection to a created container is Ok, and over at once.
    ForwardToTheCreated = "forward-to-the-created" breaks ["ports.needs-a-running-container"];
    /// A connection goes on when its container has ended.
    ForwardOutlivesTheContainer = "forward-outlives-the-container" breaks ["ports.ends-with-the-container"];
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_every_defect_is_described() {
        let names: BTreeSet<_> = Defect::ALL.iter().map(|defect| defect.name()).collect();
        assert_eq!(names.len(), Defect::ALL.len());
        assert!(Defect::ALL.iter().all(|defect| defect.describe().ends_with('.')));
    }
}
