//! `hr-gatewayd run`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Failure, chain, layers};
use crate::ble::bluez::{BluezSource, Wanted};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, DEFAULT_PATH, QueueConfig};
use crate::control;
use crate::drainer::RecordSink;
use crate::drainer::directory::DirectorySink;
use crate::drainer::kinesis::{Keys, KinesisSink};
use crate::gateway::{self, Gateway};
use crate::queue::ReadingQueue;
use crate::queue::capacity::Capacity;
use crate::queue::durable::{DurableQueue, Opened};
use crate::queue::handle::Handle;
use crate::queue::rescued::Rescuer;
use crate::queue::segment::SegmentCodec;
use crate::queue::witness::{Finding, WentBack};
use crate::reading::GatewayId;
use crate::service_manager;

/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration again: sensors come and go without
/// touching the others; any other change restarts the gateway within the process.
pub async fn run(config_path: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let mut config = layers(config_path.clone())?.config()?;
    crate::telemetry::init(&config.log.level)?;
    let ended = async {
        let mut signals = Signals { interrupts: Interrupts::new()?, hangup: signal(SignalKind::hangup())? };
        while let Some(next) = serve(config, config_path.clone(), &mut signals).await? {
            info!("configuration changed; the gateway begins anew with it");
            crate::telemetry::set_filter(&next.log.level)?;
            config = next;
        }
        Ok::<_, Failure>(ExitCode::SUCCESS)
    }
    .await;
    // Said in the log, with its fields, and not once more on stderr, which is the same journal.
    ended.or_else(|failure: Failure| {
        error!(exit_code = failure.exit_code, "{}; what was accepted is kept", chain(&*failure.error));
        Ok(ExitCode::from(failure.exit_code))
    })
}

struct Signals {
    interrupts: Interrupts,
    hangup: Signal,
}

/// One life of the gateway: ends with the next configuration, or with `None` when asked to stop.
async fn serve(
    config: Config,
    config_path: Option<PathBuf>,
    signals: &mut Signals,
) -> Result<Option<Config>, Failure> {
    let (queue, queue_went_back) = open_soon(&config).await?;
    let clock = SystemClock::new(config.clock.synchronization)?;
    let wanted = Wanted { sensors: config.sensor.clone(), bluetooth: config.bluetooth.clone() };
    let (wanted, wanted_seen) = watch::channel(wanted);
    let (states, states_seen) = watch::channel(Default::default());
    let rounds = Arc::new(AtomicU64::new(0));
    let sink = sink(&config).await;
    let file = config_path.clone().unwrap_or_else(|| DEFAULT_PATH.into());
    if sink.is_none() {
        warn!("nothing to drain to: {}", gateway::what_to_write(&file));
    }
    let envelope = queue.envelope().await;
    let origin = envelope.origins.newest();
    info!(
        gateway = %origin.gateway, epoch = %origin.epoch, sensors = config.sensor.len(),
        queued = queue.depth(), "gateway running"
    );
    let gateway = Gateway {
        queue,
        sink,
        source: Box::new(BluezSource {
            wanted: wanted_seen,
            clock: clock.clone(),
            name_secret: machine_id().into_bytes(),
            states,
            rounds: rounds.clone(),
            discover_fails: false,
        }),
        clock,
        queue_went_back,
        control: Some((control::socket_path(&config.queue.path), rescuer(&config)?)),
        states: states_seen,
        source_rounds: Some(rounds),
        config_path: file,
        config: config.clone(),
    };
    let stop = CancellationToken::new();
    let running = gateway.run(stop.clone());
    tokio::pin!(running);
    let mut next = None;
    loop {
        tokio::select! {
            result = &mut running => {
                result?;
                return Ok(next);
            }
            () = signals.interrupts.next(), if !stop.is_cancelled() => {
                service_manager::stopping();
                stop.cancel();
            }
            _ = signals.hangup.recv(), if !stop.is_cancelled() => match reload(config_path.clone(), &config) {
                Err(error) => error!(error_class = "config", "{error}; the configuration stays as it was"),
                Ok(Reload::Sensors(new)) => {
                    info!("configuration read again");
                    wanted.send_replace(new);
                }
                Ok(Reload::Everything(config)) => {
                    next = Some(*config);
                    stop.cancel();
                }
            },
        }
    }
}

enum Reload {
    Sensors(Wanted),
    Everything(Box<Config>),
}

fn reload(config_path: Option<PathBuf>, old: &Config) -> Result<Reload, ConfigError> {
    let new = layers(config_path)?.config()?;
    let comparable = Config { sensor: old.sensor.clone(), bluetooth: old.bluetooth.clone(), ..new.clone() };
    Ok(match comparable == *old {
        true => Reload::Sensors(Wanted { sensors: new.sensor, bluetooth: new.bluetooth }),
        false => Reload::Everything(Box::new(new)),
    })
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

/// [`open`], patient with a gateway of this process that has just ended: a request or a look at the
/// clock may still hold its store for a moment.
async fn open_soon(config: &Config) -> Result<(Handle, bool), Failure> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut tries = 0;
    loop {
        match open(config) {
            Err(failure) if tries < TRIES && failure.is_queue_in_use() => tries += 1,
            opened => {
                let (queue, went_back) = opened?;
                return Ok((Handle::spawn(queue)?, went_back));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Opens the configured queue, and says what was found wrong with it; returns also whether it went back.
fn open(config: &Config) -> Result<(Box<dyn ReadingQueue>, bool), Failure> {
    let codec = codec(&config.queue)?;
    let capacity = Capacity::from_config(&config.queue);
    let opened = DurableQueue::open(&config.queue.path, capacity, codec, &gateway_id(config)?)?;
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
    Ok((Box::new(opened.queue), matches!(opened.finding, Finding::WentBack(_))))
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
        Finding::WentBack(back) => Some(went_back(&back)),
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

fn went_back(back: &WentBack) -> String {
    let WentBack { first, last, first_missing } = *back;
    let lost = match back.missing() {
        0 => "all of them had left the queue, so nothing is missing".to_owned(),
        count => format!(
            "up to {count} of them ({first_missing} to {last}) had not left the queue and are missing"
        ),
    };
    let which = match first > last {
        true => "what left the queue since then is in it again, and will be sent again".to_owned(),
        false => format!("sequences {first} to {last} were taken in once and are not in it; {lost}"),
    };
    format!(
        "the queue went back in time (a backup or disk image put in its place, or damage): {which}. New readings go on \
         after them under a new epoch: no id is given twice"
    )
}

/// Reads damaged stores of the configured gateway.
pub(super) fn rescuer(config: &Config) -> Result<Rescuer, Failure> {
    Ok(Rescuer { codec: codec(&config.queue)?, gateway: gateway_id(config)? })
}

pub(super) fn codec(config: &QueueConfig) -> Result<SegmentCodec, ConfigError> {
    let Some(path) = &config.encryption_key_file else { return Ok(SegmentCodec::default()) };
    let fail = |what: String| ConfigError(format!("`queue.encryption_key_file`: {}: {what}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let key =
        key_from(&bytes).ok_or_else(|| fail("allowed are 32 bytes, or 64 hexadecimal digits".into()))?;
    Ok(SegmentCodec::encrypted(&key))
}

fn key_from(bytes: &[u8]) -> Option<[u8; 32]> {
    if let Ok(raw) = bytes.try_into() {
        return Some(raw);
    }
    let text = str::from_utf8(bytes).ok()?.trim();
    let mut key = [0; 32];
    if text.len() != 2 * key.len() || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(key)
}

async fn sink(config: &Config) -> Option<Arc<dyn RecordSink>> {
    if let Some(stream) = &config.kinesis.stream {
        let timeout = config.drain.request_timeout.0;
        let sink = KinesisSink::new(stream, &config.kinesis, timeout, Keys::DefaultChain).await;
        return Some(Arc::new(sink));
    }
    let path = config.directory.path.clone()?;
    Some(Arc::new(DirectorySink::new(path, config.directory.file_size_max.0)))
}

/// The configured name, or one that this machine keeps.
pub(super) fn gateway_id(config: &Config) -> Result<GatewayId, Failure> {
    use sha2::{Digest, Sha256};
    if let Some(id) = &config.gateway.id {
        return Ok(id.clone());
    }
    // machine-id(5) asks that the id itself is not given away.
    let hash = Sha256::new().chain_update(b"hr-gatewayd").chain_update(machine_id()).finalize();
    let hex: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("gateway-{hex}").parse()?)
}

fn machine_id() -> String {
    std::fs::read_to_string(Path::new("/etc/machine-id")).unwrap_or_default().trim().to_owned()
}
