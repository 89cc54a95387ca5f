//! Names in place of what is not to be given away: always the same for the same, and not telling it.

use ring::digest::{SHA256, digest};

/// The first twelve hexadecimal digits of the SHA-256 of `secret` and then `of`.
pub fn pseudonym(secret: &[u8], of: &[u8]) -> String {
    let hash = digest(&SHA256, &[secret, of].concat());
    hash.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
