//! The little language of the probe program.
//!
//! Every argument after the program's name is one step; steps run in order, and a script that ends without `exit` ends
//! with code 0. The same file is compiled into the library, into the model that runs scripts on virtual time, and into
//! the static program that runs them for real, so that all three agree on what a script says. It uses `std` only.
//!
//! ```text
//! out:TEXT          a line to standard output          exit:N               end with code N
//! raw:TEXT          the same without a newline         sleep:MILLIS         wait
//! err:TEXT          a line to standard error           forever              wait for ever
//! fill:BYTES        that much of a fixed pattern       tick:MILLIS          print `tick N` for ever, from 1, at once
//! cat               standard input to standard output  trap:NUM:exit:N      at signal NUM end with code N
//! env:NAME          `NAME=value` or `NAME unset`       trap:NUM:ignore      ignore signal NUM
//! cwd               the working directory              trap:NUM:say         print `signal NUM` each time it arrives
//! args              its own arguments                  raise:NUM            send the signal to itself
//! procs             `procs N`: how many processes      trap:NUM:winsize     do as `winsize` each time it arrives
//!                   it sees, itself included           child:MILLIS         leave a child behind that sleeps,
//! tty               `tty yes` or `tty no`: whether     child:forever        with the same standard output
//!                   standard input is a terminal       orphan:...           the same in a session of its own
//! who               `uid U gid G groups A B`: whose it is, the groups without the first one and in order
//! caps              `effective HEX bounding HEX`, and `no-new-privileges` where that is set
//! to:N:TEXT         a line to descriptor N, which is open when the program begins
//! winsize           `winsize ROWS COLUMNS` of the terminal at standard output, or `winsize none`
//! eat:BYTES         take that much memory and keep it
//! fd:NUM            read once from a descriptor: `fd NUM TEXT` or `fd NUM closed`
//! listen:PORT       answer on 127.0.0.1 from now on: see [`Step::Listen`]
//! listen6:PORT      the same on ::1
//! lock:FILE         make a file and hold an exclusive lock on it
//! ```
//!
//! Traps are armed when their step is reached; waiting steps go on after a trap that does not end the program.

use std::time::Duration;

/// One step of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Prints a line to standard output.
    Out(String),
    /// Prints text to standard output, without a newline.
    Raw(String),
    /// Prints a line to standard error.
    Err(String),
    /// Prints this many bytes of the pattern of [`filling`].
    Fill(u64),
    /// Takes this many bytes of memory, writes to each page, and keeps them.
    Eat(u64),
    /// Reads once from a descriptor, and prints what was there.
    Descriptor(i32),
    /// Brings up the loopback if it may, listens on one address of it, and goes on. Every connection gets back what it
    /// sends, and `end` on a line of its own when it has sent everything. After a byte 4 it gets nothing more, but may go
    /// on to send. When it is over the program prints `received N`, the number of bytes that came.
    Listen(Family, u16),
    /// Makes a file, takes an exclusive lock on it as `flock` does, and keeps that.
    Lock(String),
    /// Ends the program with this code, 0 to 255.
    Exit(u8),
    /// Waits, in whole milliseconds.
    Sleep(Duration),
    /// Waits for ever.
    Forever,
    /// Decides what a signal does from now on.
    Trap(i32, Trap),
    /// Sends this signal to the program itself.
    Raise(i32),
    /// Copies standard input to standard output until its end.
    Cat,
    /// Prints an environment variable: `NAME=value`, or `NAME unset`.
    Env(String),
    /// Prints the working directory.
    Cwd,
    /// Prints the program's own arguments, as [`shown_args`] does.
    Args,
    /// Prints `procs N`: how many processes there are, this one included and zombies left out.
    Procs,
    /// Prints whose the process is, as [`shown_who`] does.
    Who,
    /// Prints what it may do, as [`shown_caps`] does.
    Caps,
    /// Writes a line to a descriptor that was open when the program began, 3 or above.
    To(u8, String),
    /// Prints `tty yes` or `tty no`: whether standard input is a terminal.
    Tty,
    /// Prints `winsize ROWS COLUMNS`, the size of the terminal at standard output, or `winsize none`.
    Winsize,
    /// Starts a child that only waits and holds the same standard output and standard error.
    Child(Life),
    /// The same, in a session of its own.
    Orphan(Life),
    /// Prints `tick N` for ever, N counting from 1, the first at once and then one per period.
    Tick(Duration),
}

/// Which of the two addresses of the loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 127.0.0.1.
    V4,
    /// ::1.
    V6,
}

/// The byte after which a listener answers no more.
pub const ENOUGH: u8 = 4;

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// It ends the program with this code.
    Exit(u8),
    /// Nothing.
    Ignore,
    /// It prints `signal NUM`, once for each arrival.
    Say,
    /// It does as the step `winsize`, once for each arrival.
    Winsize,
}

/// How long a child lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// This long, in whole milliseconds.
    For(Duration),
    /// Until it is killed.
    Forever,
}

impl Life {
    /// The script of such a child.
    #[must_use]
    pub fn step(self) -> Step {
        match self {
            Self::For(time) => Step::Sleep(time),
            Self::Forever => Step::Forever,
        }
    }
}

impl Step {
    /// The argument that [`parse`] reads back as this step.
    #[must_use]
    pub fn to_arg(&self) -> String {
        let life = |life: &Life| match life {
            Life::For(time) => time.as_millis().to_string(),
            Life::Forever => "forever".to_owned(),
        };
        match self {
            Self::Out(text) => format!("out:{text}"),
            Self::Raw(text) => format!("raw:{text}"),
            Self::Err(text) => format!("err:{text}"),
            Self::Fill(bytes) => format!("fill:{bytes}"),
            Self::Eat(bytes) => format!("eat:{bytes}"),
            Self::Descriptor(number) => format!("fd:{number}"),
            Self::Listen(Family::V4, port) => format!("listen:{port}"),
            Self::Listen(Family::V6, port) => format!("listen6:{port}"),
            Self::Lock(file) => format!("lock:{file}"),
            Self::Exit(code) => format!("exit:{code}"),
            Self::Sleep(time) => format!("sleep:{}", time.as_millis()),
            Self::Forever => "forever".to_owned(),
            Self::Trap(signal, Trap::Exit(code)) => format!("trap:{signal}:exit:{code}"),
            Self::Trap(signal, Trap::Ignore) => format!("trap:{signal}:ignore"),
            Self::Trap(signal, Trap::Say) => format!("trap:{signal}:say"),
            Self::Trap(signal, Trap::Winsize) => format!("trap:{signal}:winsize"),
            Self::Raise(signal) => format!("raise:{signal}"),
            Self::Cat => "cat".to_owned(),
            Self::Env(name) => format!("env:{name}"),
            Self::Cwd => "cwd".to_owned(),
            Self::Args => "args".to_owned(),
            Self::Procs => "procs".to_owned(),
            Self::Who => "who".to_owned(),
            Self::Caps => "caps".to_owned(),
            Self::To(number, text) => format!("to:{number}:{text}"),
            Self::Tty => "tty".to_owned(),
            Self::Winsize => "winsize".to_owned(),
            Self::Child(child) => format!("child:{}", life(child)),
            Self::Orphan(child) => format!("orphan:{}", life(child)),
            Self::Tick(period) => format!("tick:{}", period.as_millis()),
        }
    }
}

/// Reads a script: the program's arguments without its name.
///
/// # Errors
/// A sentence that quotes the first argument that is no step.
pub fn parse<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Result<Vec<Step>, String> {
    args.into_iter()
        .map(|arg| {
            let arg = arg.as_ref();
            step(arg).map_err(|why| format!("step {arg:?}: {why}"))
        })
        .collect()
}

/// The first `bytes` bytes of a fixed pattern: printable lines of 64 bytes, newline included, each with its number, so
/// that anything lost, doubled or out of order shows.
#[must_use]
pub fn filling(bytes: usize) -> Vec<u8> {
    let mut line = FILL_FIRST_LINE.to_owned().into_bytes();
    let mut text = Vec::with_capacity(bytes + line.len());
    while text.len() < bytes {
        text.extend_from_slice(&line);
        count_up(&mut line[..FILL_DIGITS]);
    }
    text.truncate(bytes);
    text
}

/// What the step `args` prints, without the newline: `["args", "out:a b"]`.
#[must_use]
pub fn shown_args(args: &[String]) -> String {
    format!("{args:?}")
}

/// What the step `who` prints, without the newline.
#[must_use]
pub fn shown_who(uid: u32, gid: u32, groups: &[u32]) -> String {
    let mut others: Vec<u32> = groups.iter().copied().filter(|each| *each != gid).collect();
    others.sort_unstable();
    others.dedup();
    let others: String = others.iter().map(|each| format!(" {each}")).collect();
    format!("uid {uid} gid {gid} groups{others}")
}

/// What the step `caps` prints, without the newline.
#[must_use]
pub fn shown_caps(effective: u64, bounding: u64, no_new_privileges: bool) -> String {
    let end = if no_new_privileges { " no-new-privileges" } else { "" };
    format!("effective {effective:x} bounding {bounding:x}{end}")
}

/// What the step `winsize` prints, without the newline.
#[must_use]
pub fn shown_size(size: Option<(u16, u16)>) -> String {
    size.map_or_else(|| "winsize none".to_owned(), |(rows, columns)| format!("winsize {rows} {columns}"))
}

/// Adds one to a decimal number, as an odometer does.
fn count_up(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit != b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

fn step(arg: &str) -> Result<Step, String> {
    let (verb, rest) = match arg.split_once(':') {
        Some((verb, rest)) => (verb, Some(rest)),
        None => (arg, None),
    };
    match (verb, rest) {
        ("forever", None) => Ok(Step::Forever),
        ("cat", None) => Ok(Step::Cat),
        ("cwd", None) => Ok(Step::Cwd),
        ("args", None) => Ok(Step::Args),
        ("procs", None) => Ok(Step::Procs),
        ("who", None) => Ok(Step::Who),
        ("caps", None) => Ok(Step::Caps),
        ("tty", None) => Ok(Step::Tty),
        ("winsize", None) => Ok(Step::Winsize),
        ("out", Some(text)) => Ok(Step::Out(text.to_owned())),
        ("raw", Some(text)) => Ok(Step::Raw(text.to_owned())),
        ("err", Some(text)) => Ok(Step::Err(text.to_owned())),
        ("fill", Some(bytes)) => number(bytes).map(Step::Fill),
        ("eat", Some(bytes)) => number(bytes).map(Step::Eat),
        ("fd", Some(text)) => {
            let number = i32::try_from(number(text)?).map_err(|_| format!("{text:?} is no descriptor"))?;
            Ok(Step::Descriptor(number))
        }
        ("listen", Some(text)) => port(text).map(|port| Step::Listen(Family::V4, port)),
        ("listen6", Some(text)) => port(text).map(|port| Step::Listen(Family::V6, port)),
        ("to", Some(rest)) => match rest.split_once(':') {
            Some((number, text)) => match exit_code(number)? {
                0..=2 => Err("the first three descriptors have steps of their own".to_owned()),
                number => Ok(Step::To(number, text.to_owned())),
            },
            None => Err("a descriptor and a text are needed".to_owned()),
        },
        ("lock", Some(file)) => Ok(Step::Lock(file.to_owned())),
        ("exit", Some(code)) => exit_code(code).map(Step::Exit),
        ("sleep", Some(time)) => millis(time).map(Step::Sleep),
        ("tick", Some(period)) => match millis(period)? {
            Duration::ZERO => Err("a period of zero would never let the clock go on".to_owned()),
            period => Ok(Step::Tick(period)),
        },
        ("trap", Some(rest)) => trap(rest),
        ("raise", Some(number)) => signal(number).map(Step::Raise),
        ("env", Some(name)) if !name.is_empty() && !name.contains('=') => Ok(Step::Env(name.to_owned())),
        ("env", Some(_)) => Err("not the name of an environment variable".to_owned()),
        ("child", Some(rest)) => life(rest).map(Step::Child),
        ("orphan", Some(rest)) => life(rest).map(Step::Orphan),
        ("forever" | "cat" | "cwd" | "args" | "procs" | "who" | "caps" | "tty" | "winsize", Some(_)) => {
            Err("takes nothing after it".to_owned())
        }
        _ => Err("no such step".to_owned()),
    }
}

fn trap(rest: &str) -> Result<Step, String> {
    let (signal_text, action) = rest.split_once(':').ok_or("a trap needs a signal and an action")?;
    let number = signal(signal_text)?;
    // The kernel keeps 9 and 19, the C library 32 and 33.
    if matches!(number, 9 | 19 | 32 | 33) {
        return Err(format!("signal {number} cannot be trapped"));
    }
    let action = match action.split_once(':') {
        None if action == "ignore" => Trap::Ignore,
        None if action == "say" => Trap::Say,
        None if action == "winsize" => Trap::Winsize,
        Some(("exit", code)) => Trap::Exit(exit_code(code)?),
        _ => return Err("an action is exit:N, ignore, say or winsize".to_owned()),
    };
    Ok(Step::Trap(number, action))
}

fn life(text: &str) -> Result<Life, String> {
    if text == "forever" { Ok(Life::Forever) } else { millis(text).map(Life::For) }
}

fn signal(text: &str) -> Result<i32, String> {
    match number(text)? {
        number @ 1..=64 => Ok(number as i32),
        _ => Err(format!("{text:?} is no signal from 1 to 64")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    let port = u16::try_from(number(text)?).ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{text:?} is no port from 1 to 65535"))
}

fn exit_code(text: &str) -> Result<u8, String> {
    u8::try_from(number(text)?).map_err(|_| format!("{text:?} is no exit code from 0 to 255"))
}

fn millis(text: &str) -> Result<Duration, String> {
    number(text).map(Duration::from_millis)
}

fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| format!("{text:?} is no number"))
}

const FILL_FIRST_LINE: &str = "000000000000 abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX\n";
const FILL_DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_read_back_from_its_argument() {
        let second = Duration::from_secs(1);
        let steps = [
            Step::Out("a:b c\n".into()),
            Step::Out(String::new()),
            Step::Raw("x".into()),
            Step::Err("y".into()),
            Step::Fill(1 << 40),
            Step::Eat(1 << 40),
            Step::Descriptor(3),
            Step::Listen(Family::V4, 1),
            Step::Listen(Family::V6, 65535),
            Step::Lock("/tmp/a:b".into()),
            Step::Exit(255),
            Step::Sleep(second),
            Step::Forever,
            Step::Trap(15, Trap::Exit(3)),
            Step::Trap(64, Trap::Ignore),
            Step::Trap(1, Trap::Say),
            Step::Trap(28, Trap::Winsize),
            Step::Raise(9),
            Step::Cat,
            Step::Env("PATH".into()),
            Step::Cwd,
            Step::Args,
            Step::Procs,
            Step::Who,
            Step::Caps,
            Step::To(3, "a:b".into()),
            Step::Tty,
            Step::Winsize,
            Step::Child(Life::For(second)),
            Step::Child(Life::Forever),
            Step::Orphan(Life::For(Duration::ZERO)),
            Step::Orphan(Life::Forever),
            Step::Tick(second),
        ];
        let args: Vec<String> = steps.iter().map(Step::to_arg).collect();
        assert_eq!(parse(&args).unwrap(), steps);
    }

    #[test]
    fn what_is_no_step_is_refused_and_quoted() {
        for bad in [
            "",
            "sleep",
            "sleep:",
            "sleep:-1",
            "sleep:+1",
            "sleep:1s",
            "exit:256",
            "listen:0",
            "listen:65536",
            "trap:15",
            "trap:9:ignore",
            "trap:0:say",
            "trap:65:say",
            "trap:15:exit",
            "trap:15:say:x",
            "raise:0",
            "env:",
            "env:a=b",
            "child:",
            "tick:0",
            "cat:x",
            "winsize:1",
            "to:1:x",
            "to:3",
            "trap:28:winsize:x",
            "/bin/true",
        ] {
            let why = parse([bad]).unwrap_err();
            assert!(why.contains(&format!("{bad:?}")), "{why}");
        }
    }

    #[test]
    fn the_filling_has_a_newline_at_each_64th_byte_and_numbered_lines() {
        let text = filling(200);
        assert_eq!(text.len(), 200);
        for (at, byte) in text.iter().enumerate() {
            assert_eq!(*byte == b'\n', at % 64 == 63, "byte {at}");
        }
        assert!(text[64..].starts_with(b"000000000001 "));
        let large = filling(64 * 1101);
        assert!(large[64 * 1100..].starts_with(b"000000001100 "));
        assert!(filling(0).is_empty());
    }
}
