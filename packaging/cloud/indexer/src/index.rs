//! Where a document belongs: the index of its UTC month or day, and its UTC minute. Pure.
//!
//! The index template, the dashboard and the monitors know the same names.

use hr_gateway::wire::Timestamp;
use serde::{Deserialize, Serialize};

/// The years that have indices of their own. A reading outside them has a clock that was never set: its
/// months would be indices of a few documents each, and a small domain has room for few indices.
const YEARS: std::ops::RangeInclusive<&str> = "2020"..="2099";

/// Where the others are.
const UNDATED: &str = "undated";

const MINUTE_MS: i64 = 60_000;

/// Readings that are kept for more days are in an index a month: each index costs memory, and goes whole.
/// `opensearch/setup.sh` and `lib/sizing.py` know the same number.
const BY_DAY_DAYS_MAX: u32 = 31;

const DAY_MS: i64 = 86_400_000;

/// A reading of later than so long after now is of a clock that is wrong.
pub const AHEAD_MS_MAX: i64 = 3_600_000;

/// For how many days readings are kept. An index goes so long after its month, or its day where each has one,
/// counted from when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At least one.
    pub days: u32,
}

impl Retention {
    /// The index that a reading or gap record of the time `taken_ms` is written to at `now_ms`, both milliseconds
    /// since 1970.
    ///
    /// What is older than the retention or of a clock that is ahead makes no index of its day: there would be one
    /// for each day of a long backlog, and a day's index that is made too soon would go too soon.
    pub fn readings_index(self, taken_ms: i64, now_ms: i64) -> String {
        let oldest_ms = (i64::from(self.days) + 1) * DAY_MS;
        let is_punctual = (-AHEAD_MS_MAX..=oldest_ms).contains(&now_ms.saturating_sub(taken_ms));
        let month = month(taken_ms);
        if self.days <= BY_DAY_DAYS_MAX && is_punctual && month != UNDATED {
            format!("hr-readings-{month}.{}", &Timestamp::from_ms(taken_ms).as_str()[8..10])
        } else {
            format!("hr-readings-{month}")
        }
    }
}

/// All indices that readings of the minute can be in: its month's and those of the month's days.
pub fn readings_indices(minute: Minute) -> String {
    format!("hr-readings-{}*", month(minute.start_ms()))
}

/// The index of the minutes' sums.
pub fn minutes_index(minute: Minute) -> String {
    format!("hr-minutes-{}", month(minute.start_ms()))
}

/// The month as the indices' names have it: `2025.07`, or `undated`.
fn month(ms: i64) -> String {
    let time = Timestamp::from_ms(ms);
    let (year, month) = (&time.as_str()[..4], &time.as_str()[5..7]);
    if YEARS.contains(&year) { format!("{year}.{month}") } else { UNDATED.to_owned() }
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
