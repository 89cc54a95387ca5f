//! Spans and sizes, as people say them. Pure.

/// A span of so many seconds.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// So many seconds before now.
pub(crate) fn ago(seconds: u64) -> String {
    format!("{} ago", span(seconds))
}

/// A size on disk.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["MiB", "GiB", "TiB", "PiB"];
    let mut size = bytes as f64 / f64::from(1 << 20);
    let mut unit = 0;
    while size >= 1_024.0 && unit + 1 < UNITS.len() {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_as_people_say_them() {
        assert_eq!(
            [0, 59, 60, 3_599, 3_600, 90_061, 172_800].map(span),
            ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "25 h 1 min", "2 days"]
        );
        assert_eq!([0, 1 << 20, 3 << 29, 1 << 40].map(bytes), ["0.0 MiB", "1.0 MiB", "1.5 GiB", "1.0 TiB"]);
    }
}
