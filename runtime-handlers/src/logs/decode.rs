//! From the bytes of a log file to lines, in bounded memory.

use std::collections::VecDeque;
use std::mem;
use std::time::SystemTime;

use super::parse_time;

/// A standard stream of a program.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a program printed, or a piece of one that is not whole yet.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When its first piece was written.
    pub time: SystemTime,
    /// Where it was printed to.
    pub stream: LogStream,
    /// The text, without the newline.
    pub text: Vec<u8>,
    /// Whether it goes on with the line of which the last piece of this stream was handed out.
    pub continues: bool,
    /// Whether the newline came. A line is handed out without it when it is too long to be kept, when nothing more came for
    /// a while, or at the end of the log.
    pub ended: bool,
}

/// The most bytes before a record's text: a time, a stream and tags.
const LONGEST_HEAD: usize = 128;

/// What stands before a record's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) time: SystemTime,
    pub(super) stream: LogStream,
    /// Whether the record ends its line.
    pub(super) full: bool,
}

impl Head {
    /// Reads `TIME stdout|stderr TAG`. Of several tags, set apart by colons, the first one says whether the line is full.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let (time, stream, tags) = (words.next()?, words.next()?, words.next()?);
        let stream = match stream {
            "stdout" => LogStream::Stdout,
            "stderr" => LogStream::Stderr,
            _ => return None,
        };
        let full = match tags.split(':').next() {
            Some("F") => true,
            Some("P") => false,
            _ => return None,
        };
        Some(Self { time: parse_time(time)?, stream, full })
    }

    /// Reads the head of a record of which at least this much is there.
    pub(super) fn of(record: &[u8]) -> Option<Self> {
        let record = &record[..record.len().min(LONGEST_HEAD)];
        let line = record.split(|byte| *byte == b'\n').next()?;
        let end = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at).nth(2);
        Self::parse(&line[..end.unwrap_or(line.len())])
    }
}

/// Where in a record the decoder is.
#[derive(Debug)]
enum Place {
    Head(Vec<u8>),
    Text(Head),
    /// In a line that is no record.
    Nonsense,
}

/// What is known of a line whose end has not come.
#[derive(Debug, Default)]
struct Begun {
    time: Option<SystemTime>,
    text: Vec<u8>,
    /// Whether pieces of it were handed out.
    continues: bool,
}

/// Takes bytes as they come, in pieces of any size, and gives lines.
#[derive(Debug)]
pub(super) struct Decoder {
    place: Place,
    begun: [Begun; 2],
    limit: usize,
    /// How many lines were no records.
    pub(super) malformed: u64,
}

impl Decoder {
    /// Of a line that is not ended, no more than this many bytes are kept.
    pub(super) fn new(limit: usize) -> Self {
        Self { place: Place::Head(Vec::new()), begun: Default::default(), limit: limit.max(1), malformed: 0 }
    }

    /// Takes more of the file.
    pub(super) fn feed(&mut self, mut bytes: &[u8], lines: &mut VecDeque<LogLine>) {
        while let Some(first) = bytes.first() {
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            match &mut self.place {
                Place::Head(head) => {
                    let ended = *first == b'\n';
                    let third_space =
                        *first == b' ' && head.iter().filter(|byte| **byte == b' ').count() == 2;
                    bytes = &bytes[1..];
                    if !(ended || third_space) {
                        head.push(*first);
                        if head.len() > LONGEST_HEAD {
                            self.nonsense();
                        }
                        continue;
                    }
                    match Head::parse(head) {
                        Some(head) => self.place = Place::Text(head),
                        None => self.nonsense(),
                    }
                    if ended {
                        self.end_record(lines);
                    }
                }
                Place::Text(head) => {
                    let head = *head;
                    let (text, rest) = bytes.split_at(newline.unwrap_or(bytes.len()));
                    self.text(head, text, lines);
                    bytes = rest;
                    if newline.is_some() {
                        bytes = &bytes[1..];
                        self.end_record(lines);
                    }
                }
                Place::Nonsense => match newline {
                    Some(at) => {
                        bytes = &bytes[at + 1..];
                        self.end_record(lines);
                    }
                    None => return,
                },
            }
        }
    }

    /// The file ends here, perhaps in the middle of a record, and another one begins.
    pub(super) fn file_ended(&mut self) {
        // Of a record whose end is missing what is there was taken; the line may go on in the next file.
        self.place = Place::Head(Vec::new());
    }

    /// Whether there is something of a line that was not handed out.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.iter().any(|begun| !begun.text.is_empty())
    }

    /// Hands out what there is of lines that are not ended.
    pub(super) fn flush(&mut self, lines: &mut VecDeque<LogLine>) {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            if !self.begun[index(stream)].text.is_empty() {
                self.hand_out(stream, false, lines);
            }
        }
    }

    fn nonsense(&mut self) {
        self.malformed += 1;
        self.place = Place::Nonsense;
    }

    fn text(&mut self, head: Head, mut text: &[u8], lines: &mut VecDeque<LogLine>) {
        let at = index(head.stream);
        self.begun[at].time.get_or_insert(head.time);
        while !text.is_empty() {
            // Full only when more comes: a line of just this length is whole.
            if self.begun[at].text.len() >= self.limit {
                self.hand_out(head.stream, false, lines);
            }
            let room = self.limit - self.begun[at].text.len();
            let (now, later) = text.split_at(room.min(text.len()));
            self.begun[at].text.extend_from_slice(now);
            text = later;
        }
    }

    fn end_record(&mut self, lines: &mut VecDeque<LogLine>) {
        if let Place::Text(head) = self.place {
            // A record without text begins a line, too.
            self.text(head, &[], lines);
            if head.full {
                self.hand_out(head.stream, true, lines);
            }
        }
        self.place = Place::Head(Vec::new());
    }

    fn hand_out(&mut self, stream: LogStream, ended: bool, lines: &mut VecDeque<LogLine>) {
        let begun = &mut self.begun[index(stream)];
        let Some(time) = begun.time else { return };
        let (text, continues) = (mem::take(&mut begun.text), begun.continues);
        if ended {
            *begun = Begun::default();
        } else {
            begun.continues = true;
        }
        lines.push_back(LogLine { time, stream, text, continues, ended });
    }
}

const fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: &str = "2024-01-02T03:04:05.000000006+01:00";

    /// The lines of a text that comes in these pieces, as `o:text` or `e:text`, with `>` before what continues and `|`
    /// behind what is not ended.
    fn decoded<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, u64) {
        let (mut decoder, mut lines) = (Decoder::new(limit), VecDeque::new());
        pieces.into_iter().for_each(|piece| decoder.feed(piece, &mut lines));
        decoder.flush(&mut lines);
        let shown = lines.iter().map(|line| {
            let text = String::from_utf8_lossy(&line.text);
            let stream = if line.stream == LogStream::Stdout { "o" } else { "e" };
            let (before, behind) = (if line.continues { ">" } else { "" }, if line.ended { "" } else { "|" });
            format!("{stream}:{before}{text}{behind}")
        });
        (shown.collect(), decoder.malformed)
    }

    fn sample() -> String {
        format!(
            "{T} stdout F one\n{T} stdout P tw\n{T} stderr P oh \n{T} stdout P o \n{T} stderr F no\n\
             what is this\n{T} stdout F three\n{T} stdout F \n{T} stdout F\n{T} stderr F:x tagged\n\
             {T} stdout X no tag\n\n{T} stdin F no stream\n{T} stdout P unended\n{T} stderr F to"
        )
    }

    #[test]
    fn lines_are_put_together_from_their_pieces() {
        let expected = ["o:one", "e:oh no", "o:two three", "o:", "o:", "e:tagged", "o:unended|", "e:to|"];
        assert_eq!(decoded(100, [sample().as_bytes()]), (expected.map(str::to_owned).to_vec(), 4));
    }

    #[test]
    fn it_does_not_matter_where_writes_are_torn() {
        let text = sample();
        let text = text.as_bytes();
        let whole = decoded(100, [text]);
        for first in 0..=text.len() {
            assert_eq!(decoded(100, [&text[..first], &text[first..]]), whole, "torn at {first}");
        }
        for size in 1..40 {
            assert_eq!(decoded(100, text.chunks(size)), whole, "pieces of {size}");
        }
    }

    #[test]
    fn a_line_that_never_ends_comes_in_pieces() {
        let record = format!("{T} stdout P 0123456789\n");
        let text = record.repeat(5) + &format!("{T} stdout F end\n{T} stdout F 0123456789012345\n");
        let pieces = [
            "o:0123456789012345|",
            "o:>6789012345678901|",
            "o:>2345678901234567|",
            "o:>89end",
            "o:0123456789012345",
        ];
        assert_eq!(decoded(16, [text.as_bytes()]).0, pieces);
        // One record without an end takes no more memory.
        let (mut decoder, mut lines) = (Decoder::new(16), VecDeque::new());
        decoder.feed(format!("{T} stdout F ").as_bytes(), &mut lines);
        for _ in 0..1000 {
            decoder.feed(b"0123456789", &mut lines);
            lines.clear();
        }
        assert!(decoder.begun[0].text.capacity() <= 64);
        for _ in 0..1000 {
            decoder.feed(b"\n0123456789", &mut lines);
            decoder.feed(&[b'x'; 300], &mut lines);
        }
        assert_eq!(decoder.malformed, 1000);
    }

    #[test]
    fn a_head_is_found_at_the_beginning_of_a_record() {
        for (record, full) in [(format!("{T} stdout F a b"), true), (format!("{T} stderr P\n{T}"), false)] {
            assert_eq!(Head::of(record.as_bytes()).unwrap().full, full);
        }
        assert!(Head::of(b"").is_none() && Head::of(T.as_bytes()).is_none());
    }
}
