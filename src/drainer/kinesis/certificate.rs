//! Until when the certificate is valid that a helper identifies the gateway by. Pure, but for reading the file.
//!
//! AWS's own helper (`aws_signing_helper`, for IAM Roles Anywhere) names it with `--certificate`. Nothing here trusts
//! a certificate: AWS does that. Of its fields (RFC 5280, section 4.1) one is read.

use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const DAY_S: i64 = 86_400;
/// So many days before its end, and at its end, it is told of.
const TOLD_DAYS: [i64; 4] = [0, 1, 7, 30];

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which the first one does not have.
const VERSION: u8 = 0xA0;

/// The certificate that a helper's command names.
pub fn of_command(command: &str) -> Option<PathBuf> {
    let mut words = command.split_whitespace();
    let word = words.find_map(|word| match word.strip_prefix("--certificate")? {
        "" => Some(None),
        rest => Some(Some(rest.strip_prefix('=')?)),
    })?;
    let path = word.or_else(|| words.next())?;
    Some(path.trim_matches(['"', '\'']).into())
}

/// When the first certificate in `pem` ends, seconds since 1970.
pub fn ends_at_s(pem: &[u8]) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (certificate, _) = element(&der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = any_element(fields)?.2;
    }
    // Serial number, signature, issuer; then from when until when.
    for _ in 0..3 {
        fields = any_element(fields)?.2;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, _, until) = any_element(validity)?;
    let (tag, text, _) = any_element(until)?;
    seconds(tag, text)
}

/// Content and rest of a DER element.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = any_element(der)?;
    (found == tag).then_some((content, rest))
}

fn any_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], mut rest) = der.split_first_chunk::<2>()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7F))?;
        // More than three bytes: 16 MB of certificate.
        length = (digits.len() <= 3)
            .then(|| digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))?;
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ`, or with four digits of the year.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let century = match tag {
        UTC_TIME if text < "50" => "20",
        UTC_TIME => "19",
        GENERALIZED_TIME => "",
        _ => return None,
    };
    let text = format!("{century}{text}");
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    let date = chrono::NaiveDate::from_ymd_opt(part(0..4)? as i32, part(4..6)?, part(6..8)?)?;
    Some(date.and_hms_opt(part(8..10)?, part(10..12)?, part(12..14)?)?.and_utc().timestamp())
}

/// The step that a certificate is at which ends in so many seconds; `None` while there is time.
pub fn step(left_s: i64) -> Option<i64> {
    TOLD_DAYS.into_iter().find(|days| left_s <= days * DAY_S)
}

/// How long a certificate has left.
pub fn left(left_s: i64) -> String {
    match left_s.div_euclid(DAY_S) {
        ..0 => "has ended".to_owned(),
        0 => "ends within a day".to_owned(),
        1 => "ends in 1 day".to_owned(),
        days => format!("ends in {days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &[u8] = include_bytes!("../../../tests/tls/expired.pem");
    /// Its end is in four digits.
    const LASTING: &[u8] = include_bytes!("../../../tests/tls/valid.pem");

    #[test]
    fn a_certificate_says_when_it_ends() {
        // As `openssl x509 -enddate` says.
        assert_eq!(ends_at_s(PEM), Some(1_609_459_200));
        assert_eq!(ends_at_s(LASTING), Some(4_701_974_400));
        assert_eq!(seconds(UTC_TIME, b"500101000000Z"), Some(-631_152_000));
        assert_eq!(seconds(GENERALIZED_TIME, b"20500101000000Z"), Some(2_524_608_000));
    }

    #[test]
    fn what_is_none_has_no_end() {
        let der = CertificateDer::from_pem_slice(PEM).unwrap();
        for length in 0..der.len().min(200) {
            assert_eq!(any_element(&der[..length]).and_then(|_| element(&der[..length], SEQUENCE)), None);
        }
        assert_eq!(ends_at_s(b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(ends_at_s(b""), None);
    }

    #[test]
    fn a_helper_names_its_certificate() {
        let named = Some(PathBuf::from("/etc/hr-gatewayd/gateway.pem"));
        for command in [
            "/usr/local/bin/aws_signing_helper credential-process --certificate /etc/hr-gatewayd/gateway.pem --private-key k",
            "helper --certificate=/etc/hr-gatewayd/gateway.pem",
            "helper --certificate-bundle x --certificate \"/etc/hr-gatewayd/gateway.pem\"",
        ] {
            assert_eq!(of_command(command), named, "{command}");
        }
        assert_eq!(of_command("helper --certificate"), None);
        assert_eq!(of_command("helper"), None);
    }

    #[test]
    fn it_is_told_of_30_7_and_1_day_before_and_at_its_end() {
        let days = |days: i64| step(days * DAY_S);
        assert_eq!(
            [days(31), days(30), days(8), days(7), days(2), days(1), days(0), days(-9)],
            [None, Some(30), Some(30), Some(7), Some(7), Some(1), Some(0), Some(0)]
        );
    }
}
