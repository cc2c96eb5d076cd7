//! Signals by number or by the names people type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// A signal that can be sent to a container: 1 to 64. Signal 0 only asks, so it is none.
///
/// ```
/// use runtime_api::Signal;
/// for same in ["15", "TERM", "SIGTERM", "sigterm", "-TERM"] {
///     assert_eq!(same.parse::<Signal>()?, Signal::TERM);
/// }
/// assert_eq!("SIGRTMIN+3".parse::<Signal>()?.number(), 37);
/// assert!("0".parse::<Signal>().is_err());
/// # Ok::<(), runtime_api::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

impl Signal {
    /// Hang-up, 1.
    pub const HUP: Self = Self(1);
    /// Interrupt, 2.
    pub const INT: Self = Self(2);
    /// Kill, 9: cannot be caught.
    pub const KILL: Self = Self(9);
    /// User-defined 1, 10.
    pub const USR1: Self = Self(10);
    /// Terminate, 15: the default stop signal.
    pub const TERM: Self = Self(15);

    /// The signal with this number.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] outside 1 to 64.
    pub fn from_number(number: i32) -> Result<Self> {
        match u8::try_from(number) {
            Ok(small @ 1..=64) => Ok(Self(small)),
            _ => Err(invalid(&number.to_string())),
        }
    }

    /// The number, as Linux on x86 and arm counts.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Whether it is one of those above the classic ones, which queue; some runtimes cannot send them.
    #[must_use]
    pub const fn is_real_time(self) -> bool {
        self.0 > 31
    }

    /// The name with `SIG`, or `None` for a real-time signal and the two that the C library keeps for itself.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, number)| *number == self.0).map(|(name, _)| *name)
    }
}

/// The first name of a number is the one that is shown.
const NAMES: &[(&str, u8)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGIOT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPOLL", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
    ("SIGRTMIN", 34),
    ("SIGRTMAX", 64),
];

impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bare = text.strip_prefix('-').unwrap_or(text).to_ascii_uppercase();
        if let (true, Ok(number)) = (bare.bytes().all(|b| b.is_ascii_digit()), bare.parse::<u8>()) {
            return Self::from_number(i32::from(number)).map_err(|_| invalid(text));
        }
        let full = if bare.starts_with("SIG") { bare } else { format!("SIG{bare}") };
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == full) {
            return Ok(Self(*number));
        }
        let offset = |rest: &str| {
            let digits = rest.bytes().all(|b| b.is_ascii_digit());
            rest.parse::<u8>().ok().filter(|n| digits && *n <= 30)
        };
        let real_time = if let Some(rest) = full.strip_prefix("SIGRTMIN+") {
            offset(rest).map(|n| 34 + n)
        } else if let Some(rest) = full.strip_prefix("SIGRTMAX-") {
            offset(rest).map(|n| 64 - n)
        } else {
            None
        };
        real_time.map(Self).ok_or_else(|| invalid(text))
    }
}

impl TryFrom<String> for Signal {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> String {
        signal.to_string()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

fn invalid(text: &str) -> Error {
    let text: String = text.chars().take(40).collect();
    Error::new(ErrorKind::InvalidArgument(format!(
        "signal {text:?} is not a number from 1 to 64 nor a name such as TERM or SIGRTMIN+3"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_read_back_from_what_is_shown() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            ["0", "65", "-65", "99999999", "", "SIG", "BADSIG", "SIGRTMIN+31", "SIGRTMAX-31", "+9", "--9"]
        {
            assert!(bad.parse::<Signal>().is_err(), "{bad:?}");
        }
        assert!(Signal::from_number(-1).is_err());
    }
}
