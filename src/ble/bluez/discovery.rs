//! Looking around, once for all who look: one scan on each adapter, and one question to bluetoothd for
//! what was heard.
//!
//! An adapter that cannot be scanned is tried on over new connections, then power-cycled, and named.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bluer::{Adapter, AdapterEvent, DiscoveryFilter, DiscoveryTransport, Session};
use futures_util::{Stream, StreamExt};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info};

use super::bus::Answers;
use super::call::{CALL_TIMEOUT, within};
use super::objects::{Objects, Power};
use super::radio::Radio;
use crate::backoff::Backoff;
use crate::ble::lifecycle::{Failure, NoAdapter};
use crate::clock::boottime;
use crate::config::AdapterChoice;
use crate::system_bus;

/// How often bluetoothd is asked what was heard: by somebody who waits for it, and by those who only listen.
const LOOK_EVERY: Duration = Duration::from_millis(400);
const LISTEN_EVERY: Duration = Duration::from_secs(2);
/// A scan that has so long been none, to bluetoothd, is begun anew: neither is told of a bluetoothd that was
/// started again, nor of an adapter that was off for a moment.
const UNHEARD_MAX: Duration = Duration::from_secs(5);
/// Longest scan: bluetoothd shows a device that has left as if it were heard until the scan ends.
const SCAN_MAX: Duration = Duration::from_secs(20);
/// Longest that bluetoothd may take to begin or end discovery.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// The least that HCI can report (Core Specification, Vol 4, Part E, 7.7.65.2).
const RSSI_MIN_DBM: i16 = -127;
/// Failures in a row after which an adapter is named, and power-cycled.
const REPORT_AT: u32 = 4;
const POWER_CYCLE_AT: u32 = 6;

/// Looks around while anybody wants it.
pub struct Discovery {
    radio: Arc<Radio>,
    answers: Answers,
    lookers: watch::Sender<Lookers>,
    objects: watch::Sender<Arc<Objects>>,
    /// Adapters by name: whether their scan works.
    scans: Mutex<BTreeMap<String, bool>>,
    /// Held while an adapter is off to be switched on again.
    cycling: Arc<AsyncMutex<()>>,
}

/// How many look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lookers {
    /// For a device that is to be found.
    waiting: usize,
    /// For what advertisements say, each of them.
    listening: usize,
}

/// While it lives, somebody looks.
pub struct Looking {
    discovery: Arc<Discovery>,
    objects: watch::Receiver<Arc<Objects>>,
    count: fn(&mut Lookers) -> &mut usize,
}

/// A scan that goes on.
struct Scan {
    task: AbortHandle,
    /// Since when bluetoothd knows of none.
    unheard_since: Option<Instant>,
}

impl Looking {
    /// What there is, from now on.
    pub async fn next(&mut self) -> Arc<Objects> {
        // The sender lives in `discovery`, so this does not fail.
        _ = self.objects.changed().await;
        self.objects.borrow_and_update().clone()
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.discovery.lookers.send_modify(|lookers| *(self.count)(lookers) -= 1);
    }
}

impl Discovery {
    /// Nobody looks yet.
    pub(super) fn new(radio: Arc<Radio>, answers: Answers) -> Arc<Self> {
        let (lookers, objects) = (watch::Sender::default(), watch::Sender::default());
        Arc::new(Self { radio, answers, lookers, objects, scans: Mutex::default(), cycling: Arc::default() })
    }

    /// One more looks for a device.
    pub fn look(self: &Arc<Self>) -> Looking {
        self.looking(|lookers| &mut lookers.waiting)
    }

    /// One more listens to what advertisements say.
    pub(super) fn listen(self: &Arc<Self>) -> Looking {
        self.looking(|lookers| &mut lookers.listening)
    }

    fn looking(self: &Arc<Self>, count: fn(&mut Lookers) -> &mut usize) -> Looking {
        self.lookers.send_modify(|lookers| *count(lookers) += 1);
        Looking { discovery: self.clone(), objects: self.objects.subscribe(), count }
    }

    /// What there was when anybody last looked.
    pub(super) fn latest(&self) -> Arc<Objects> {
        self.objects.borrow().clone()
    }

    /// Whether none of `adapters` can be scanned on.
    pub(super) fn are_deaf(&self, adapters: &[String]) -> bool {
        let scans = self.scans();
        adapters.iter().all(|adapter| scans.get(adapter) == Some(&false))
    }

    /// Whether any of `adapters` is, or was, scanned on.
    pub(super) fn does_any_scan(&self, adapters: &[String]) -> bool {
        let scans = self.scans();
        adapters.iter().any(|adapter| scans.get(adapter) == Some(&true))
    }

    fn scans(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.scans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for ever on the adapters of each of `choices`: all of them, where one names none.
    pub(super) async fn run(self: Arc<Self>, choices: impl Fn() -> Vec<Vec<AdapterChoice>>) {
        let mut connection = None;
        let mut tasks = JoinSet::new();
        let mut scans: BTreeMap<String, Scan> = BTreeMap::new();
        let mut bluetoothd = None;
        let mut lookers = self.lookers.subscribe();
        loop {
            _ = lookers.wait_for(|lookers| *lookers != Lookers::default()).await;
            // None is opened before there was an answer: it could block a thread for long.
            if connection.is_none() && !self.answers.next().await {
                continue;
            }
            let asked = async {
                let connection = match &mut connection {
                    Some(open) => open,
                    none => none.insert(system_bus::connect().await?),
                };
                Objects::ask(connection).await
            };
            let Ok(Ok(objects)) = timeout(CALL_TIMEOUT, asked).await else {
                connection = None;
                sleep(LOOK_EVERY).await;
                continue;
            };
            self.answers.note();
            let wanted = to_scan(&objects, &choices());
            let was_restarted = std::mem::replace(&mut bluetoothd, objects.bluetoothd.clone()) != bluetoothd;
            scans.retain(|name, scan| {
                let keep = wanted.contains(name) && !was_restarted && self.goes_on(name, scan, &objects);
                if !keep {
                    scan.task.abort();
                }
                keep
            });
            for name in wanted {
                let (discovery, adapter) = (self.clone(), name.clone());
                let begin = || tasks.spawn(discovery.keep_scanning(adapter));
                scans.entry(name).or_insert_with(|| Scan { task: begin(), unheard_since: None });
            }
            while tasks.try_join_next().is_some() {}
            self.objects.send_replace(Arc::new(objects));
            let pause = if lookers.borrow().waiting > 0 { LOOK_EVERY } else { LISTEN_EVERY };
            _ = timeout(pause, lookers.wait_for(|lookers| pause > LOOK_EVERY && lookers.waiting > 0)).await;
        }
    }

    /// Whether bluetoothd knows of the scan too, as far as it should.
    fn goes_on(&self, name: &str, scan: &mut Scan, objects: &Objects) -> bool {
        let is_heard = objects.adapters.iter().any(|adapter| adapter.name == name && adapter.is_discovering);
        if is_heard || !self.radio.is_scanning(name) {
            scan.unheard_since = None;
        }
        let unheard_since = *scan.unheard_since.get_or_insert_with(Instant::now);
        !scan.task.is_finished() && unheard_since.elapsed() < UNHEARD_MAX
    }

    /// Scans on one adapter while anybody looks.
    async fn keep_scanning(self: Arc<Self>, adapter: String) {
        let retry =
            Backoff::new(Duration::from_secs(1), Duration::from_secs(20)).expect("base is below ceiling");
        let mut lookers = self.lookers.subscribe();
        let mut session = None;
        let mut failures = 0;
        loop {
            _ = lookers.wait_for(|lookers| *lookers != Lookers::default()).await;
            let Err(failure) = self.scan(&adapter, &mut session).await else {
                if std::mem::take(&mut failures) >= REPORT_AT {
                    info!(adapter, "the adapter scans again");
                }
                continue;
            };
            // This one's discovery may be pending for ever: the next try is over another.
            session = None;
            failures += 1;
            if failures == REPORT_AT {
                self.scans().insert(adapter.clone(), false);
                error!(
                    adapter,
                    ?failure,
                    "the adapter does not scan; trying on (systemctl restart bluetooth, or plug it in again)"
                );
            }
            if failures % POWER_CYCLE_AT == 0 {
                _ = self.power_cycle(&adapter).await;
            }
            sleep(retry.delay(failures, fastrand::f64())).await;
        }
    }

    /// Until nobody looks, somebody connects, or for a while.
    async fn scan(&self, name: &str, session: &mut Option<Session>) -> Result<(), Failure> {
        let session = match session {
            Some(open) => open,
            None if !self.answers.next().await => return Err(Failure::NoAdapter(NoAdapter::NoAnswer)),
            none => none.insert(within(CALL_TIMEOUT, Session::new()).await?),
        };
        let adapter = within(CALL_TIMEOUT, async { session.adapter(name) }).await?;
        if !within(CALL_TIMEOUT, adapter.is_powered()).await? {
            within(CALL_TIMEOUT, adapter.set_powered(true)).await?;
            self.radio.note_switched_on(name);
        }
        let permit = self.radio.scan(name).await;
        let mut lookers = self.lookers.subscribe();
        let each = lookers.borrow_and_update().listening > 0;
        let mut heard = start(&adapter, each).await?;
        self.scans().insert(name.to_owned(), true);
        let gone = tokio::select! {
            // Read, so that it does not pile up; what was heard is asked for all at once.
            () = async { while heard.next().await.is_some() {} } => true,
            () = permit.contended() => false,
            () = sleep(SCAN_MAX) => false,
            _ = lookers.wait_for(|now| *now == Lookers::default() || (now.listening > 0) != each) => false,
        };
        stop(&adapter, heard).await;
        if gone { Err(Failure::NoAdapter(NoAdapter::Missing)) } else { Ok(()) }
    }

    /// Turns the adapter off and on again, if nobody has a link over it and it was not done too often.
    pub(super) async fn power_cycle(&self, name: &str) -> Result<(), Failure> {
        let no_answer = Failure::NoAdapter(NoAdapter::NoAnswer);
        let session = within(CALL_TIMEOUT, Session::new()).await?;
        let adapter = within(CALL_TIMEOUT, async { session.adapter(name) }).await?;
        let cycling = self.cycling.clone().lock_owned().await;
        let permit = self.radio.power_cycle(name).await;
        let objects = timeout(CALL_TIMEOUT, Objects::ask_once()).await.map_err(|_elapsed| no_answer)?;
        let links = objects.map_err(|_| no_answer)?.links(name);
        if !self.radio.pool().take_power_cycle(name, links, boottime()) {
            return Ok(());
        }
        info!(adapter = name, "power-cycling the Bluetooth adapter, over which nobody has a link");
        // Not to be left between the two, whoever is told to stop meanwhile.
        let cycle = tokio::spawn(async move {
            let _held = (cycling, permit);
            let off = within(CALL_TIMEOUT, adapter.set_powered(false)).await;
            sleep(Duration::from_secs(1)).await;
            off.and(within(CALL_TIMEOUT, adapter.set_powered(true)).await)
        });
        cycle.await.unwrap_or(Err(Failure::Other))
    }

    /// Returns when no adapter is off to be switched on again.
    pub(super) async fn settled(&self) {
        drop(self.cycling.lock().await);
    }
}

/// The adapters to scan on. One that is off is switched on where it was asked for, or where no other is on.
fn to_scan(objects: &Objects, choices: &[Vec<AdapterChoice>]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for chosen in choices {
        let with = |power| objects.chosen(chosen).filter(move |adapter| adapter.power == power);
        let is_any_on = with(Power::On).next().is_some();
        names.extend(with(Power::On).map(|adapter| adapter.name.clone()));
        if !is_any_on || !chosen.is_empty() {
            names.extend(with(Power::Off).map(|adapter| adapter.name.clone()));
        }
    }
    names
}

type Heard = Pin<Box<dyn Stream<Item = AdapterEvent> + Send>>;

/// Begins discovery of Low Energy devices, of `each` advertisement or of those that are new. After a time-out bluetoothd refuses this D-Bus connection any
/// other discovery: it is of no more use.
async fn start(adapter: &Adapter, each: bool) -> Result<Heard, Failure> {
    let begin = async {
        adapter.set_discovery_filter(filter(each)).await?;
        Ok(Box::pin(adapter.discover_devices().await?) as Heard)
    };
    within(DISCOVERY_TIMEOUT, begin).await
}

/// Ends discovery. One begun while bluetoothd still ends it would hear nothing, so this waits.
async fn stop(adapter: &Adapter, heard: Heard) {
    drop(heard);
    // bluer ends it in the background; setting a filter waits for that, and asks bluetoothd nothing.
    _ = timeout(DISCOVERY_TIMEOUT, adapter.set_discovery_filter(filter(false))).await;
}

/// Takes everything, and is a filter to bluetoothd all the same, on each controller and since version 5.67 too:
/// without one it leaves out devices that are not discoverable, and rests for 5 s of each 15.
fn filter(each: bool) -> DiscoveryFilter {
    DiscoveryFilter {
        rssi: Some(RSSI_MIN_DBM),
        transport: DiscoveryTransport::Le,
        duplicate_data: each,
        ..DiscoveryFilter::default()
    }
}
