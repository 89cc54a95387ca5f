//! Where a document belongs: the index of its UTC month, and its UTC minute. Pure.
//!
//! The index template, the dashboard and the monitors know the same names.

use hr_gateway::wire::Timestamp;
use serde::{Deserialize, Serialize};

/// The years that have an index per month. A reading outside them has a clock that was never set: its
/// months would be indices of a few documents each, and a small domain has room for few indices.
const YEARS: std::ops::RangeInclusive<&str> = "2020"..="2099";

const MINUTE_MS: i64 = 60_000;

/// The index of readings and gap records of the time `ms`, milliseconds since 1970.
pub fn readings_index(ms: i64) -> String {
    format!("hr-readings-{}", month(ms))
}

/// The index of the minutes' sums.
pub fn minutes_index(minute: Minute) -> String {
    format!("hr-minutes-{}", month(minute.start_ms()))
}

/// The month as both indices' names end: `2025.07`, or `undated`.
fn month(ms: i64) -> String {
    let time = Timestamp::from_ms(ms);
    let (year, month) = (&time.as_str()[..4], &time.as_str()[5..7]);
    if YEARS.contains(&year) { format!("{year}.{month}") } else { "undated".to_owned() }
}

/// A UTC minute, as minutes since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minute(pub i64);

impl Minute {
    /// The minute that `ms`, milliseconds since 1970, lies in.
    pub fn of(ms: i64) -> Self {
        Self(ms.div_euclid(MINUTE_MS))
    }

    /// Its first millisecond.
    pub fn start_ms(self) -> i64 {
        self.0.saturating_mul(MINUTE_MS)
    }

    /// The minute after it.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The `_id` of this minute's sums for `sensor`: `adi|2025-07-15T17:10Z`.
    pub fn document_id(self, sensor: &str) -> String {
        format!("{sensor}|{}Z", &Timestamp::from_ms(self.start_ms()).as_str()[..16])
    }
}
