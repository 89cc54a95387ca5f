//! Files with the queue's key and the page's password. They are read with the configuration: without its key the
//! queue cannot be opened, so a file that is missing or holds something else is a mistake like any other.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// More than a key in hexadecimal digits, with line ends.
const FILE_BYTES_MAX: u64 = 1024;
/// A shorter password is guessed.
const PASSWORD_LETTERS_MIN: usize = 12;
/// Where systemd hands credentials over.
const CREDENTIALS: &str = "/run/credentials";
/// Read by everybody on the machine.
const WORLD_READABLE: u32 = 0o004;

/// The key that encrypts the queue.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) [u8; KEY_BYTES]);

/// Reads a key; also what is to be said of a file that is right and yet not as it should be.
pub(super) fn read_key(path: &Path) -> Result<(Key, Option<String>), String> {
    let (bytes, warning) = read(path, "queue.encryption_key_file")?;
    let key = key_from(&bytes).ok_or_else(|| {
        format!(
            "{} holds no key: allowed are {KEY_BYTES} bytes, or {} hexadecimal digits",
            path.display(),
            2 * KEY_BYTES
        )
    })?;
    Ok((Key(key), warning))
}

/// Reads a password: the file's first line.
pub(super) fn read_password(path: &Path) -> Result<(String, Option<String>), String> {
    let (bytes, warning) = read(path, "page.password_file")?;
    let line = str::from_utf8(&bytes).ok().and_then(|text| text.lines().next()).unwrap_or_default();
    if line.chars().count() < PASSWORD_LETTERS_MIN || line.chars().any(char::is_control) {
        let what = format!("write one of at least {PASSWORD_LETTERS_MIN} letters into its first line");
        return Err(format!("{} holds no password: {what}", path.display()));
    }
    Ok((line.to_owned(), warning))
}

fn read(path: &Path, key: &str) -> Result<(Vec<u8>, Option<String>), String> {
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
    let open = mode & WORLD_READABLE != 0;
    let warning =
        open.then(|| format!("`{key}`: every user of this machine can read {shown}: chmod o-r {shown}"));
    Ok((bytes, warning))
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
