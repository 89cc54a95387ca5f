//! How one sensor's subscription is kept for ever. Pure: an outcome and the time go in, the next
//! action comes out; [`bluez`](super::bluez) carries it out, under a timeout of its own.
//!
//! A sensor that is not there is no fault: it is looked for until it comes. A sensor that is there and
//! does not work climbs the recovery ladder, one rung each time: subscribe again on the same link →
//! connect again, by another adapter if there is one → have BlueZ forget the device → power-cycle the
//! adapter → say that a person is needed, and go on trying. What is not ours stays whole: the driver skips
//! a rung that would cut another program's link, or delete a bond that others made. A sensor that another
//! program holds is waited for.
//!
//! Every way out of a link leads through [`Action::Disconnect`]: BlueZ keeps the notify session of a link
//! that merely dropped, and would deliver each value twice.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::reading::GapReason;

/// Pause between two searches for a sensor that is not there.
const SEARCH_PAUSE: Duration = Duration::from_secs(3);
/// Pause while there is no adapter, or no bluetoothd.
const ADAPTER_PAUSE: Duration = Duration::from_secs(2);
/// Rungs of the ladder, in failures without a reading between them.
const BOND_ANEW_AT: u32 = 2;
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
    /// Open a D-Bus connection.
    Attach,
    /// Look for the sensor on all adapters, for one slice.
    Find,
    /// Connect and wait for the services.
    Connect,
    /// Bond.
    Bond,
    /// Start a notify session, after ending the one before.
    Subscribe,
    /// Pass on notifications until they end.
    Stream,
    /// End a link of ours explicitly.
    Disconnect,
    /// Let go of a link that others use.
    Release,
    /// Have BlueZ forget the device, unless somebody bonded with it.
    Forget,
    /// Have BlueZ forget the device with its bond, if that was made by us.
    BondAnew,
    /// Power-cycle the adapter, if nobody has a link over it.
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
    /// The sensor cannot be had now, which is no fault of its link.
    Absent(Absence),
    /// There is no way to reach it.
    NoAdapter(NoAdapter),
    /// The sensor demands a bond first.
    BondNeeded,
    /// The sensor has no Heart Rate Service.
    NoHeartRate,
    /// Another program takes the sensor's notifications.
    Held,
    /// What BlueZ stored of the sensor's services is not so any more.
    StaleServices,
    /// Another program is connecting to it.
    Busy,
    /// The link was refused at once.
    Refused,
    /// It took too long.
    Timeout,
    /// Anything else.
    Other,
}

/// Why a sensor cannot be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It was not seen.
    NotSeen,
    /// Another device has its name.
    Stranger,
    /// Several devices have its name.
    Ambiguous,
    /// A device's name begins with its name.
    LongerName,
    /// No adapter that hears it has a link left.
    NoLinkLeft,
    /// Its advertisements say nothing of the heart.
    NothingSaid,
}

/// Why there is no way to reach a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAdapter {
    /// The bus, or bluetoothd, does not answer.
    NoAnswer,
    /// bluetoothd is not running.
    NoBluetoothd,
    /// bluetoothd was started anew.
    Restarted,
    /// There is none.
    Missing,
    /// The configured one is not there, though others are.
    NotThisOne,
    /// It is blocked by rfkill.
    Blocked,
    /// bluetoothd does not switch it on.
    Off,
    /// It was not ready for one call: it is just being switched off or on.
    NotReady,
    /// It does not scan.
    DoesNotScan,
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
    /// There is no way to reach it.
    NoAdapter(NoAdapter),
    /// It cannot be had.
    Absent(Absence),
    /// Another program takes its notifications.
    Held,
    /// It is there and does not work, again and again.
    Failing(Failure),
}

/// The state machine of one sensor.
#[derive(Debug)]
pub struct Lifecycle {
    bond: bool,
    action: Action,
    /// What follows the current disconnect or wait.
    then: Action,
    failures: u32,
    /// Tries in a row that met another program.
    held: u32,
    resubscribed: bool,
    reported: Option<Report>,
    /// What was told of its absence since readings last flowed: it may come and go between two of them.
    told_absent: Vec<Absence>,
    report: Option<Report>,
}

impl Lifecycle {
    /// A sensor that nothing is known of yet. The first action is [`Action::Attach`].
    pub fn new(bond: bool) -> Self {
        Self {
            bond,
            action: Action::Attach,
            then: Action::Find,
            failures: 0,
            held: 0,
            resubscribed: false,
            reported: None,
            told_absent: Vec::new(),
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
            (_, Outcome::Failed(Failure::NoAdapter(why))) => {
                self.say(Report::NoAdapter(why));
                self.no_adapter()
            }
            (Action::Stream, Outcome::Ended { why, notifications }) => self.stream_ended(why, notifications),
            (Action::Find, Outcome::Failed(Failure::Absent(why))) => {
                self.say(Report::Absent(why));
                self.wait_then(SEARCH_PAUSE, Action::Find)
            }
            (Action::Connect, Outcome::Failed(Failure::Absent(why))) => {
                self.say(Report::Absent(why));
                self.then = Action::Wait(SEARCH_PAUSE);
                Action::Disconnect
            }
            (_, Outcome::Failed(Failure::Busy)) => {
                self.then = Action::Wait(SEARCH_PAUSE);
                Action::Release
            }
            (Action::Disconnect | Action::Release | Action::Wait(_), _)
            | (Action::Forget | Action::BondAnew | Action::PowerCycle, _) => {
                std::mem::replace(&mut self.then, Action::Find)
            }
            (_, Outcome::Failed(Failure::Held)) => self.held(random),
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
        self.held = 0;
        self.resubscribed = false;
        self.told_absent.clear();
        self.say(Report::Streaming);
    }

    /// A sensor without a link cannot be had.
    pub fn handle_absence(&mut self, why: Absence) {
        self.say(Report::Absent(why));
    }

    /// A sensor without a link cannot be reached.
    pub fn handle_no_adapter(&mut self, why: NoAdapter) {
        self.say(Report::NoAdapter(why));
    }

    fn stream_ended(&mut self, why: GapReason, notifications: u64) -> Action {
        match why {
            GapReason::AdapterGone => {
                self.say(Report::LinkLost);
                self.no_adapter()
            }
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
                self.then = self.rung(Failure::Other);
                Action::Disconnect
            }
        }
    }

    fn no_adapter(&mut self) -> Action {
        self.resubscribed = false;
        self.wait_then(ADAPTER_PAUSE, Action::Attach)
    }

    /// Nothing is wrong with the sensor, and nothing is ours to end.
    fn held(&mut self, random: f64) -> Action {
        self.say(Report::Held);
        self.then = Action::Wait(retry_delay().delay(self.held, random));
        self.held += 1;
        Action::Release
    }

    fn climb(&mut self, failed: Action, failure: Failure, random: f64) -> Action {
        self.failures += 1;
        let is_plain = matches!(failure, Failure::BondNeeded | Failure::NoHeartRate | Failure::StaleServices);
        if self.failures >= REPORT_AT || is_plain {
            self.say(Report::Failing(failure));
        }
        if matches!(failed, Action::Attach | Action::Find) {
            return self.wait_then(ADAPTER_PAUSE, Action::Attach);
        }
        self.then = match self.rung(failure) {
            Action::Find => Action::Wait(retry_delay().delay(self.failures, random)),
            rung => rung,
        };
        Action::Disconnect
    }

    /// What to do about so many failures before looking for the sensor again.
    fn rung(&self, failure: Failure) -> Action {
        match (self.failures % LADDER_LENGTH, failure) {
            (BOND_ANEW_AT, Failure::StaleServices) => Action::BondAnew,
            (FORGET_AT, _) => Action::Forget,
            // What a person has to do, no adapter can.
            (POWER_CYCLE_AT, Failure::BondNeeded | Failure::NoHeartRate | Failure::StaleServices) => {
                Action::Find
            }
            (POWER_CYCLE_AT, _) => Action::PowerCycle,
            _ => Action::Find,
        }
    }

    fn wait_then(&mut self, pause: Duration, then: Action) -> Action {
        self.then = then;
        Action::Wait(pause)
    }

    fn say(&mut self, report: Report) {
        if self.reported == Some(report) {
            return;
        }
        self.reported = Some(report);
        if let Report::Absent(why) = report {
            if self.told_absent.contains(&why) {
                return;
            }
            self.told_absent.push(why);
        }
        self.report = Some(report);
    }
}
