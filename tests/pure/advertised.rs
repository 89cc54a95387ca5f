//! What sensors say of the heart in their advertisements: the vectors of the makers and of public decoders.

use hr_gateway::ble::advertised::{Advertised, read};

/// Company and data, as they are on the air after the AD type: the company's two bytes come first, low one first.
fn read_hex(hex: &str) -> Option<Advertised> {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    read(u16::from_le_bytes([bytes[0], bytes[1]]), &bytes[2..])
}

fn heart_rate(hex: &str) -> Option<u16> {
    read_hex(hex).map(|advertised| advertised.values.heart_rate)
}

#[test]
fn polar_sensors_as_in_its_sdk() {
    for (hex, expected) in [
        ("6b003b164446", Some(70)),
        ("6b002f166b68", Some(104)),
        ("6b002b0bb6ac", Some(172)),
        ("6b0072067f443700000033003c", Some(60)),
        ("6b00720897c9c300000000007a0103330000", Some(0)),
        ("6b00720897c9c30000000000", None),
        ("6b00720897", None),
        ("6b0072", None),
        ("6b00", None),
        ("6b003b16", None),
        ("6b013b164446", None),
    ] {
        assert_eq!(heart_rate(hex), expected, "{hex}");
    }
    let read = read_hex("6b0072067f443700000033003c").unwrap();
    assert_eq!((read.counter, read.values.sensor_contact), (Some(4), Some(true)));
    assert_eq!(read_hex("6b0031164446").unwrap().values.sensor_contact, Some(false));
    assert!(read.values.rr_intervals.is_empty());
}

#[test]
fn xiaomi_bands_and_xoss_straps_as_in_public_decoders() {
    for (hex, expected) in [
        ("57010202017dffffffffffffffffffffffffff02aabbccddeeff", Some(125)),
        ("5701020aff54ffffffffffffffffffffffffff03c5093f890b4b", Some(84)),
        ("570102ffffffffffffffffffffffffffffffff02aabbccddeeff", Some(0)),
        ("570100ffffffffffffffffffffffffffffffff02aabbccddeeff", None),
        ("570102", None),
        ("04ff0161063f", Some(63)),
        ("04ff0161073f", None),
        ("04ff0161063f00", None),
        ("4c0002157d", None),
    ] {
        assert_eq!(heart_rate(hex), expected, "{hex}");
    }
    assert_eq!(read_hex("04ff0161063f").unwrap().battery_percent, Some(97));
}

#[test]
fn no_bytes_at_all_break_it() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..100_000 {
        let data: Vec<u8> = (0..random.usize(..32)).map(|_| random.u8(..)).collect();
        let company = [0x006B, 0x0157, 0xFF04, random.u16(..)][random.usize(..4)];
        _ = read(company, &data);
    }
}
