//! Where an export goes: a file of its owner's alone, or a stream.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::private::NewFile;

/// Where an export goes.
pub(super) enum Output {
    /// stdout, a pipe, a device.
    Stream(Box<dyn Write>),
    File(NewFile),
}

impl Output {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match path.metadata() {
            Ok(found) if !found.is_file() && !found.is_dir() => {
                Ok(Self::Stream(Box::new(File::options().write(true).open(path)?)))
            }
            _ => NewFile::create(path).map(Self::File),
        }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream(mut stream) => stream.flush(),
            Self::File(file) => file.finish(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::File(file) => file.flush(),
        }
    }
}
