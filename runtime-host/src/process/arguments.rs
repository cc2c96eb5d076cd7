//! Processes that are known by their arguments alone.
//!
//! The kernel reads the arguments of a process from its memory, and whoever asks for those of one that is stuck, as on a
//! file system whose server is gone, is stuck with it. So they are read on threads of their own, and a process that does
//! not answer is left out, for as long as it does not.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::Identity;

/// How long one process may take to answer. It takes microseconds.
const ANSWER: Duration = Duration::from_secs(1);
/// How long is waited for the arguments of processes that have none.
const BECOMING: Duration = Duration::from_millis(100);
/// How many that do not answer are put up with in one search.
const PATIENCE: usize = 5;

/// Every other process whose arguments are as wanted.
pub async fn with_arguments(wanted: impl Fn(&[&[u8]]) -> bool + Send + Sync + 'static) -> Vec<Identity> {
    let (wanted, without) = (Arc::new(wanted), Arc::new(Mutex::new(Vec::new())));
    let ask = || {
        let (wanted, without) = (Arc::clone(&wanted), Arc::clone(&without));
        move |process: Identity| has_arguments(process, &*wanted, &without)
    };
    let mut found = search(others(), ask()).await;
    let deadline = Instant::now() + BECOMING;
    loop {
        // One that is becoming another program has none for a moment.
        let again = std::mem::take(&mut *held(&without));
        if again.is_empty() || Instant::now() >= deadline {
            return found;
        }
        sleep(Duration::from_millis(2)).await;
        found.extend(search(again, ask()).await);
    }
}

/// Notes who has none. Threads of the kernel never have any, and run no program either.
fn has_arguments(
    process: Identity,
    wanted: impl Fn(&[&[u8]]) -> bool,
    without: &Mutex<Vec<Identity>>,
) -> bool {
    let has_none = Cell::new(false);
    let found = process.has_arguments(|arguments| {
        has_none.set(arguments == [b""]);
        wanted(arguments)
    });
    if has_none.get() && process.program().is_some() {
        held(without).push(process);
    }
    found
}

fn others() -> Vec<Identity> {
    let own = Identity::own();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(Identity::of).filter(|process| *process != own).collect()
}

/// A search that a second thread takes over when the first is stuck.
struct Search<F> {
    processes: Vec<Identity>,
    next: AtomicUsize,
    is_wanted: F,
    found: Mutex<Vec<Identity>>,
}

async fn search(
    processes: Vec<Identity>,
    is_wanted: impl Fn(Identity) -> bool + Send + Sync + 'static,
) -> Vec<Identity> {
    let (next, found) = (AtomicUsize::new(0), Mutex::default());
    let search = Arc::new(Search { processes, next, is_wanted, found });
    for _ in 0..PATIENCE {
        let Some(mut worker) = Worker::start(&search) else { break };
        match worker.stuck_at().await {
            Some(at) => worker.leave(&search, at),
            None => break,
        }
    }
    std::mem::take(&mut held(&search.found))
}

/// A thread on what is left of a search.
struct Worker {
    /// The process that it looks at.
    at: Arc<AtomicUsize>,
    over: oneshot::Receiver<()>,
}

impl Worker {
    fn start<F>(search: &Arc<Search<F>>) -> Option<Self>
    where
        F: Fn(Identity) -> bool + Send + Sync + 'static,
    {
        let (done, over) = oneshot::channel();
        let at = Arc::new(AtomicUsize::new(0));
        let (search, now) = (Arc::clone(search), Arc::clone(&at));
        let work = move || {
            loop {
                let index = search.next.fetch_add(1, Ordering::SeqCst);
                now.store(index, Ordering::SeqCst);
                let Some(process) = search.processes.get(index).copied() else { break };
                if held(&SILENT).contains(&process) {
                    continue;
                }
                if (search.is_wanted)(process) {
                    held(&search.found).push(process);
                }
                now.store(usize::MAX, Ordering::SeqCst);
                held(&SILENT).retain(|silent| *silent != process);
            }
            let _ = done.send(());
        };
        match std::thread::Builder::new().name("manyrun-look".into()).spawn(work) {
            Ok(_) => Some(Self { at, over }),
            Err(error) => {
                tracing::warn!(%error, "processes cannot be looked for");
                None
            }
        }
    }

    /// The number of the process that does not answer; nothing once the search is over.
    async fn stuck_at(&mut self) -> Option<usize> {
        let mut before = None;
        loop {
            if timeout(ANSWER, &mut self.over).await.is_ok() {
                return None;
            }
            let now = self.at.load(Ordering::SeqCst);
            if before == Some(now) && now != usize::MAX {
                return Some(now);
            }
            before = Some(now);
        }
    }

    /// Leaves the thread to itself. What it is stuck at is tried by nobody until it answers.
    fn leave<F>(&self, search: &Search<F>, at: usize) {
        let Some(process) = search.processes.get(at) else { return };
        tracing::warn!(pid = process.pid, "a process is passed over: the kernel does not tell its arguments");
        let mut silent = held(&SILENT);
        silent.push(*process);
        // It may have answered just now, and nobody would take it from the list any more.
        if self.at.load(Ordering::SeqCst) != at {
            silent.retain(|one| one != process);
        }
    }
}

/// Those that some thread is stuck at.
static SILENT: Mutex<Vec<Identity>> = Mutex::new(Vec::new());

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};

    fn processes() -> Vec<Identity> {
        (1..=20).map(|pid| Identity { pid, start: 0 }).collect()
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_passed_over_until_it_does() {
        let (free, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let stuck = search(processes(), move |process| {
            if process.pid == 7 {
                let _ = held(&gate).recv();
            }
            process.pid % 7 == 0
        });
        let pids = |found: Vec<Identity>| found.into_iter().map(|each| each.pid).collect::<Vec<_>>();
        assert_eq!(pids(stuck.await), [14]);
        // Nobody asks it again.
        let asked = Arc::new(AtomicBool::new(false));
        let is_asked = Arc::clone(&asked);
        let few = search(processes(), move |process| {
            is_asked.fetch_or(process.pid == 7, Ordering::Relaxed);
            process.pid < 10
        });
        assert_eq!(pids(few.await), [1, 2, 3, 4, 5, 6, 8, 9]);
        assert!(!asked.load(Ordering::Relaxed));
        drop(free);
        while !held(&SILENT).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(pids(search(processes(), |process| process.pid == 7).await), [7]);
    }

    #[tokio::test]
    async fn a_process_is_found_by_its_arguments() {
        let mut child =
            tokio::process::Command::new("sleep").arg("61.0625").kill_on_drop(true).spawn().unwrap();
        let wanted = |arguments: &[&[u8]]| arguments.contains(&b"61.0625".as_slice());
        // Between fork and exec it still has those of its parent.
        while with_arguments(wanted).await.is_empty() {
            tokio::task::yield_now().await;
        }
        let found = with_arguments(wanted).await;
        assert_eq!(
            found.iter().map(|each| each.pid.unsigned_abs()).collect::<Vec<_>>(),
            [child.id().unwrap()]
        );
        child.kill().await.unwrap();
    }
}
