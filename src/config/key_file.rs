//! The file with the queue's key. It is read with the configuration: without its key the queue cannot be
//! opened, so a file that is missing or holds something else is a mistake like any other.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// More than a key in hexadecimal digits, with line ends.
const FILE_BYTES_MAX: u64 = 1024;
/// Where systemd hands credentials over.
const CREDENTIALS: &str = "/run/credentials";
/// Read by everybody on the machine.
const WORLD_READABLE: u32 = 0o004;

/// The key that encrypts the queue.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u8; KEY_BYTES]);

/// Reads it; also what is to be said of a file that is right and yet not as it should be.
pub(super) fn read(path: &Path) -> Result<(Key, Option<String>), String> {
    let shown = path.display();
    let fail = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound if path.starts_with(CREDENTIALS) => format!(
            "{shown} is not there: systemd hands it over when the service starts (systemctl restart hr-gatewayd)"
        ),
        _ => format!("{shown} cannot be read: {error}"),
    };
    // Opening a pipe would wait for a writer.
    if !path.metadata().map_err(fail)?.is_file() {
        return Err(format!("{shown} is no file"));
    }
    let file = std::fs::File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
    let key = key_from(&bytes).ok_or_else(|| {
        format!(
            "{shown} holds no key: allowed are {KEY_BYTES} bytes, or {} hexadecimal digits",
            2 * KEY_BYTES
        )
    })?;
    let open = mode & WORLD_READABLE != 0;
    let warning = open.then(|| {
        format!("`queue.encryption_key_file`: every user of this machine can read {shown}: chmod o-r {shown}")
    });
    Ok((Key(key), warning))
}

fn key_from(bytes: &[u8]) -> Option<[u8; KEY_BYTES]> {
    if let Ok(raw) = bytes.try_into() {
        return Some(raw);
    }
    let text = str::from_utf8(bytes).ok()?.trim();
    let mut key = [0; KEY_BYTES];
    if text.len() != 2 * key.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}
