//! How one sensor's subscription is kept for ever. Pure: an outcome and the time go in, the next
//! action comes out; [`bluez`](super::bluez) carries it out, under a timeout of its own.
//!
//! A sensor that is not there is no fault: it is looked for until it comes. A sensor that is there and
//! does not work climbs the recovery ladder, one rung each time: subscribe again on the same link →
//! connect again → have BlueZ forget the device → power-cycle the adapter → say that a person is
//! needed, and go on trying. Every way out of a link leads through [`Action::Disconnect`]: BlueZ keeps
//! the notify session of a link that merely dropped, and would deliver each value twice.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::reading::GapReason;

/// Pause between two searches for a sensor that is not there.
const SEARCH_PAUSE: Duration = Duration::from_secs(3);
/// Pause while there is no adapter, or no bluetoothd.
const ADAPTER_PAUSE: Duration = Duration::from_secs(2);
/// Rungs of the ladder, in failures without a reading between them.
const FORGET_AT: u32 = 3;
const POWER_CYCLE_AT: u32 = 6;
const REPORT_AT: u32 = 4;
/// From the top rung on, the ladder repeats.
const LADDER_LENGTH: u32 = 7;

fn retry_delay() -> Backoff {
    Backoff::new(Duration::from_millis(500), Duration::from_secs(20)).expect("base is below ceiling")
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Open a D-Bus connection, find the adapter, power it; drop a link that an earlier process left.
    Attach,
    /// Scan until the sensor is seen, for one slice.
    Find,
    /// Connect and wait for the services.
    Connect,
    /// Bond.
    Bond,
    /// Start a notify session, after ending the one before.
    Subscribe,
    /// Pass on notifications until they end.
    Stream,
    /// Disconnect explicitly.
    Disconnect,
    /// Have BlueZ forget the device.
    Forget,
    /// Power-cycle the adapter, unless another sensor streams over it.
    PowerCycle,
    /// Do nothing for so long.
    Wait(Duration),
}

/// What an action came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It worked. For [`Action::Stream`] see [`Outcome::Ended`].
    Done,
    /// It did not.
    Failed(Failure),
    /// The stream ended.
    Ended {
        /// Why.
        why: GapReason,
        /// Notifications it brought.
        notifications: u64,
    },
}

/// Why an action failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The sensor was not seen.
    NotSeen,
    /// There is no adapter, or no bluetoothd.
    AdapterGone,
    /// The sensor demands a bond first.
    BondNeeded,
    /// The sensor has no Heart Rate Service.
    NoHeartRate,
    /// It took too long.
    Timeout,
    /// Anything else.
    Other,
}

/// What the operator should hear, once per change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// Readings flow.
    Streaming,
    /// The link was lost.
    LinkLost,
    /// The link stands and brings nothing.
    Silent,
    /// There is no adapter.
    AdapterGone,
    /// The sensor is looked for.
    Searching,
    /// The adapter does not scan, again and again.
    CannotScan(Failure),
    /// It is there and does not work, again and again.
    Failing(Failure),
}

/// The state machine of one sensor.
#[derive(Debug)]
pub struct SensorSession {
    bond: bool,
    action: Action,
    /// What follows the current disconnect or wait.
    then: Action,
    failures: u32,
    resubscribed: bool,
    reported: Option<Report>,
    report: Option<Report>,
}

impl SensorSession {
    /// A sensor that nothing is known of yet. The first action is [`Action::Attach`].
    pub fn new(bond: bool) -> Self {
        Self {
            bond,
            action: Action::Attach,
            then: Action::Find,
            failures: 0,
            resubscribed: false,
            reported: None,
            report: None,
        }
    }

    /// The action to carry out now.
    pub fn action(&self) -> Action {
        self.action
    }

    /// What changed for the operator since the last call.
    pub fn take_report(&mut self) -> Option<Report> {
        self.report.take()
    }

    /// The action's outcome; returns the next action. `random` in `0.0..1.0` is for the jitter.
    pub fn handle(&mut self, outcome: Outcome, random: f64) -> Action {
        self.action = match (self.action, outcome) {
            (_, Outcome::Failed(Failure::AdapterGone)) => self.adapter_gone(),
            (Action::Stream, Outcome::Ended { why, notifications }) => self.stream_ended(why, notifications),
            (Action::Find, Outcome::Failed(Failure::NotSeen)) => {
                self.say(Report::Searching);
                self.wait_then(SEARCH_PAUSE, Action::Find)
            }
            (Action::Disconnect | Action::Forget | Action::PowerCycle | Action::Wait(_), _) => {
                std::mem::replace(&mut self.then, Action::Find)
            }
            (Action::Find, Outcome::Failed(failure)) => self.cannot_scan(failure, random),
            (action, Outcome::Failed(failure)) => self.climb(action, failure, random),
            (Action::Attach, _) => Action::Find,
            (Action::Find, _) => Action::Connect,
            (Action::Connect, _) if self.bond => Action::Bond,
            (Action::Connect | Action::Bond, _) => Action::Subscribe,
            (Action::Subscribe | Action::Stream, _) => Action::Stream,
        };
        self.action
    }

    /// The stream's first notification: the ladder starts from the bottom again.
    pub fn handle_first_notification(&mut self) {
        self.failures = 0;
        self.resubscribed = false;
        self.say(Report::Streaming);
    }

    fn stream_ended(&mut self, why: GapReason, notifications: u64) -> Action {
        match why {
            GapReason::AdapterGone => self.adapter_gone(),
            GapReason::SensorSilent if !self.resubscribed => {
                self.say(Report::Silent);
                self.resubscribed = true;
                Action::Subscribe
            }
            _ => {
                self.say(if why == GapReason::SensorSilent { Report::Silent } else { Report::LinkLost });
                self.resubscribed = false;
                // A link that drops before it brought anything is a failure to climb on.
                self.failures += u32::from(notifications == 0);
                self.then = match self.rung() {
                    Action::Forget if self.bond => Action::Find,
                    rung => rung,
                };
                Action::Disconnect
            }
        }
    }

    fn adapter_gone(&mut self) -> Action {
        self.say(Report::AdapterGone);
        self.resubscribed = false;
        self.wait_then(ADAPTER_PAUSE, Action::Attach)
    }

    /// The next try is over another D-Bus connection: this one's scan may be pending for ever.
    fn cannot_scan(&mut self, failure: Failure, random: f64) -> Action {
        self.failures += 1;
        if self.failures >= REPORT_AT {
            self.say(Report::CannotScan(failure));
        }
        match self.rung() {
            Action::PowerCycle => {
                self.then = Action::Attach;
                Action::PowerCycle
            }
            _ => self.wait_then(retry_delay().delay(self.failures, random), Action::Attach),
        }
    }

    fn climb(&mut self, failed: Action, failure: Failure, random: f64) -> Action {
        self.failures += 1;
        if self.failures >= REPORT_AT || matches!(failure, Failure::BondNeeded | Failure::NoHeartRate) {
            self.say(Report::Failing(failure));
        }
        if failed == Action::Attach {
            return self.wait_then(ADAPTER_PAUSE, Action::Attach);
        }
        // Forgetting a device deletes its bond, and a strap bonds again only when asked to by hand.
        let rung = match self.rung() {
            Action::Forget if self.bond && failure != Failure::BondNeeded => Action::Find,
            rung => rung,
        };
        self.then = match rung {
            Action::Find => Action::Wait(retry_delay().delay(self.failures, random)),
            rung => rung,
        };
        Action::Disconnect
    }

    /// What to do about so many failures before looking for the sensor again.
    fn rung(&self) -> Action {
        match self.failures % LADDER_LENGTH {
            FORGET_AT => Action::Forget,
            POWER_CYCLE_AT => Action::PowerCycle,
            _ => Action::Find,
        }
    }

    fn wait_then(&mut self, pause: Duration, then: Action) -> Action {
        self.then = then;
        Action::Wait(pause)
    }

    fn say(&mut self, report: Report) {
        if self.reported != Some(report) {
            self.reported = Some(report);
            self.report = Some(report);
        }
    }
}
