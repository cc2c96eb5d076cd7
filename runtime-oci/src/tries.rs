//! Commands that failed before they did anything, and are repeated.
//!
//! Some programs get ready before they look at what they are asked, and can fail at that for a moment. Which messages
//! say so stands in the dialect tables.

use std::time::Duration;

use tokio::time::sleep;

use runtime_api::{Error, ErrorKind};

use crate::dialect::Dialect;

/// How often a command is run at most.
const MOST: u32 = 6;
/// The first pause; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(10);

/// How often one command was tried.
#[derive(Debug)]
pub(crate) struct Tries {
    dialects: &'static [&'static Dialect],
    made: u32,
}

impl Tries {
    /// No try so far of a command that speaks one of these dialects.
    pub(crate) fn of(dialects: &'static [&'static Dialect]) -> Self {
        Self { dialects, made: 0 }
    }

    /// Whether to try again after this error; it waits for the right moment.
    pub(crate) async fn again(&mut self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::Rejected { message, .. } => self.again_after(message).await,
            _ => false,
        }
    }

    /// [`Tries::again`] after a message.
    pub(crate) async fn again_after(&mut self, message: &str) -> bool {
        self.made += 1;
        if self.made >= MOST || !self.dialects.iter().any(|dialect| dialect.says_untouched(message)) {
            return false;
        }
        tracing::debug!(tries = self.made, %message, "a command that did nothing is repeated");
        sleep(PAUSE * 2_u32.pow(self.made - 1)).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: &str = "Error: failed to seal /proc/self/exe: Device or resource busy (os error 16)";

    #[tokio::test(start_paused = true)]
    async fn only_what_did_nothing_is_repeated_and_not_for_ever() {
        let mut tries = Tries::of(Dialect::of("youki").alone());
        assert!(!tries.again_after("container x does not exist").await);
        let mut tries = Tries::of(Dialect::of("youki").alone());
        let mut made = 1;
        while tries.again_after(BUSY).await {
            made += 1;
        }
        assert_eq!(made, MOST);
        assert!(!Tries::of(Dialect::of("runc").alone()).again_after(BUSY).await, "another program");
        assert!(!Tries::of(Dialect::of("nobody").alone()).again_after(BUSY).await, "an unknown program");
    }
}
