//! A terminal between clients and a program, as the kernel's is in its usual mode: lines, echo, `\r\n`.

use std::mem;

/// The key that ends the input, at the beginning of a line.
const END: u8 = 4;

/// A container's terminal.
#[derive(Clone, Debug, Default)]
pub(super) struct Terminal {
    /// Rows and columns; zeros until somebody sets them.
    pub(super) size: (u16, u16),
    line: Vec<u8>,
}

/// What becomes of keys that were pressed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// What the program gets.
    pub(super) input: Vec<u8>,
    /// What is shown.
    pub(super) echo: Vec<u8>,
    /// Whether the program finds the end of its input after that.
    pub(super) ended: bool,
}

impl Terminal {
    /// Takes keys; the program gets whole lines.
    pub(super) fn press(&mut self, keys: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for key in keys {
            match key {
                b'\r' | b'\n' => {
                    typed.echo.extend(b"\r\n");
                    typed.input.append(&mut self.line);
                    typed.input.push(b'\n');
                }
                &END => {
                    typed.ended |= self.line.is_empty();
                    typed.input.extend(mem::take(&mut self.line));
                }
                key if key.is_ascii_control() && *key != b'\t' => {
                    typed.echo.extend([b'^', key ^ 0x40]);
                    self.line.push(*key);
                }
                key => {
                    typed.echo.push(*key);
                    self.line.push(*key);
                }
            }
        }
        typed
    }
}

/// How output looks on a terminal.
pub(super) fn shown(output: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(output.len() + output.len() / 32);
    for line in output.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                shown.extend_from_slice(text);
                shown.extend(b"\r\n");
            }
            None => shown.extend_from_slice(line),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_gets_lines_and_the_user_sees_keys() {
        let mut terminal = Terminal::default();
        let typed = terminal.press(b"a\x10");
        assert_eq!((typed.input.as_slice(), typed.echo.as_slice()), (&b""[..], &b"a^P"[..]));
        let typed = terminal.press(b"b\rc\x04");
        let expected = Typed { input: b"a\x10b\nc".to_vec(), echo: b"b\r\nc".to_vec(), ended: false };
        assert_eq!(typed, expected);
        assert!(terminal.press(b"\x04").ended);
        assert_eq!(shown(b"a\n\nb"), b"a\r\n\r\nb");
    }
}
