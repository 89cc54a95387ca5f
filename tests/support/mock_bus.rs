//! A private system bus with the mock org.bluez of `tests/bluez/` on it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::{in_tree, wait_for};

pub struct MockBus {
    folder: tempfile::TempDir,
    bus: Child,
    mock: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The Python with dbus-fast and moto that `packaging/test.sh` makes.
pub fn python() -> PathBuf {
    let python = in_tree("target/test-venv/bin/python");
    assert!(python.exists(), "run `packaging/test.sh`: it makes {}", python.display());
    python
}

impl MockBus {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus.sock");
        let template = std::fs::read_to_string(in_tree("tests/bluez/bus.conf")).unwrap();
        let config = folder.path().join("bus.conf");
        std::fs::write(&config, template.replace("BUS_SOCKET", socket.to_str().unwrap())).unwrap();
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile"])
            .spawn()
            .expect("dbus-daemon is installed (packaging/test.sh does it)");
        wait_for("the bus", Duration::from_secs(10), || socket.exists().then_some(()));
        let mut mock = Command::new(python())
            .arg("-B")
            .arg(in_tree("tests/bluez/mock_bluez.py"))
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", socket.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = mock.stdin.take().unwrap();
        let answers = BufReader::new(mock.stdout.take().unwrap());
        let mut bus = Self { folder, bus, mock, commands, answers };
        assert_eq!(bus.answer(), "ready");
        bus
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.folder.path().join("bus.sock").display())
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a command (see `tests/bluez/README.md`); returns what follows `ok`.
    #[track_caller]
    pub fn tell(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").unwrap();
        let answer = self.answer();
        let rest = answer.strip_prefix("ok").unwrap_or_else(|| panic!("`{command}` was answered `{answer}`"));
        rest.trim().to_owned()
    }

    /// Sends one notification; returns how many values went over the bus.
    pub fn notify(&mut self, address: &str, payload: &[u8]) -> usize {
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
        self.tell(&format!("notify {address} {hex}")).parse().unwrap()
    }

    /// Sends many.
    pub fn notify_all(&mut self, address: &str, payloads: &[Vec<u8>]) {
        for chunk in payloads.chunks(200) {
            let hex = chunk.iter().map(|payload| payload.iter().map(|byte| format!("{byte:02x}")).collect());
            let hex: Vec<String> = hex.collect();
            let sent: usize = self.tell(&format!("notify {address} {}", hex.join(" "))).parse().unwrap();
            assert_eq!(sent, chunk.len(), "each value goes over the bus once");
        }
    }

    /// `STOP` freezes the bus, `CONT` lets it go on.
    pub fn signal_bus(&self, name: &str) {
        signal(&self.bus, name);
    }

    /// The same for bluetoothd and timedated.
    pub fn signal_bluetoothd(&self, name: &str) {
        signal(&self.mock, name);
    }

    pub fn stats(&mut self, address: &str) -> serde_json::Value {
        serde_json::from_str(&self.tell(&format!("stats {address}"))).unwrap()
    }

    /// Waits until the link stands with exactly one notify session, and has for a while: the mock knows
    /// of one that the daemon has given up too.
    #[track_caller]
    pub fn wait_subscribed(&mut self, address: &str) {
        const LOOKS: u32 = 15;
        let mut steady = 0;
        wait_for("a subscription", Duration::from_secs(60), || {
            let stats = self.stats(address);
            let on = stats["connected"] == true && stats["notify_sessions"] == 1;
            steady = if on { steady + 1 } else { 0 };
            (steady == LOOKS).then_some(())
        });
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(status.unwrap().success());
}

impl Drop for MockBus {
    fn drop(&mut self) {
        for child in [&mut self.mock, &mut self.bus] {
            _ = child.kill();
            _ = child.wait();
        }
    }
}
