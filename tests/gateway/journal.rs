//! A journald that stands still holds up nothing but the log.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, command, configure};
use crate::support::fake_kinesis::{FakeKinesis, Options};
use crate::support::mock_bus::MockBus;
use crate::support::{measurement, wait_for};

const WATCH: &str = "C0:FF:EE:00:00:01";
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine whose journald is the socket in `$JOURNAL`; then what stands in `"$@"`.
const OTHER_JOURNAL: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
mount --bind "$JOURNAL" /run/systemd/journal
exec "$@"
"#;

/// A journald.
struct Journal {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Journal {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        Self { folder, socket }
    }

    /// Takes nothing more from anybody.
    fn freeze(&self) {
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"", self.folder.path().join("socket")).is_ok() {}
    }

    /// Reads until nothing comes for a while: the fields of each line.
    fn read(&self) -> Vec<BTreeMap<String, String>> {
        let mut bytes = vec![0; 64 << 10];
        let mut lines = Vec::new();
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let line = fields(&bytes[..length]);
            if line.contains_key("MESSAGE") {
                lines.push(line);
            }
        }
        lines
    }

    fn start(&self, folder: &std::path::Path, bus: &str) -> Daemon {
        let usual = command(folder, bus);
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        unshare.args(["--mount", "sh", "-c", OTHER_JOURNAL, "sh"]).arg(usual.get_program());
        for (name, value) in usual.get_envs() {
            match value {
                Some(value) => unshare.env(name, value),
                None => unshare.env_remove(name),
            };
        }
        unshare.env("JOURNAL", self.folder.path()).env("JOURNAL_STREAM", "1:2").stdin(Stdio::null());
        Daemon::start_as(unshare, folder, bus)
    }
}

/// What a datagram of the journal's protocol says.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = str::from_utf8(&bytes[..end]).unwrap();
        bytes = &bytes[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some(field) => field,
            None => {
                let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
                let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
                bytes = rest.strip_prefix(b"\n").unwrap();
                (line, str::from_utf8(value).unwrap())
            }
        };
        fields.insert(name.to_owned(), value.to_owned());
    }
    fields
}

#[test]
fn a_journald_that_is_frozen_holds_up_no_reading_no_start_and_no_stop_and_hears_what_it_missed() {
    let journal = Journal::new();
    let mut bus = MockBus::start();
    bus.tell(&format!("sensor {WATCH} Forerunner"));
    let kinesis = FakeKinesis::start(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let endpoint = kinesis.endpoint();
    let config = format!(
        "[[sensor]]\nid = \"a\"\naddress = \"{WATCH}\"\n[kinesis]\nstream = \"s\"\nendpoint = {endpoint:?}\n"
    );
    configure(folder.path(), &config);
    journal.freeze();
    let daemon = journal.start(folder.path(), &bus.address());
    bus.wait_subscribed(WATCH);
    assert_eq!(bus.notify(WATCH, &measurement(70).encode()), 1);
    daemon.wait_delivered(1);
    // One line for each mistake: more than are kept.
    let mistakes: String = (0..1_200).map(|n| format!("mistake_{n} = 1\n")).collect();
    std::fs::write(folder.path().join("config.toml"), format!("{mistakes}{config}")).unwrap();
    daemon.signal("HUP");
    for delivered in 2..=5 {
        assert_eq!(bus.notify(WATCH, &measurement(70).encode()), 1);
        wait_for("its delivery", PATIENCE, || {
            let is_reading = |line: &&String| line.contains("heart_rate");
            kinesis.seen(|seen| seen.lines.iter().filter(is_reading).count() == delivered).then_some(())
        });
    }
    let mut lines = Vec::new();
    wait_for("the journal to hear of what it missed", PATIENCE, || {
        lines.extend(journal.read());
        lines.iter().any(|line| line["MESSAGE"].contains("lines of this log were not written")).then_some(())
    });
    let session = lines.iter().find(|line| line["MESSAGE"] == "session begins").unwrap();
    let told = ["SENSOR", "SESSION", "PRIORITY", "SYSLOG_IDENTIFIER", "TARGET"].map(|name| &*session[name]);
    assert_eq!(told, ["a", "1", "6", "hr-gatewayd", "hr_gateway::ingest"]);
    let mistakes = lines.iter().filter(|line| line["MESSAGE"].contains("mistake_")).count() as u64;
    let missed = lines.iter().find_map(|line| line.get("UNWRITTEN")).unwrap().parse::<u64>().unwrap();
    assert!(missed > 0 && mistakes + missed >= 1_200, "{mistakes} + {missed}");

    journal.freeze();
    let asked_at = Instant::now();
    daemon.stop();
    assert!(asked_at.elapsed() < Duration::from_secs(8), "{:?}", asked_at.elapsed());
}

#[test]
fn the_last_lines_are_in_the_journal_when_the_process_has_ended() {
    let journal = Journal::new();
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), "[log]\nlevle = 1\n");
    let mut daemon = journal.start(folder.path(), "unix:path=/nonexistent");
    assert_eq!(daemon.wait().code(), Some(78));
    let lines = journal.read();
    assert!(
        lines.iter().any(|line| line.get("MESSAGE").is_some_and(|said| said.contains("levle"))),
        "{lines:?}"
    );
}
