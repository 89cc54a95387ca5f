//! Words on stdout and stderr. Whoever read them and left (`| head`) has enough: nothing more is said, and the command
//! ends as it would have, or at once where all it does is to print.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::process;

/// Prints a line on stdout.
macro_rules! out {
    () => { $crate::cli::stdio::print_line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::stdio::print_line(format_args!($($text)*)) };
}
/// Says a line on stderr; where nobody hears it, nothing is said.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::stdio::say_line(format_args!($($text)*)) };
}
pub(in crate::cli) use {out, say};

pub(in crate::cli) fn print_line(text: Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say!("hr-gatewayd: stdout: {error}");
            process::exit(1);
        }
        _ => {}
    }
}

pub(in crate::cli) fn say_line(text: Arguments<'_>) {
    _ = writeln!(io::stderr().lock(), "{text}");
}

/// What came of writing to stdout, unless its reader left: then the process ends.
pub(in crate::cli) fn passed_on(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        written => written,
    }
}
