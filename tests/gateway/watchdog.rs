//! What feeds systemd's watchdog, and what does not.

use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, configure};
use crate::support::fake_kinesis::{FakeKinesis, Options};
use crate::support::mock_bus::MockBus;
use crate::support::systemd::Systemd;
use crate::support::{measurement, wait_for};

const WATCH: &str = "C0:FF:EE:00:00:01";
const WATCHDOG: Duration = Duration::from_secs(12);
/// By then systemd would have acted.
const LONG_ENOUGH: Duration = Duration::from_secs(16);
/// Two beats of the heart.
const BEATS: Duration = Duration::from_secs(4);

struct Set {
    bus: MockBus,
    kinesis: FakeKinesis,
    folder: tempfile::TempDir,
    systemd: Systemd,
}

impl Set {
    fn new() -> Self {
        let mut bus = MockBus::start();
        bus.tell(&format!("sensor {WATCH} Forerunner_255"));
        let kinesis = FakeKinesis::start(Options::default());
        let folder = tempfile::tempdir().unwrap();
        configure(folder.path(), &config(&kinesis));
        let systemd = Systemd::listen(folder.path());
        Self { bus, kinesis, folder, systemd }
    }

    fn start(&self) -> Daemon {
        start(&self.folder, &self.bus.address(), &self.systemd)
    }
}

fn config(kinesis: &FakeKinesis) -> String {
    let endpoint = kinesis.endpoint();
    format!(
        "[[sensor]]\nid = \"watch\"\naddress = \"{WATCH}\"\n[gateway]\nid = \"g\"\n\
         [kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}\n"
    )
}

fn start(folder: &tempfile::TempDir, bus: &str, systemd: &Systemd) -> Daemon {
    Daemon::start_with(folder.path(), bus, |command| systemd.watch(command, WATCHDOG))
}

/// Freezes what answers the source, and lets it go on after systemd would long have acted.
fn freeze_and_thaw(signal: fn(&MockBus, &str), who: &str) {
    let mut set = Set::new();
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(70).encode()), 1);
    daemon.wait_delivered(1);
    wait_for("food", WATCHDOG, || (!set.systemd.told("WATCHDOG=1").is_empty()).then_some(()));
    signal(&set.bus, "STOP");
    daemon.wait_log("standing still: source");
    let still_at = Instant::now();
    std::thread::sleep(BEATS);
    assert!(set.systemd.fed_since(still_at).is_empty(), "fed all the same; log:\n{}", daemon.log());
    daemon.wait_log(&format!("{who} does not answer"));
    assert!(!set.systemd.told(&format!("STATUS={who} does not answer")).is_empty());
    let thawed_at = Instant::now();
    signal(&set.bus, "CONT");
    wait_for("food", Duration::from_secs(30), || {
        (!set.systemd.fed_since(thawed_at).is_empty()).then_some(())
    });
    daemon.wait_log(&format!("{who} answers again"));
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(71).encode()), 1);
    daemon.wait_delivered(2);
    daemon.stop();
}

#[test]
fn a_bus_that_is_frozen_starves_the_watchdog() {
    freeze_and_thaw(MockBus::signal_bus, "D-Bus");
}

#[test]
fn a_bluetoothd_that_is_frozen_starves_the_watchdog() {
    freeze_and_thaw(MockBus::signal_bluetoothd, "bluetoothd");
}

#[track_caller]
fn assert_fed(systemd: &Systemd, since: Instant, daemon: &Daemon) {
    let mut moments = vec![since];
    moments.extend(systemd.fed_since(since));
    moments.push(Instant::now());
    let longest = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < WATCHDOG, "hungry for {longest:?}; log:\n{}", daemon.log());
}

/// Starting again has not helped: what is queued is not to suffer for it.
#[test]
fn a_daemon_started_while_the_bus_is_frozen_says_so_and_drains_its_queue_in_peace() {
    let mut set = Set::new();
    set.kinesis.set_down(true);
    let daemon = set.start();
    set.bus.wait_subscribed(WATCH);
    (0..5).for_each(|n| _ = set.bus.notify(WATCH, &measurement(80 + n).encode()));
    wait_for("five queued", Duration::from_secs(20), || {
        (daemon.status()["totals"]["queued"] == 5).then_some(())
    });
    daemon.kill();
    set.bus.signal_bus("STOP");
    let started_at = Instant::now();
    let daemon = set.start();
    std::thread::sleep(LONG_ENOUGH / 2);
    set.kinesis.set_down(false);
    daemon.wait_delivered(5);
    std::thread::sleep(LONG_ENOUGH.saturating_sub(started_at.elapsed()));
    assert_fed(&set.systemd, started_at, &daemon);
    daemon.wait_log("D-Bus has not answered since the start");
    daemon.stop();
    set.bus.signal_bus("CONT");
}

#[test]
fn an_idle_gateway_is_fed_without_an_adapter_and_without_a_bus() {
    let mut set = Set::new();
    set.bus.tell("adapter hci0 remove");
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), &config(&set.kinesis));
    let systemd = Systemd::listen(folder.path());
    let since = Instant::now();
    let no_bus = start(&folder, "unix:path=/nonexistent/bus", &systemd);
    let no_adapter = set.start();
    std::thread::sleep(LONG_ENOUGH);
    assert_fed(&systemd, since, &no_bus);
    assert_fed(&set.systemd, since, &no_adapter);
    assert!(!no_bus.log().contains("does not answer"), "{}", no_bus.log());
    no_bus.stop();
    no_adapter.stop();
}

/// A systemd whose socket is full takes nothing more, and must not be waited for.
#[test]
fn a_systemd_that_does_not_listen_holds_nothing_up() {
    let mut set = Set::new();
    let deaf = set.folder.path().join("deaf");
    let socket = std::os::unix::net::UnixDatagram::bind(&deaf).unwrap();
    let filler = std::os::unix::net::UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"x", &deaf).is_ok() {}
    let daemon = Daemon::start_with(set.folder.path(), &set.bus.address(), |command| {
        command.env("NOTIFY_SOCKET", &deaf).env("WATCHDOG_USEC", "12000000");
    });
    set.bus.wait_subscribed(WATCH);
    assert_eq!(set.bus.notify(WATCH, &measurement(70).encode()), 1);
    daemon.wait_delivered(1);
    daemon.stop();
    drop(socket);
}
