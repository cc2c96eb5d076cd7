//! Where the last lines of a file begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::decode::{Head, LogStream};

/// How much is read at once on the way back.
const BLOCK: usize = 64 * 1024;
/// How much of a record tells what it is.
const HEAD: usize = 128;

/// The offset of a record from which the file, up to `end`, has the last `count` lines whole, and perhaps some before
/// them.
pub(super) fn start_of_last(file: &File, end: u64, count: u64) -> io::Result<u64> {
    let mut search = Search { wanted: count, lines: 0, seen: [None; 2] };
    let mut block = vec![0; BLOCK];
    // What was read of the file last begins here; a record begins at 0 and after every newline.
    let mut at = end;
    while at > 0 {
        let size = BLOCK.min(usize::try_from(at).unwrap_or(BLOCK));
        at -= size as u64;
        file.read_exact_at(&mut block[..size], at)?;
        let newlines =
            (0..size).rev().filter(|place| block[*place] == b'\n').map(|place| at + place as u64 + 1);
        for start in newlines.chain((at == 0).then_some(0)).filter(|start| *start < end) {
            let mut head = [0; HEAD];
            let length = HEAD.min(usize::try_from(end - start).unwrap_or(HEAD));
            file.read_exact_at(&mut head[..length], start)?;
            if Head::of(&head[..length]).is_some_and(|head| search.is_over(head)) {
                return Ok(start);
            }
        }
    }
    Ok(0)
}

/// What was found on the way back.
struct Search {
    wanted: u64,
    lines: u64,
    /// For each stream that has a piece of a line that is wanted: whether all pieces were passed.
    seen: [Option<bool>; 2],
}

impl Search {
    /// Takes the record before those that were taken so far.
    fn is_over(&mut self, head: Head) -> bool {
        let stream = match head.stream {
            LogStream::Stdout => 0,
            LogStream::Stderr => 1,
        };
        // The last record of a stream ends a line, or the line is not ended.
        if head.full || self.seen[stream].is_none() {
            self.lines += 1;
        }
        let beyond = self.lines > self.wanted;
        match &mut self.seen[stream] {
            Some(passed) => *passed |= beyond && head.full,
            seen @ None if !beyond => *seen = Some(false),
            None => {}
        }
        beyond && self.seen.iter().all(|seen| seen.is_none_or(|passed| passed))
    }
}
