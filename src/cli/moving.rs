//! Lines on a terminal that are written over as things go on. Elsewhere there are none.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// So often a line is written over.
const EVERY: Duration = Duration::from_millis(100);

/// How far a command has come, on stderr.
pub(super) struct Progress {
    wanted: bool,
    shown: Option<Instant>,
}

impl Progress {
    /// Nothing is shown where it is not `wanted`, or where stderr is no terminal.
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted: wanted && io::stderr().is_terminal(), shown: None }
    }

    /// So many of so many are done.
    pub(super) fn show(&mut self, done: u64, total: u64) {
        if self.wanted && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown = Some(Instant::now());
            let percent = 100 * done / total.max(1);
            _ = write!(io::stderr().lock(), "\r\x1b[K{done} of {total} ({percent} %)");
        }
    }

    /// It is done.
    pub(super) fn clear(self) {
        if self.shown.is_some() {
            _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// Lines on stdout, one below the other, the last of which stay.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<String>,
    /// So many stand on the terminal.
    drawn: usize,
}

impl Lines {
    /// Sets the line at `index`, or the one after the last, and draws them all.
    pub(super) fn set(&mut self, index: usize, line: String) {
        match self.lines.get_mut(index) {
            Some(before) => *before = line,
            None => self.lines.push(line),
        }
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        // Nothing wraps, which would count as two.
        let lines =
            self.lines.iter().map(|line| format!("\r\x1b[K\x1b[?7l{line}\x1b[?7h\n")).collect::<String>();
        self.drawn = self.lines.len();
        let mut out = io::stdout().lock();
        _ = write!(out, "{up}{lines}").and_then(|()| out.flush());
    }
}
