//! What a fake shim does wrong on command.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_shim_protos::api;
use protobuf::Message as _;
use tokio::sync::Notify;
use ttrpc::Code;

use runtime_vm::task::answer::TaskStatus;

/// What is wrong with the answers to a method. But for the first three the request is carried out at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// It is refused with this.
    Refuses(Code, String),
    /// It is not carried out, and the connection is closed.
    ForgetsTheCall,
    /// It is carried out when the commands are [taken back](Misdeeds::none), whoever is gone by then.
    Hesitates,
    /// The answer comes so much later.
    Late(Duration),
    /// There is no answer.
    Silent,
    /// The last byte of the answer does not come, and the connection is closed.
    Torn,
    /// The last byte of the answer does not come.
    Halved,
    /// The answer is larger than a frame may be.
    Oversize,
    /// The connection is closed instead of an answer.
    Closes,
    /// The answer is said to be that of another call.
    WrongStream,
    /// The answer is no message.
    Garbage,
    /// The answer is a message of the service with bytes in it that are none.
    GarbageInside,
    /// State says this of whatever it is.
    Lies(TaskStatus),
    /// The answer names another container.
    WrongId,
    /// The pid in the answer is this.
    Pid(u32),
    /// The shim dies: its sockets close, and what it knew is gone.
    Dies,
}

impl Misdeed {
    /// Makes a wrong answer of a true one.
    pub(super) fn spoil(&self, method: &str, reply: &mut Vec<u8>) {
        match self {
            Self::GarbageInside => *reply = vec![0xff; 8],
            Self::Lies(status) => {
                if let Ok(mut state) = api::StateResponse::parse_from_bytes(reply) {
                    state.status = protobuf::EnumOrUnknown::from_i32(status.number());
                    *reply = state.write_to_bytes().unwrap_or_default();
                }
            }
            Self::WrongId => {
                if let Ok(mut state) = api::StateResponse::parse_from_bytes(reply) {
                    state.id = "somebody-else".to_owned();
                    *reply = state.write_to_bytes().unwrap_or_default();
                }
            }
            Self::Pid(pid) => *reply = with_pid(method, reply, *pid).unwrap_or_default(),
            _ => {}
        }
    }
}

/// The same answer with another pid.
fn with_pid(method: &str, reply: &[u8], pid: u32) -> protobuf::Result<Vec<u8>> {
    match method {
        "Create" => {
            let mut answer = api::CreateTaskResponse::parse_from_bytes(reply)?;
            answer.pid = pid;
            answer.write_to_bytes()
        }
        "Start" => {
            let mut answer = api::StartResponse::parse_from_bytes(reply)?;
            answer.pid = pid;
            answer.write_to_bytes()
        }
        "State" => {
            let mut answer = api::StateResponse::parse_from_bytes(reply)?;
            answer.pid = pid;
            answer.write_to_bytes()
        }
        "Connect" => {
            let mut answer = api::ConnectResponse::parse_from_bytes(reply)?;
            (answer.shim_pid, answer.task_pid) = (pid, pid);
            answer.write_to_bytes()
        }
        _ => Ok(reply.to_vec()),
    }
}

#[derive(Debug)]
struct Rule {
    method: String,
    misdeed: Misdeed,
    left: usize,
}

/// The commands to the shims of one connector. They hold for those that run and for those to come. The method `Forward` is
/// their own call that tells an event: with any misdeed the event does not come.
#[derive(Debug, Default)]
pub struct Misdeeds {
    rules: Mutex<Vec<Rule>>,
    taken_back: Notify,
    hesitating: AtomicUsize,
}

impl Misdeeds {
    /// From now on every answer to this method is wrong in this way.
    pub fn always(&self, method: &str, misdeed: Misdeed) {
        self.add(method, misdeed, usize::MAX);
    }

    /// The next answer to this method is.
    pub fn once(&self, method: &str, misdeed: Misdeed) {
        self.add(method, misdeed, 1);
    }

    /// From now on they behave.
    pub fn none(&self) {
        self.rules().clear();
        self.taken_back.notify_waiters();
    }

    /// How many calls are not carried out yet, or are just now.
    #[must_use]
    pub fn hesitating(&self) -> usize {
        self.hesitating.load(Ordering::SeqCst)
    }

    /// Does what is to be done once the commands are taken back.
    pub(super) async fn hesitate<T>(&self, then: impl Future<Output = T>) -> T {
        self.hesitating.fetch_add(1, Ordering::SeqCst);
        loop {
            let mut taken_back = pin!(self.taken_back.notified());
            // What is taken back between the look and the wait must not be missed.
            taken_back.as_mut().enable();
            if self.rules().is_empty() {
                break;
            }
            taken_back.await;
        }
        let done = then.await;
        self.hesitating.fetch_sub(1, Ordering::SeqCst);
        done
    }

    fn add(&self, method: &str, misdeed: Misdeed, times: usize) {
        self.rules().push(Rule { method: method.to_owned(), misdeed, left: times });
    }

    /// What is to be done with a call, which counts.
    pub(super) fn for_call(&self, method: &str) -> Option<Misdeed> {
        let mut rules = self.rules();
        let rule = rules.iter_mut().find(|rule| rule.method == method && rule.left > 0)?;
        rule.left -= 1;
        Some(rule.misdeed.clone())
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
