//! The moment in which the init of a container becomes its program.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::Identity;
use crate::descriptor;

/// How long a program that cannot be told from the runtime is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// For how long is looked again and again: as a rule it takes some tens of microseconds.
const AT_ONCE: Duration = Duration::from_micros(300);
/// For how long is looked often. Tokio's clock ticks in milliseconds: whoever sleeps by it misses the moment by one or two,
/// which is a tenth of what a start takes.
const SOON: Duration = Duration::from_millis(5);
/// How often that is.
const OFTEN: Duration = Duration::from_micros(100);
/// How often after that.
const SELDOM: Duration = Duration::from_millis(1);

impl Identity {
    /// Waits until the process runs another file than the one in which it waited, as an init does once it has become the
    /// program. A runtime's start returns when the init was told to go on, which is a moment earlier: a signal in between
    /// would end the runtime's own code, with a code of its own. A program that cannot be told from the runtime is not
    /// waited for any longer than half a second.
    pub async fn until_replaced(self, waiting: (u64, u64)) {
        let begun = Instant::now();
        let mut ticks = None;
        while self.program() == Some(waiting) {
            match begun.elapsed() {
                elapsed if elapsed < AT_ONCE => tokio::task::yield_now().await,
                elapsed if elapsed < SOON => match ticks.get_or_insert_with(|| Ticks::every(OFTEN)) {
                    Ok(ticks) => ticks.next().await,
                    // It only costs a little time.
                    Err(_) => tokio::time::sleep(SELDOM).await,
                },
                elapsed if elapsed < PATIENCE => tokio::time::sleep(SELDOM).await,
                _ => return,
            }
        }
    }
}

/// A clock of the kernel, which keeps to shorter times than tokio's.
struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    fn every(period: Duration) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let period = Timespec { tv_sec: 0, tv_nsec: period.subsec_nanos().into() };
        let ticks = Itimerspec { it_interval: period, it_value: period };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &ticks)?;
        Ok(Self(descriptor::watch(timer)?))
    }

    /// Waits for the next one. Those that nobody waited for count as one.
    async fn next(&self) {
        let mut count = [0; 8];
        loop {
            // A runtime that shuts down watches nothing any more; then the look itself is all there is.
            let Ok(mut ready) = self.0.readable().await else { return };
            match rustix::io::read(self.0.get_ref(), &mut count) {
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_ticks_again_and_again() {
        let ticks = Ticks::every(OFTEN).unwrap();
        let begun = Instant::now();
        for _ in 0..20 {
            ticks.next().await;
        }
        assert!(begun.elapsed() >= OFTEN * 10, "{:?}", begun.elapsed());
    }
}
