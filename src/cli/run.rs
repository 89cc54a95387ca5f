//! `hr-gatewayd run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::reload::{self, Prepared, Reload};
use super::{EXIT_CONFIG, Failure, chain, layers};
use crate::ble::SourceView;
use crate::ble::bluez::{BluezSource, Wanted};
use crate::ble::registry::Registry;
use crate::blocking;
use crate::clock::{SystemClock, boottime};
use crate::config::{Config, DEFAULT_PATH, Validated, machine_id};
use crate::drainer::RecordSink;
use crate::drainer::copy::{Copier, copied};
use crate::drainer::directory::DirectorySink;
use crate::drainer::kinesis::{Keys, KinesisSink};
use crate::gateway::{self, Gateway, LINKS_DEADLINE, Source, Stops};
use crate::live::Live;
use crate::queue::capacity::Capacity;
use crate::queue::durable::{DurableQueue, Opened};
use crate::queue::handle::Handle;
use crate::queue::rescued::Rescuer;
use crate::queue::witness::{Finding, WentBack};
use crate::queue::{QueueError, ReadingQueue};
use crate::reading::Moment;
use crate::telemetry::{self, Filter};
use crate::{control, service_manager};

/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again: sensors come and go without
/// touching the others; any other change has the gateway begin anew within the process, its links and its
/// queue kept.
pub async fn run(config_path: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let first = match layers(config_path.clone()).and_then(|layers| layers.config()) {
        Ok(first) => first,
        Err(error) => {
            telemetry::init(&Filter::default())?;
            for mistake in error.mistakes() {
                error!(error_class = "config", "{mistake}; the gateway does not start until it is mended");
            }
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    telemetry::init(first.filter())?;
    first.warnings().iter().for_each(|warning| warn!("{warning}"));
    // Said in the log, with its fields, and not once more on stderr, which is the same journal.
    live(first, config_path).await.or_else(|failure| {
        error!(exit_code = failure.exit_code, "{}; what was accepted is kept", chain(&*failure.error));
        Ok(ExitCode::from(failure.exit_code))
    })
}

/// What a gateway lives on until it begins anew with another configuration.
pub(super) struct Life {
    pub(super) validated: Validated,
    pub(super) open: Open,
    pub(super) clock: SystemClock,
}

/// The links, and what they obey.
struct Sensors {
    source: Source,
    wanted: watch::Sender<Wanted>,
    registry: Registry,
    /// Told of what they send, through every life of the gateway.
    live: Live,
}

struct Signals {
    interrupts: Interrupts,
    hangup: Signal,
    /// When the process began, since boot.
    started: Duration,
    /// When the process was asked to end, if it was: one deadline for all that follows.
    asked_to_end_at: Option<Instant>,
}

async fn live(first: Validated, config_path: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let (interrupts, hangup) = (Interrupts::new()?, signal(SignalKind::hangup())?);
    let mut signals = Signals { interrupts, hangup, started: boottime(), asked_to_end_at: None };
    let clock = SystemClock::new(first.config().clock.synchronization)?;
    let open = open_soon(&first).await?;
    clock.resume(open.queue.ledger().await.rows.values().filter_map(|row| row.last.map(Moment::from)));
    let mut life = Life { validated: first, open, clock };
    let registry = Registry::open(&life.validated.config().queue.path);
    let mut sensors = Sensors::start(&life, registry);
    loop {
        let ended = serve(&mut life, &mut sensors, config_path.clone(), &mut signals).await;
        let goes_on = signals.asked_to_end_at.is_none() || sensors.source.is_running();
        let next = match ended {
            Ok(Some(next)) if goes_on => next,
            ended => {
                // Does nothing where the gateway has done it.
                let stopped = sensors.source.stop(Instant::now() + LINKS_DEADLINE).await;
                ended?;
                stopped?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let other_clock = next.has_other_clock();
        life = next.take_over(life).await;
        sensors.registry.move_to(&life.validated.config().queue.path);
        match other_clock {
            true => sensors = Sensors::start(&life, sensors.registry),
            false => want(&sensors.wanted, reload::wanted(life.validated.config())),
        }
    }
}

impl Signals {
    fn end(&mut self, stops: &Stops) {
        service_manager::stopping();
        self.asked_to_end_at = Some(Instant::now());
        stops.whole.cancel();
    }
}

impl Sensors {
    fn start(life: &Life, registry: Registry) -> Self {
        let (wanted, wanted_seen) = watch::channel(reload::wanted(life.validated.config()));
        let (states, states_seen) = watch::channel(Default::default());
        let view = Arc::new(SourceView::default());
        let source = BluezSource {
            wanted: wanted_seen,
            clock: life.clock.clone(),
            name_secret: machine_id().into_bytes(),
            registry: registry.clone(),
            states,
            view: view.clone(),
            discover_fails: false,
        };
        let source = Source::start(Box::new(source), states_seen, Some(view));
        Self { source, wanted, registry, live: Live::new() }
    }
}

fn want(wanted: &watch::Sender<Wanted>, new: Wanted) {
    wanted.send_if_modified(|now| {
        let changed = *now != new;
        *now = new;
        changed
    });
}

/// Runs the gateway until it is to begin anew, or until it was asked to stop (`None`).
async fn serve(
    life: &mut Life,
    sensors: &mut Sensors,
    config_path: Option<PathBuf>,
    signals: &mut Signals,
) -> Result<Option<Box<Prepared>>, Failure> {
    let Sensors { source, wanted, registry, live } = sensors;
    let gateway = gateway(life, registry, live, signals.started, &config_path).await;
    let stops = Stops { asked_at: signals.asked_to_end_at, ..Stops::default() };
    if stops.asked_at.is_some() {
        // Begun for what was on its way when the one before it had left.
        stops.whole.cancel();
    }
    let running = gateway.run(source, stops.clone());
    tokio::pin!(running);
    let mut next = None;
    loop {
        tokio::select! {
            result = &mut running => {
                result?;
                return Ok(next);
            }
            () = signals.interrupts.next(), if signals.asked_to_end_at.is_none() => signals.end(&stops),
            // While it is about to begin anew, this one waits for the next life.
            _ = signals.hangup.recv(), if !stops.are_asked() => {
                let prepared = tokio::select! {
                    prepared = reload::prepare(config_path.clone(), life) => prepared,
                    () = signals.interrupts.next() => {
                        signals.end(&stops);
                        continue;
                    }
                };
                match prepared {
                    Err(reasons) => reasons.iter().for_each(|reason| {
                        error!(error_class = "config", "{reason}; the configuration stays as it was");
                    }),
                    Ok(Reload::Beside(new)) => {
                        telemetry::set_filter(new.filter());
                        info!("configuration read again");
                        want(wanted, reload::wanted(new.config()));
                        life.validated = *new;
                    }
                    Ok(Reload::Anew(prepared)) => {
                        let stop = if prepared.has_other_clock() { &stops.whole } else { &stops.anew };
                        stop.cancel();
                        next = Some(prepared);
                    }
                }
            }
        }
    }
}

async fn gateway(
    life: &Life,
    registry: &Registry,
    live: &Live,
    started: Duration,
    config_path: &Option<PathBuf>,
) -> Gateway {
    let config = life.validated.config();
    let Open { queue, went_back } = &life.open;
    let envelope = queue.envelope().await;
    let origin = envelope.origins.newest();
    let rescuer = Rescuer { codec: life.validated.codec(), gateway: life.validated.gateway_id() };
    let (sink, copier) = sink(config).await;
    let file = config_path.clone().unwrap_or_else(|| DEFAULT_PATH.into());
    if sink.is_none() {
        warn!("nothing to drain to: {}", gateway::what_to_write(&file));
    }
    info!(
        gateway = %origin.gateway, epoch = %origin.epoch, sensors = config.sensor.len(),
        queued = queue.depth(), "gateway running"
    );
    Gateway {
        queue: queue.clone(),
        queue_went_back: *went_back,
        sink,
        copier,
        clock: life.clock.clone(),
        live: live.clone(),
        started,
        control: Some((control::socket_path(&config.queue.path), rescuer, registry.clone())),
        page: life.validated.page(),
        config_path: file,
        config: config.clone(),
    }
}

/// SIGTERM and SIGINT, listened to from its creation on.
pub(super) struct Interrupts {
    term: Signal,
    int: Signal,
}

impl Interrupts {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for either.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// A queue that is open.
pub(super) struct Open {
    pub(super) queue: Handle,
    /// Whether readings were found missing when it was opened.
    pub(super) went_back: bool,
}

/// [`open`], patient with one of this process that is just being closed.
pub(super) async fn open_soon(validated: &Validated) -> Result<Open, QueueError> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut tries = 0;
    loop {
        let validated = validated.clone();
        match blocking::run(move || open(&validated)).await {
            Err(QueueError::InUse(_)) if tries < TRIES => tries += 1,
            result => return result,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens the configured queue, and says what was found wrong with it.
fn open(validated: &Validated) -> Result<Open, QueueError> {
    let config = &validated.config().queue;
    let capacity = Capacity::from_config(config);
    let opened = DurableQueue::open(&config.path, capacity, validated.codec(), &validated.gateway_id())?;
    if opened.reserve_given_up {
        error!(
            error_class = "full",
            "the disk is full: the space that the queue had kept back was given up, so that what is queued can be sent; \
             new readings are not taken, and counted, until there is room; make room"
        );
    }
    if let Some(finding) = findings(&opened) {
        let missing = opened.queue.missing().count();
        match opened.finding {
            Finding::OldWitness => warn!(error_class = "storage", "{finding}"),
            _ => error!(error_class = "storage", missing, "{finding}"),
        }
    }
    if opened.witness_inside_only {
        warn!(
            "the queue's witness has no place beside it: an older copy of the queue that is put back will not be noticed; \
             make the folder above writable"
        );
    }
    let went_back = opened.set_aside.is_some() || !opened.missing.is_empty();
    let queue = Handle::spawn(Box::new(opened.queue))
        .map_err(|error| QueueError::Storage { operation: "begin its thread", source: error.into() })?;
    Ok(Open { queue, went_back })
}

/// What was found wrong with a queue, in a sentence, if something was.
pub(super) fn findings(opened: &Opened) -> Option<String> {
    let missing = opened.queue.missing().count();
    if let Some(aside) = &opened.set_aside {
        let (readable, aside) = (aside.readable, aside.path.display());
        return Some(format!(
            "the queue's store was damaged: it was set aside as {aside} and a new one begun, with new ids; of {missing} \
             readings and gap records that are missing, {readable} can be read there: `hr-gatewayd queue recover` takes \
             them back under their old ids"
        ));
    }
    match opened.finding {
        Finding::Sound => None,
        Finding::WentBack(back) => Some(went_back(&back, opened.missing.count())),
        Finding::NoWitness => Some(
            "the queue's witness is missing, damaged or of another history: whether readings were lost before this \
             start cannot be told; no id is given twice, and a new witness was begun"
                .into(),
        ),
        Finding::OldWitness => Some(
            "the queue's witness is older than the queue, as if it had been put back from a backup: nothing is known to \
             be lost, and no id is given twice"
                .into(),
        ),
    }
}

fn went_back(back: &WentBack, missing: u64) -> String {
    let WentBack { first, last, .. } = *back;
    let lost = match missing {
        0 => "all of them had left the queue, so nothing is missing".to_owned(),
        count => format!(
            "up to {count} readings and gap records had not left the queue, or were dead letters, and are missing \
             (`hr-gatewayd queue status` lists them)"
        ),
    };
    let which = match (first > last, missing) {
        (true, 0) => "what left the queue since then is in it again, and will be sent again".to_owned(),
        (true, _) => format!("what left the queue since then is in it again; {lost}"),
        (false, _) => format!("sequences {first} to {last} were taken in once and are not in it; {lost}"),
    };
    format!(
        "the queue went back in time (a backup or disk image put in its place, or damage): {which}. New readings go on \
         after them under a new epoch: no id is given twice"
    )
}

async fn sink(config: &Config) -> (Option<Arc<dyn RecordSink>>, Option<Copier>) {
    let directory = config.directory.path.clone();
    let directory = directory.map(|path| DirectorySink::new(path, config.directory.file_size_max.0));
    let directory = directory.map(|sink| Arc::new(sink) as Arc<dyn RecordSink>);
    let Some(stream) = &config.kinesis.stream else { return (directory, None) };
    let timeout = config.drain.request_timeout.0;
    let kinesis = KinesisSink::new(stream, &config.kinesis, timeout, Keys::DefaultChain).await;
    let kinesis: Arc<dyn RecordSink> = Arc::new(kinesis);
    match directory {
        Some(directory) => {
            let (sink, copier) = copied(kinesis, directory);
            (Some(Arc::new(sink)), Some(copier))
        }
        None => (Some(kinesis), None),
    }
}
