//! What happens in one history. All of it is drawn from the seed beforehand, and each event carries its own
//! draws: so events can be left out, and what is left stays what it was.

use hr_gateway::config::DrainOrder;
use hr_gateway::reading::{GapReason, SensorState};

use crate::kinesis::Weather;

/// Their names have different lengths, which decide the shards.
pub const SENSORS: [&str; 3] = ["watch", "strap-1", "chest-belt"];

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// The sensors of the mask send a notification each second.
    Notify {
        sensors: u8,
        seconds: u8,
        draw: u64,
    },
    Wait {
        ms: u64,
    },
    LinkDown {
        sensor: usize,
        reason: GapReason,
    },
    Weather(Weather),
    /// The wall clock, not known to be right, is set to so far from the truth.
    ClockJumps {
        error_ms: i64,
    },
    /// The wall clock is set right, and the system says so.
    ClockSynchronized,
    /// A sensor says how it is.
    State {
        sensor: usize,
        state: SensorState,
    },
    RequeueDeadLetters,
    DropDeadLetters,
    Ends(End),
}

/// The process ends, and another one begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct End {
    pub how: How,
    /// Steps that it still makes; a stop in good order makes all of them.
    pub after_steps: u32,
    pub disk: DiskIs,
    pub down_ms: u64,
    /// So far from the truth is the wall clock of the new boot; `None`: the machine was not started anew.
    pub clock_error_ms: Option<i64>,
    /// The first try to open dies between the store's new origin and its witness.
    pub dies_opening: bool,
    pub draw: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Stop,
    /// What was not synced and not handed to the kernel is gone.
    Kill,
    /// Of what was not synced anything may be gone, of the witness too.
    PowerCut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskIs {
    Kept,
    /// The store is as it was so many saved states ago.
    Back {
        states: u8,
        witness: WitnessIs,
    },
    /// The witness alone is as it was so many saved states ago, or what `witness` says.
    WitnessOnly {
        states: u8,
        witness: WitnessIs,
    },
    /// The store is gone.
    Erased {
        witness: WitnessIs,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WitnessIs {
    Kept,
    /// As it was when that state was saved.
    Back,
    Gone,
    Torn,
}

/// What holds all through a history.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    pub order: DrainOrder,
    pub drop_newest: bool,
    pub items_max: u64,
    pub retry_max_s: u64,
    pub record_readings_max: usize,
    /// Of a hundred notifications so many are refused by the stream for good.
    pub poison: u32,
}

/// The profile and events of `seed`.
pub fn draw(seed: u64) -> (Profile, Vec<Event>) {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed_0f7e_1e55_0001);
    // Hours of outage cost thousands of tries: few histories have them, and those try less often.
    let is_long = random.u32(..25) == 0;
    let profile = Profile {
        order: if random.u32(..3) == 0 { DrainOrder::NewestFirst } else { DrainOrder::OldestFirst },
        drop_newest: random.bool(),
        items_max: [16, 40, 1_000_000][random.usize(..3)],
        retry_max_s: if is_long { 300 } else { 2 },
        record_readings_max: [1, 3, 500][random.usize(..3)],
        poison: if random.u32(..4) == 0 { 4 } else { 0 },
    };
    let events = (0..random.usize(10..45)).map(|_| one(&mut random, is_long)).collect();
    (profile, events)
}

fn one(random: &mut fastrand::Rng, is_long: bool) -> Event {
    match random.u32(..100) {
        0..44 => Event::Notify { sensors: random.u8(1..8), seconds: random.u8(1..8), draw: random.u64(..) },
        44..58 => Event::Wait { ms: wait(random, is_long) },
        58..62 => Event::LinkDown {
            sensor: random.usize(..SENSORS.len()),
            reason: if random.bool() { GapReason::LinkDown } else { GapReason::AdapterGone },
        },
        62..80 => Event::Weather(Weather::ALL[random.usize(..Weather::ALL.len())]),
        80..83 => Event::ClockJumps { error_ms: error(random) },
        83..86 => Event::ClockSynchronized,
        86 => Event::RequeueDeadLetters,
        87 => Event::State { sensor: random.usize(..SENSORS.len()), state: state(random) },
        88 => Event::DropDeadLetters,
        _ => Event::Ends(end(random)),
    }
}

fn state(random: &mut fastrand::Rng) -> SensorState {
    SensorState {
        battery_percent: Some(random.u8(1..5)),
        rssi_dbm: Some(random.i16(-99..-30)),
        location: None,
    }
}

fn wait(random: &mut fastrand::Rng, is_long: bool) -> u64 {
    match random.u32(..10) {
        0 if is_long => random.u64(600_000..4 * 3_600_000),
        0..6 => random.u64(1..3_000),
        6..9 => random.u64(3_000..30_000),
        _ => random.u64(30_000..400_000),
    }
}

/// A Pi without a battery clock boots in the past; a wrong one may be ahead too.
fn error(random: &mut fastrand::Rng) -> i64 {
    match random.u32(..3) {
        0 => random.i64(-40_000..40_000),
        1 => random.i64(-400 * 86_400_000..0),
        _ => random.i64(0..3 * 3_600_000),
    }
}

fn end(random: &mut fastrand::Rng) -> End {
    let how = [How::Stop, How::Kill, How::PowerCut, How::PowerCut][random.usize(..4)];
    let witness = || [WitnessIs::Kept, WitnessIs::Kept, WitnessIs::Back, WitnessIs::Gone, WitnessIs::Torn];
    let disk = match random.u32(..20) {
        0..3 => DiskIs::Back { states: random.u8(1..5), witness: witness()[random.usize(..5)] },
        4 => DiskIs::WitnessOnly { states: random.u8(2..12), witness: witness()[random.usize(2..5)] },
        3 => DiskIs::Erased { witness: witness()[random.usize(..5)] },
        _ => DiskIs::Kept,
    };
    let reboots = how == How::PowerCut || random.bool();
    let clock_error_ms = reboots.then(|| if random.bool() { 0 } else { error(random) });
    End {
        how,
        after_steps: if random.bool() { 0 } else { random.u32(1..60) },
        disk,
        down_ms: [random.u64(100..3_000), random.u64(3_000..60_000)][random.usize(..2)],
        clock_error_ms,
        dies_opening: random.u32(..8) == 0,
        draw: random.u64(..),
    }
}
