//! `manyrun logs`: the log of a container, as its program printed it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use runtime_api::Result;
use runtime_handlers::logs::{LogOptions, LogReader, LogStream, parse_time};
use serde_json::json;

use crate::json::Output;
use crate::{fail, print, tell};

/// Show a log in the format of the CRI, such as `run --log` writes: standard output on standard output, standard error on
/// standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  manyrun logs web.log\n  manyrun logs --tail 20 --follow web.log\n  \
                  manyrun logs --since 10m web.log\n  manyrun logs --since 2024-01-02T03:04:05+01:00 web.log")]
pub(crate) struct Args {
    /// Only the last lines.
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Only lines printed at this time or later: a time in RFC 3339, or how long ago, such as 10m.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
    /// Go on with what comes, also in a new file after the log was renamed, until it is interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Write what was read as JSON to this file, "-" for standard output (the text then goes to standard error).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The log.
    log: PathBuf,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    let read = Output::open(args.json.as_deref()).and_then(|output| {
        let mut shown = Shown { only_stderr: output.takes_stdout(), ..Shown::default() };
        let clock = crate::run::clock()?;
        let done = clock.block_on(show(args, &mut shown));
        if shown.malformed > 0 {
            tell(&format!(
                "{} lines of the log are not in the format of the CRI, and left out",
                shown.malformed
            ));
        }
        output.write(&json!({
            "schema": 1,
            "log": args.log,
            "lines": shown.lines,
            "malformed": shown.malformed,
            "error": done.as_ref().err().map(runtime_api::Error::report),
        }))?;
        done
    });
    ExitCode::from(read.map_or_else(|error| fail(&error), |()| 0))
}

#[derive(Debug, Default)]
struct Shown {
    only_stderr: bool,
    lines: u64,
    malformed: u64,
}

async fn show(args: &Args, shown: &mut Shown) -> Result<()> {
    let mut options = LogOptions::new();
    options.tail = args.tail;
    options.since = args.since;
    if args.follow && !args.log.exists() {
        tell(&format!("waiting for {}, which does not exist yet", args.log.display()));
    }
    let mut log = if args.follow {
        LogReader::follow(&args.log, options, interrupted())?
    } else {
        LogReader::open(&args.log, options)?
    };
    while let Some(line) = log.next().await? {
        shown.lines += u64::from(line.ended);
        shown.malformed = log.malformed();
        let mut text = line.text;
        if line.ended {
            text.push(b'\n');
        }
        let printed = if shown.only_stderr || line.stream == LogStream::Stderr {
            io::stderr().lock().write_all(&text)
        } else {
            print::try_out(&text)
        };
        if printed.is_err() {
            // Whoever reads has seen enough, or nothing more can be written.
            break;
        }
    }
    shown.malformed = log.malformed();
    Ok(())
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A time, or how long ago it was.
fn moment(text: &str) -> std::result::Result<SystemTime, String> {
    if let Some(time) = parse_time(text) {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        "neither a time such as 2024-01-02T03:04:05Z nor how long ago, such as 10m".to_owned()
    })?;
    SystemTime::now().checked_sub(ago).ok_or_else(|| "before the beginning of time".to_owned())
}
