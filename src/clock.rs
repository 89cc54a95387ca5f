//! Time on a machine without a battery clock.
//!
//! A Pi boots in the past. So every reading keeps its boot id and time since boot beside the wall
//! clock ([`Moment`]), and once the clock is synchronized the boot gets an [`Anchor`]: from then on,
//! also after later boots, that boot's readings are sent with the corrected time. [`resolve`] is the
//! pure part; [`SystemClock`] is the thin one.

use serde::{Deserialize, Serialize};

use crate::reading::{BootId, Moment};

/// How far a reading's `timestamp` can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockQuality {
    /// The wall clock was synchronized when the reading was taken.
    Synchronized,
    /// It was not, but was later in the same boot; the time stamp was computed back.
    Corrected,
    /// It never was in that boot: the time stamp is what the wall clock said.
    Unsynchronized,
}

/// What turns a boot's time since boot into wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The boot it holds for.
    pub boot: BootId,
    /// Wall clock minus time since boot, milliseconds, when the clock was first seen synchronized.
    pub offset_ms: i64,
}

/// Most anchors a store keeps, newest last. A boot leaves one only if it began with a wrong clock.
pub const ANCHORS_MAX: usize = 64;

/// The wall time to send for `moment`, milliseconds since 1970, and how far to trust it.
pub fn resolve(moment: &Moment, anchors: &[Anchor]) -> (i64, ClockQuality) {
    if moment.synchronized {
        return (moment.wall_ms, ClockQuality::Synchronized);
    }
    match anchors.iter().rfind(|anchor| anchor.boot == moment.boot) {
        Some(anchor) => {
            let since_boot = i64::try_from(moment.boottime_ms).unwrap_or(i64::MAX);
            (since_boot.saturating_add(anchor.offset_ms), ClockQuality::Corrected)
        }
        None => (moment.wall_ms, ClockQuality::Unsynchronized),
    }
}

#[cfg(feature = "daemon")]
pub use system::{Synchronization, SystemClock, boottime};

#[cfg(feature = "daemon")]
mod system {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use rustix::time::{ClockId, clock_gettime};

    use super::Anchor;
    use crate::reading::{BootId, Moment};

    /// How long `timedated` may take to answer; it is started by D-Bus when asked.
    const TIMEDATE_TIMEOUT: Duration = Duration::from_secs(5);

    /// The wall clock was set if it moved so far against time since boot; less is slewing.
    const STEP_MS: u64 = 1_000;

    /// Where the answer to "is the clock synchronized?" comes from.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Synchronization {
        /// systemd: the flag of timesyncd, else `NTPSynchronized` of timedated (which asks the kernel,
        /// so chrony and ntpd count too).
        #[default]
        System,
        /// The machine's clock is right by other means (a battery clock, GPS, a container's host).
        Trusted,
    }

    /// Reads the machine's clocks. Clones share what is known of the synchronization.
    #[derive(Debug, Clone)]
    pub struct SystemClock {
        boot: BootId,
        synchronized: Arc<AtomicBool>,
        /// Noted, and seen at the last look.
        noted_offsets_ms: Arc<(AtomicI64, AtomicI64)>,
    }

    impl SystemClock {
        /// A clock that counts as unsynchronized until it is [confirmed](Self::confirm), or from the start with [`Synchronization::Trusted`].
        pub fn new(source: Synchronization) -> std::io::Result<Self> {
            let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
            let boot = u128::from_str_radix(&text.trim().replace('-', ""), 16)
                .map_err(|_| std::io::Error::other("the kernel's boot_id is not a UUID"))?;
            let trusted = source == Synchronization::Trusted;
            let clock = Self {
                boot: BootId(boot),
                synchronized: Arc::new(AtomicBool::new(trusted)),
                noted_offsets_ms: Arc::default(),
            };
            clock.note_offset();
            clock.note_offset();
            Ok(clock)
        }

        /// Now.
        pub fn now(&self) -> Moment {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            Moment {
                boot: self.boot,
                boottime_ms: boottime().as_millis() as u64,
                wall_ms: wall.as_millis() as i64,
                synchronized: self.synchronized.load(Ordering::Relaxed),
            }
        }

        /// Asks the system once, blocking for up to 5 s. When the clock has become synchronized, returns the
        /// boot's anchor, to be stored before that is [confirmed](Self::confirm).
        pub fn ask_system(&self) -> Option<Anchor> {
            let became = !self.is_synchronized() && system_is_synchronized();
            became.then(|| Anchor { boot: self.boot, offset_ms: self.now().offset_ms() })
        }

        /// From now on the clock counts as synchronized.
        pub fn confirm(&self) {
            self.synchronized.store(true, Ordering::Relaxed);
        }

        /// Wall clock minus time since boot, milliseconds, of the clock that readings go by: as it is if it
        /// is synchronized, and before that as last [noted](Self::note_offset).
        pub fn offset_ms(&self) -> i64 {
            match self.is_synchronized() {
                true => self.now().offset_ms(),
                false => self.noted_offsets_ms.0.load(Ordering::Relaxed),
            }
        }

        /// Whether the clock, not known to be synchronized, was set since it was noted.
        pub fn was_set(&self) -> bool {
            !self.is_synchronized() && self.now().offset_ms().abs_diff(self.offset_ms()) > STEP_MS
        }

        /// Looks at the clock, and takes what was seen at the look before as noted: who sets a clock needs a
        /// moment to say that it is synchronized.
        pub fn note_offset(&self) {
            let seen = self.noted_offsets_ms.1.swap(self.now().offset_ms(), Ordering::Relaxed);
            self.noted_offsets_ms.0.store(seen, Ordering::Relaxed);
        }

        /// Whether the wall clock is known to be right.
        pub fn is_synchronized(&self) -> bool {
            self.synchronized.load(Ordering::Relaxed)
        }
    }

    /// Time since boot, suspended or not.
    pub fn boottime() -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn system_is_synchronized() -> bool {
        use dbus::blocking::stdintf::org_freedesktop_dbus::Properties;
        if std::path::Path::new("/run/systemd/timesync/synchronized").exists() {
            return true;
        }
        let Ok(bus) = dbus::blocking::Connection::new_system() else { return false };
        bus.with_proxy("org.freedesktop.timedate1", "/org/freedesktop/timedate1", TIMEDATE_TIMEOUT)
            .get("org.freedesktop.timedate1", "NTPSynchronized")
            .unwrap_or(false)
    }
}
