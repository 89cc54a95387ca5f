//! The machine's clocks, and who is asked whether the wall clock is right.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use super::{Anchor, Discipline, Look};
use crate::reading::{BootId, Moment};
use crate::system_bus;

/// How long `timedated` may take to answer; it is started by D-Bus when asked.
const TIMEDATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Two clocks cannot be read at once. Further apart, as the process was held up, they are read again.
const READ_APART_MAX: Duration = Duration::from_millis(20);
const READ_TRIES: u32 = 10;

/// Where the answer to "is the clock synchronized?" comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Synchronization {
    /// systemd: `NTPSynchronized` of timedated, which asks the kernel, so chrony and ntpd count too; where
    /// timedated is not there to be asked, the flag of timesyncd.
    #[default]
    System,
    /// The machine's clock is right by other means (a battery clock, GPS, a container's host).
    Trusted,
}

/// Reads the machine's clocks. Clones share what is known of the wall clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    boot: BootId,
    discipline: Arc<Mutex<Discipline>>,
}

/// The system says that the clock is right.
#[derive(Debug)]
pub struct Vouched {
    /// To be kept before the clock [counts as right](SystemClock::accept).
    pub anchor: Anchor,
    steps: u64,
}

impl SystemClock {
    /// A clock that counts as unsynchronized until the system was [asked](Self::ask), or as right from the
    /// start with [`Synchronization::Trusted`].
    pub fn new(source: Synchronization) -> std::io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = u128::from_str_radix(&text.trim().replace('-', ""), 16)
            .map_err(|_| std::io::Error::other("the kernel's boot_id is not a UUID"))?;
        let discipline = Discipline::new(source == Synchronization::Trusted, look());
        Ok(Self { boot: BootId(boot), discipline: Arc::new(Mutex::new(discipline)) })
    }

    /// Goes on from the latest of `known` that was taken in this boot, if any was.
    pub fn resume(&self, known: impl Iterator<Item = Moment>) {
        let of_this_boot = known.filter(|moment| moment.boot == self.boot);
        if let Some(last) = of_this_boot.max_by_key(|moment| moment.boottime_ms) {
            self.lock().resume(&last, look());
        }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        let mut discipline = self.lock();
        let now = look();
        let synchronized = discipline.look(now);
        Moment { boot: self.boot, boottime_ms: now.boottime_ms, wall_ms: now.wall_ms, synchronized }
    }

    /// Asks the system whether the clock, not known to be right, is. Blocks: for up to 5 s, and longer
    /// where the bus itself does not answer.
    pub fn ask(&self) -> Option<Vouched> {
        let (steps, doubted) = {
            let mut discipline = self.lock();
            if discipline.look(look()) {
                return None;
            }
            (discipline.steps(), discipline.is_doubted())
        };
        // The flag of timesyncd stays when the clock is set by hand.
        let says_so = timedated().unwrap_or_else(|| !doubted && timesyncd());
        let now = self.now();
        let anchor = Anchor { boot: self.boot, offset_ms: now.offset_ms(), boottime_ms: now.boottime_ms };
        // Set since it was asked, it is another clock than the one that was meant.
        (says_so && self.lock().steps() == steps).then_some(Vouched { anchor, steps })
    }

    /// From now on the clock counts as right, unless it was set since the system was asked. Whoever
    /// then sees a synchronized clock must find the anchor: it is kept before.
    pub fn accept(&self, vouched: &Vouched) -> bool {
        let mut discipline = self.lock();
        discipline.vouch(vouched.steps, look())
    }

    /// Wall clock minus time since boot, milliseconds, of the clock that calls are signed by
    /// ([`Discipline::signing_offset_ms`]).
    pub fn offset_ms(&self) -> i64 {
        self.lock().signing_offset_ms(look())
    }

    /// By how many milliseconds the clock was set while it counted as right, once for each time.
    pub fn take_step(&self) -> Option<i64> {
        let mut discipline = self.lock();
        discipline.look(look());
        discipline.take_step()
    }

    /// How often the clock was set so far, right or wrong.
    pub fn steps(&self) -> u64 {
        let mut discipline = self.lock();
        discipline.look(look());
        discipline.steps()
    }

    /// Whether the wall clock is known to be right.
    pub fn is_synchronized(&self) -> bool {
        self.now().synchronized
    }

    fn lock(&self) -> MutexGuard<'_, Discipline> {
        self.discipline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time since boot, suspended or not.
pub fn boottime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn look() -> Look {
    let mut tries = 1;
    loop {
        let before = boottime();
        let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before_1970) => -i64::try_from(before_1970.duration().as_millis()).unwrap_or(i64::MAX),
        };
        if boottime().saturating_sub(before) <= READ_APART_MAX || tries == READ_TRIES {
            return Look { boottime_ms: before.as_millis() as u64, wall_ms };
        }
        tries += 1;
    }
}

/// `None` where there is no bus, or nobody on it who knows.
fn timedated() -> Option<bool> {
    use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
    let bus = dbus::blocking::Connection::from(system_bus::open().ok()?);
    bus.with_proxy("org.freedesktop.timedate1", "/org/freedesktop/timedate1", TIMEDATE_TIMEOUT)
        .get("org.freedesktop.timedate1", "NTPSynchronized")
        .ok()
}

fn timesyncd() -> bool {
    std::path::Path::new("/run/systemd/timesync/synchronized").exists()
}
