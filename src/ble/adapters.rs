//! By which adapter a sensor is reached. Pure.
//!
//! All adapters that work are one pool. What counts is how loudly a sensor is heard; an adapter that is busy
//! connecting, failed with this sensor, or has few links left to give is taken as if it heard it less well.
//! The weights are those of habluetooth, which chose them on many homes' adapters.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Address;

/// Parts of the gap between the loudest and the next that each costs.
const PER_CONNECTING: f64 = 1.01;
const PER_FAILURE: f64 = 0.51;
const FEW_LINKS_LEFT: f64 = 0.76;
/// Where two hear it alike, the gap is taken as this, dB: how much one reading of it strays.
const GAP_MIN_DB: f64 = 5.0;
/// More failures make no difference.
const FAILURES_MAX: u32 = 8;
/// A sensor that is not heard, and linked all the same.
const UNHEARD_DBM: i16 = -127;
/// So long an adapter counts as full after it refused a link: it may have been short of something else.
const FULL_KEPT: Duration = Duration::from_secs(60);
/// Links that every adapter gives.
const FULL_MIN: usize = 3;
/// Refusals in a row after which an adapter counts as full.
const REFUSALS_MIN: u32 = 2;
/// Power cycles of an adapter in a day: what they do not help once, they do not help often.
const POWER_CYCLES_MAX: usize = 3;
const A_DAY: Duration = Duration::from_secs(86_400);

/// What is known of the adapters, by name.
#[derive(Debug, Default)]
pub struct Pool(BTreeMap<String, Adapter>);

#[derive(Debug, Default)]
struct Adapter {
    /// Connects in a row that failed, by device.
    failures: BTreeMap<Address, u32>,
    /// Links refused in a row, by device: another may find the adapter ready.
    refusals: BTreeMap<Address, Refusals>,
    power_cycles: Vec<Duration>,
}

#[derive(Debug, Default)]
struct Refusals {
    count: u32,
    /// With how many links it refused another, and when.
    full: Option<(usize, Duration)>,
}

/// An adapter that could reach a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer<'a> {
    /// Its name.
    pub adapter: &'a str,
    /// How loudly it hears the device, dBm.
    pub rssi: Option<i16>,
    /// Connects that go on over it.
    pub connecting: usize,
    /// Links over it, anybody's.
    pub links: usize,
}

impl Pool {
    /// The best of `offers` for `device`; `None` where none has a link left to give.
    pub fn choose<'a>(&self, device: Address, offers: &[Offer<'a>], now: Duration) -> Option<&'a str> {
        let rssi = |offer: &Offer<'_>| f64::from(offer.rssi.unwrap_or(UNHEARD_DBM));
        let mut heard: Vec<f64> = offers.iter().map(rssi).collect();
        heard.sort_by(|a, b| b.total_cmp(a));
        let gap = match heard[..] {
            [loudest, next, ..] => (loudest - next).max(GAP_MIN_DB),
            _ => GAP_MIN_DB,
        };
        let score = |offer: &Offer<'_>| {
            let connecting = offer.connecting as f64 * PER_CONNECTING;
            let failures = f64::from(self.failures(offer.adapter, device)) * PER_FAILURE;
            let left = self.links_left(offer, device, now);
            let few = if left == Some(1) { FEW_LINKS_LEFT } else { 0.0 };
            rssi(offer) - gap * (connecting + failures + few)
        };
        let free = offers.iter().filter(|offer| self.links_left(offer, device, now) != Some(0));
        // Of equals the one with fewer links.
        let best = free.max_by(|a, b| score(a).total_cmp(&score(b)).then(b.links.cmp(&a.links)));
        best.map(|offer| offer.adapter)
    }

    /// A connect to `device` came to nothing.
    pub fn failed(&mut self, adapter: &str, device: Address) {
        let failures = self.adapter(adapter).failures.entry(device).or_default();
        *failures = (*failures + 1).min(FAILURES_MAX);
    }

    /// Whether the last connect to `device` came to nothing.
    pub fn has_failed(&self, adapter: &str, device: Address) -> bool {
        self.failures(adapter, device) > 0
    }

    /// A link to `device` brought readings.
    pub fn succeeded(&mut self, adapter: &str, device: Address) {
        let adapter = self.adapter(adapter);
        adapter.failures.remove(&device);
        adapter.refusals.remove(&device);
    }

    /// The adapter refused a link at once, beside so many others: nothing but that, and that it goes on, tells an
    /// adapter that is full from another fault.
    pub fn refused(&mut self, adapter: &str, device: Address, links: usize, now: Duration) {
        let refusals = self.adapter(adapter).refusals.entry(device).or_default();
        refusals.count += 1;
        if links >= FULL_MIN && refusals.count >= REFUSALS_MIN {
            refusals.full = Some((links, now));
        }
    }

    /// Whether turning the adapter off and on again may be tried: nobody has a link over it, and it was not
    /// tried too often today. If so, it counts as tried.
    pub fn take_power_cycle(&mut self, adapter: &str, links: usize, now: Duration) -> bool {
        let cycles = &mut self.adapter(adapter).power_cycles;
        cycles.retain(|at| now.saturating_sub(*at) < A_DAY);
        let may = links == 0 && cycles.len() < POWER_CYCLES_MAX;
        if may {
            cycles.push(now);
        }
        may
    }

    fn adapter(&mut self, name: &str) -> &mut Adapter {
        self.0.entry(name.to_owned()).or_default()
    }

    fn failures(&self, adapter: &str, device: Address) -> u32 {
        self.0.get(adapter).and_then(|adapter| adapter.failures.get(&device)).copied().unwrap_or(0)
    }

    /// As far as it is known.
    fn links_left(&self, offer: &Offer<'_>, device: Address, now: Duration) -> Option<usize> {
        let (links, at) = self.0.get(offer.adapter)?.refusals.get(&device)?.full?;
        (now.saturating_sub(at) < FULL_KEPT).then(|| links.saturating_sub(offer.links))
    }
}
