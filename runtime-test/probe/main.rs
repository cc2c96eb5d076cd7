//! `manyrun-probe`: runs the script in its arguments, for real. See `script.rs` for the language.
//!
//! It is linked statically and needs nothing in the container's root file system. Exit codes of its own: 64 for a
//! script that cannot be read, 71 for a child that cannot be started, 74 for output that cannot be written.
#![expect(
    unsafe_code,
    reason = "std has no signal handlers, no poll and no setsid, and the program takes no crates"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio, exit};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[path = "../src/script.rs"]
#[expect(unreachable_pub, reason = "the file is shared with a library, which shows it to others")]
mod script;

use script::{Family, Life, Step, Trap};

fn main() {
    let args: Result<Vec<String>, _> = std::env::args_os().skip(1).map(|arg| arg.into_string()).collect();
    let Ok(args) = args else { fail(64, "an argument is not UTF-8") };
    let steps = match script::parse(&args) {
        Ok(steps) => steps,
        Err(why) => fail(64, &why),
    };
    let mut probe = match Probe::new(args, &steps) {
        Ok(probe) => probe,
        Err(error) => fail(71, &format!("cannot make the pipe that wakes it: {error}")),
    };
    for step in &steps {
        probe.handle_arrivals();
        probe.run(step);
    }
    probe.handle_arrivals();
}

/// How often each signal arrived and was not handled yet; written by the signal handler alone, taken by the main thread.
static ARRIVED: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];
/// The descriptor that the signal handler writes to, so that a wait which begins after the signal still ends.
static WAKE: AtomicI32 = AtomicI32::new(-1);

struct Probe {
    args: Vec<String>,
    given: BTreeMap<u8, File>,
    traps: BTreeMap<i32, Trap>,
    woken: UnixStream,
}

impl Probe {
    fn new(args: Vec<String>, steps: &[Step]) -> io::Result<Self> {
        // Before anything of our own is opened, or it would be taken for what was given.
        let mut given = BTreeMap::new();
        for step in steps {
            if let Step::To(number, _) = step
                && let Ok(file) = fs::OpenOptions::new().append(true).open(format!("/proc/self/fd/{number}"))
            {
                given.insert(*number, file);
            }
        }
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        WAKE.store(wake.as_raw_fd(), Ordering::SeqCst);
        // The signal handler uses the descriptor until the program ends.
        std::mem::forget(wake);
        // Children that end must not stay as zombies: nobody waits for them.
        set_handler(SIGCHLD, SIG_IGN);
        Ok(Self { args, given, traps: BTreeMap::new(), woken })
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Out(text) => print(format!("{text}\n").as_bytes()),
            Step::Raw(text) => print(text.as_bytes()),
            Step::Err(text) => written(&io::stderr().write_all(format!("{text}\n").as_bytes())),
            Step::Fill(bytes) => fill(*bytes),
            Step::Eat(bytes) => eat(*bytes),
            Step::Descriptor(number) => read_descriptor(*number),
            Step::Listen(family, port) => listen(*family, *port),
            Step::Lock(file) => lock(file),
            Step::Exit(code) => exit(i32::from(*code)),
            Step::Sleep(time) => self.sleep(Instant::now().checked_add(*time)),
            Step::Forever => self.sleep(None),
            Step::Trap(signal, trap) => self.arm(*signal, *trap),
            Step::Raise(signal) => raise_signal(*signal),
            Step::Cat => self.cat(),
            Step::Env(name) => match std::env::var_os(name) {
                Some(value) => print(format!("{name}={}\n", value.to_string_lossy()).as_bytes()),
                None => print(format!("{name} unset\n").as_bytes()),
            },
            Step::Cwd => match std::env::current_dir() {
                Ok(dir) => print(format!("{}\n", dir.display()).as_bytes()),
                Err(error) => fail(71, &format!("cannot read the working directory: {error}")),
            },
            Step::Args => print(format!("{}\n", script::shown_args(&self.args)).as_bytes()),
            Step::Procs => print(format!("procs {}\n", processes()).as_bytes()),
            Step::Who => print_who(),
            Step::Caps => print_caps(),
            Step::To(number, text) => self.write_to(*number, text),
            Step::Tty => print(if io::stdin().is_terminal() { b"tty yes\n" } else { b"tty no\n" }),
            Step::Winsize => print_size(),
            Step::Child(life) => spawn(*life, false),
            Step::Orphan(life) => spawn(*life, true),
            Step::Tick(period) => self.tick(*period),
        }
    }

    fn write_to(&mut self, number: u8, text: &str) {
        match self.given.get_mut(&number) {
            Some(file) => written(&file.write_all(format!("{text}\n").as_bytes())),
            None => fail(71, &format!("descriptor {number} is not open")),
        }
    }

    fn arm(&mut self, signal: i32, trap: Trap) {
        // The action must be known before the first arrival.
        self.traps.insert(signal, trap);
        match trap {
            Trap::Ignore => set_handler(signal, SIG_IGN),
            Trap::Exit(_) | Trap::Say | Trap::Winsize => {
                set_handler(signal, note_arrival as *const () as usize);
            }
        }
    }

    /// Does what the traps say about every signal that has arrived.
    fn handle_arrivals(&mut self) {
        let mut drain = [0; 64];
        while matches!(self.woken.read(&mut drain), Ok(1..)) {}
        for (signal, trap) in &self.traps {
            let Ok(index) = usize::try_from(*signal) else { continue };
            let arrived = ARRIVED[index].swap(0, Ordering::SeqCst);
            for _ in 0..arrived {
                match trap {
                    Trap::Exit(code) => exit(i32::from(*code)),
                    Trap::Say => print(format!("signal {signal}\n").as_bytes()),
                    Trap::Winsize => print_size(),
                    Trap::Ignore => {}
                }
            }
        }
    }

    fn sleep(&mut self, until: Option<Instant>) {
        while until.is_none_or(|until| until > Instant::now()) {
            self.wait(None, until);
            self.handle_arrivals();
        }
    }

    fn tick(&mut self, period: Duration) {
        for number in 1_u64.. {
            print(format!("tick {number}\n").as_bytes());
            self.sleep(Instant::now().checked_add(period));
        }
    }

    fn cat(&mut self) {
        // A closed standard input is at its end.
        let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else { return };
        let mut stdin = File::from(stdin);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if self.wait(Some(stdin.as_raw_fd()), None) {
                match stdin.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => print(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A terminal whose other end is gone says EIO.
                    Err(_) => return,
                }
            }
            self.handle_arrivals();
        }
    }

    /// Waits for a signal, for input or for a moment; tells whether there is input.
    fn wait(&self, input: Option<i32>, until: Option<Instant>) -> bool {
        let mut polled = [
            PollFd { fd: self.woken.as_raw_fd(), events: POLLIN, revents: 0 },
            PollFd { fd: input.unwrap_or(-1), events: POLLIN, revents: 0 },
        ];
        let timeout = until.map_or(-1, |until| {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that the last millisecond is not spent spinning.
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // SAFETY: the pointer and the length describe an array that lives through the call.
        unsafe { poll(polled.as_mut_ptr(), 2, timeout) };
        polled[1].revents != 0
    }
}

fn print(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    written(&stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

fn print_who() {
    let mut groups = [0; 256];
    // SAFETY: the calls take no memory but the array, whose length goes with it.
    let (uid, gid, count) = unsafe { (geteuid(), getegid(), getgroups(256, groups.as_mut_ptr())) };
    let Ok(count) = usize::try_from(count) else { fail(71, "cannot read the groups") };
    print(format!("{}\n", script::shown_who(uid, gid, &groups[..count])).as_bytes());
}

fn print_caps() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let (Some(effective), Some(bounding)) = (set("CapEff:"), set("CapBnd:")) else {
        fail(71, "/proc/self/status does not tell the capabilities")
    };
    // SAFETY: the request takes no memory.
    let no_new_privileges = unsafe { prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } == 1;
    print(format!("{}\n", script::shown_caps(effective, bounding, no_new_privileges)).as_bytes());
}

fn print_size() {
    let mut size = WinSize::default();
    // SAFETY: the request writes one such structure to where the pointer points.
    let told = unsafe { ioctl(1, TIOCGWINSZ, &raw mut size) } == 0;
    print(format!("{}\n", script::shown_size(told.then_some((size.rows, size.columns)))).as_bytes());
}

fn written(result: &io::Result<()>) {
    if result.is_err() {
        exit(74);
    }
}

fn fill(bytes: u64) {
    match usize::try_from(bytes) {
        Ok(bytes) => print(&script::filling(bytes)),
        Err(_) => fail(64, "more bytes than this machine can address"),
    }
}

/// Takes memory for good. Every byte is written, or the kernel would give no pages for it.
fn eat(bytes: u64) {
    let Ok(bytes) = usize::try_from(bytes) else { fail(64, "more bytes than this machine can address") };
    std::mem::forget(std::hint::black_box(vec![1_u8; bytes]));
}

fn lock(file: &str) {
    match File::create(file).and_then(|file| file.lock().map(|()| file)) {
        // Closed with the program.
        Ok(file) => std::mem::forget(file),
        Err(error) => fail(71, &format!("cannot lock {file}: {error}")),
    }
}

fn read_descriptor(number: i32) {
    // Opening it anew by its name reads the same pipe and needs no ownership of the number.
    let mut buffer = vec![0; 4096];
    match File::open(format!("/proc/self/fd/{number}")).and_then(|mut file| file.read(&mut buffer)) {
        Ok(count) => print(format!("fd {number} {}\n", String::from_utf8_lossy(&buffer[..count])).as_bytes()),
        Err(_) => print(format!("fd {number} closed\n").as_bytes()),
    }
}

/// Listens in a thread of its own, with another one for each connection.
fn listen(family: Family, port: u16) {
    raise_loopback();
    let address = match family {
        Family::V4 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        Family::V6 => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    };
    let listener = match TcpListener::bind(address) {
        Ok(listener) => listener,
        Err(error) => fail(71, &format!("cannot listen on {address}: {error}")),
    };
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || print(format!("received {}\n", answer(connection)).as_bytes()));
        }
    });
}

/// Gives back what comes, as far as it is wanted; gives the number of bytes that came. A connection that breaks is over.
fn answer(mut connection: TcpStream) -> u64 {
    let (mut received, mut answering) = (0, true);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match connection.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return received,
        };
        received += count as u64;
        if answering {
            let text = &buffer[..count];
            let wanted = text.iter().position(|byte| *byte == script::ENOUGH);
            let sent = connection.write_all(&text[..wanted.unwrap_or(count)]);
            answering = sent.is_ok() && wanted.is_none();
            if !answering {
                let _ = connection.shutdown(Shutdown::Write);
            }
        }
    }
    if answering {
        let _ = connection.write_all(b"end\n");
    }
    received
}

/// Some runtimes leave the loopback of a new network namespace down. Where this may not change it, listening tells.
fn raise_loopback() {
    const GET_FLAGS: u64 = 0x8913;
    const SET_FLAGS: u64 = 0x8914;
    const UP: i16 = 1;
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return };
    let mut request = InterfaceFlags { name: [0; 16], flags: 0, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: the descriptor is open, and both requests read and write a structure of this size and shape.
    unsafe {
        if ioctl(socket.as_raw_fd(), GET_FLAGS, &raw mut request) == 0 {
            request.flags |= UP;
            ioctl(socket.as_raw_fd(), SET_FLAGS, &raw mut request);
        }
    }
}

/// Counts the living entries of /proc, which shows the processes of the container.
fn processes() -> usize {
    let Ok(entries) = fs::read_dir("/proc") else { fail(71, "cannot read /proc") };
    let alive = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let pid = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let stat = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        // The state follows the last parenthesis: the name before it may hold anything.
        stat.is_some_and(|stat| {
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
        })
    };
    entries.flatten().filter(alive).count()
}

fn spawn(life: Life, own_session: bool) {
    let program = std::env::current_exe().unwrap_or_else(|_| "/manyrun-probe".into());
    let mut command = Command::new(program);
    command.arg(life.step().to_arg()).stdin(Stdio::null());
    if own_session {
        // SAFETY: setsid is async-signal-safe and touches no memory of this program.
        unsafe {
            command.pre_exec(|| if setsid() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) });
        }
    }
    // Nobody waits for it: SIGCHLD is ignored, so the kernel reaps every child.
    if let Err(error) = command.spawn() {
        fail(71, &format!("cannot start a child: {error}"));
    }
}

fn raise_signal(signal: i32) {
    // SAFETY: raise takes a number and touches no memory.
    unsafe { raise(signal) };
}

fn set_handler(signal: i32, handler: usize) {
    // SAFETY: the handler is SIG_IGN or note_arrival, which is async-signal-safe.
    unsafe { signal_action(signal, handler) };
}

extern "C" fn note_arrival(signal: i32) {
    // SAFETY: write is async-signal-safe, the buffer is one valid byte, and errno is put back for the code that was
    // interrupted. A full pipe is no loss: it already wakes the reader, and the count is kept beside it.
    unsafe {
        let errno = *__errno_location();
        ARRIVED[signal as usize].fetch_add(1, Ordering::SeqCst);
        let byte = 1_u8;
        write(WAKE.load(Ordering::SeqCst), &raw const byte, 1);
        *__errno_location() = errno;
    }
}

fn fail(code: i32, why: &str) -> ! {
    eprintln!("manyrun-probe: {why}");
    exit(code)
}

const SIG_IGN: usize = 1;
const SIGCHLD: i32 = 17;
const POLLIN: i16 = 1;
const TIOCGWINSZ: u64 = 0x5413;
const PR_GET_NO_NEW_PRIVS: i32 = 39;

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

#[repr(C)]
#[derive(Default)]
struct WinSize {
    rows: u16,
    columns: u16,
    pixels: [u16; 2],
}

#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

unsafe extern "C" {
    #[link_name = "signal"]
    fn signal_action(signal: i32, handler: usize) -> usize;
    fn raise(signal: i32) -> i32;
    fn setsid() -> i32;
    fn geteuid() -> u32;
    fn getegid() -> u32;
    fn getgroups(size: i32, groups: *mut u32) -> i32;
    fn prctl(option: i32, a: u64, b: u64, c: u64, d: u64) -> i32;
    fn ioctl(fd: i32, request: u64, ...) -> i32;
    fn poll(polled: *mut PollFd, count: u64, timeout: i32) -> i32;
    fn write(fd: i32, bytes: *const u8, count: usize) -> isize;
    fn __errno_location() -> *mut i32;
}
