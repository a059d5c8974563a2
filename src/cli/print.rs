//! The only place that writes to the terminal, and what it looks like: width, colours, zone.
//!
//! Everything printed is made as a text first, by functions of their arguments alone; a reader
//! that goes away (`| head`) is no error.

use std::io::{IsTerminal, Write, stderr, stdout};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sengu_core::time::Wall;
use serde::Serialize;

/// How texts for people are laid out.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Columns; `None`: as wide as it gets.
    pub(super) width: Option<u16>,
    /// Lines of one screen; `None`: no end.
    pub(super) height: Option<u16>,
    /// Whether colours help.
    pub(super) colors: bool,
    /// The zone of times.
    pub(super) zone: TimeZone,
    /// What is now.
    pub(super) now: Wall,
}

impl Look {
    /// For standard output as it is.
    pub(super) fn of_stdout() -> Self {
        let terminal = stdout().is_terminal();
        let size = rustix::termios::tcgetwinsize(stdout()).ok().filter(|_| terminal);
        Self {
            width: terminal.then(|| width(size)),
            height: size.map(|size| size.ws_row).filter(|rows| *rows >= 10),
            colors: terminal && no_color_unset(),
            zone: TimeZone::system(),
            now: crate::clock::wall(),
        }
    }

    /// `03:12:09`, or with the day if it is another one.
    pub(super) fn time(&self, at: Wall) -> String {
        let zoned = |wall: Wall| {
            Timestamp::from_millisecond(wall.0).ok().map(|time| time.to_zoned(self.zone.clone()))
        };
        match (zoned(at), zoned(self.now)) {
            (Some(at), Some(now)) if at.date() == now.date() => at.strftime("%H:%M:%S").to_string(),
            (Some(at), _) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            (None, _) => "at an unknown time".into(),
        }
    }

    /// Bold red: what needs somebody.
    pub(super) fn alarm(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Green: all is well.
    pub(super) fn calm(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Bold: a heading.
    pub(super) fn strong(&self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colors { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn width(size: Option<rustix::termios::Winsize>) -> u16 {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked.or_else(|| size.map(|size| size.ws_col)).filter(|columns| *columns >= 40).unwrap_or(80)
}

fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Colours and columns for messages on standard error.
pub(super) fn stderr_look() -> (bool, usize) {
    let terminal = stderr().is_terminal();
    let columns = if terminal { width(rustix::termios::tcgetwinsize(stderr()).ok()) } else { 100 };
    (terminal && no_color_unset(), usize::from(columns))
}

/// A text to standard output, with a line end.
pub(super) fn text(text: &str) {
    let mut out = stdout().lock();
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    // Nobody is left to be told if this fails.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.write_all(end.as_bytes()));
    let _ = out.flush();
}

/// Bytes to standard output, as they are.
pub(super) fn bytes(bytes: &[u8]) {
    let mut out = stdout().lock();
    let _ = out.write_all(bytes);
    let _ = out.flush();
}

/// Data to standard output, as JSON.
pub(super) fn json<T: Serialize + ?Sized>(data: &T) {
    text(&serde_json::to_string_pretty(data).expect("reports hold only what JSON can say"));
}

/// Data to standard output, as one line of JSON.
pub(super) fn line<T: Serialize + ?Sized>(data: &T) {
    text(&serde_json::to_string(data).expect("reports hold only what JSON can say"));
}

/// A line to standard error: progress, or why not.
pub(super) fn note(line: &str) {
    let _ = writeln!(stderr().lock(), "{}", line.trim_end());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 2026-11-22 04:00:00 UTC.
    pub(in crate::cli) const NOW: Wall = Wall(1_795_320_000_000);

    /// The same everywhere: no colours, UTC.
    pub(in crate::cli) fn look(width: Option<u16>) -> Look {
        Look { width, height: None, colors: false, zone: TimeZone::UTC, now: NOW }
    }

    #[test]
    fn times_of_today_are_short_and_others_have_their_day() {
        let look = look(None);
        assert_eq!(look.time(NOW), "04:00:00");
        assert_eq!(look.time(Wall(NOW.0 - 5 * 3_600_000)), "2026-11-21 23:00:00");
        assert_eq!(look.time(Wall(i64::MAX)), "at an unknown time");
    }

    #[test]
    fn colours_come_only_when_they_are_wanted() {
        let mut look = look(None);
        assert_eq!(look.alarm("x"), "x");
        look.colors = true;
        assert_eq!(look.alarm("x"), "\x1b[1;31mx\x1b[0m");
    }
}
