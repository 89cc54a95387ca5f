//! The side that asks: a command, of the gateway that runs.

use std::io::{self, BufRead, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{ControlError, Reply, Request};

/// The socket of the gateway whose queue is at `queue_path`.
pub fn socket_path(queue_path: &Path) -> PathBuf {
    let mut name = queue_path.file_name().unwrap_or_default().to_owned();
    name.push(".sock");
    queue_path.with_file_name(name)
}

/// Asks the running gateway, if there is one: `None` if nobody listens.
pub fn ask(
    queue_path: &Path,
    request: &Request,
    hear: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Option<Result<u64, ControlError>> {
    match UnixStream::connect(socket_path(queue_path)) {
        Ok(stream) => Some(converse(stream, request, hear)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Some(Err(ControlError::Remote("run this as root, or as the gateway's user".into())))
        }
        // Nobody listens: there is no gateway, or it was killed.
        Err(_) => None,
    }
}

fn converse(
    mut stream: UnixStream,
    request: &Request,
    hear: &mut dyn FnMut(Reply) -> io::Result<()>,
) -> Result<u64, ControlError> {
    let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in io::BufReader::new(stream).lines() {
        match serde_json::from_str(&line?).map_err(io::Error::from)? {
            Reply::Done(count) => return Ok(count),
            Reply::Failed(words) => return Err(ControlError::Remote(words)),
            reply => hear(reply)?,
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}
