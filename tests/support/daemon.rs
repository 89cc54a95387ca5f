//! The real binary, run as an operator would, with a configuration of the test's.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::wait_for;

pub struct Daemon {
    child: Child,
    folder: PathBuf,
    bus: String,
}

const BINARY: &str = env!("CARGO_BIN_EXE_hr-gatewayd");

/// The binary with credentials that no server checks, and nothing of this machine's AWS set-up.
pub fn command(folder: &Path, bus: &str) -> Command {
    furnished(Command::new(BINARY), folder, bus)
}

/// The same, started by somebody who leaves all that is made open to everybody.
pub fn careless_command(folder: &Path, bus: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 0; exec \"$0\" \"$@\"", BINARY]);
    furnished(shell, folder, bus)
}

fn furnished(mut command: Command, folder: &Path, bus: &str) -> Command {
    command
        .env("HR_GATEWAYD_CONFIG", folder.join("config.toml"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // As the unit sets it.
        .env("MALLOC_ARENA_MAX", "1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env_remove("AWS_CA_BUNDLE")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null());
    command
}

/// Writes `config` into `folder`, with the queue there too.
pub fn configure(folder: &Path, config: &str) {
    let queue = folder.join("queue");
    let text = format!("{config}\n[queue]\npath = {queue:?}\ndisk_headroom = \"16 MiB\"\n");
    std::fs::write(folder.join("config.toml"), text).unwrap();
}

impl Daemon {
    /// Starts it in `folder`; its log is appended to `folder/log`.
    pub fn start(folder: &Path, bus: &str) -> Self {
        Self::start_with(folder, bus, |_| {})
    }

    /// The same, with more in its environment.
    pub fn start_with(folder: &Path, bus: &str, more: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(folder, bus);
        more(&mut command);
        Self::start_as(command, folder, bus)
    }

    /// The same, as a variation of [`command`].
    pub fn start_as(mut command: Command, folder: &Path, bus: &str) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let child = command.arg("run").stderr(log).spawn().unwrap();
        Self { child, folder: folder.to_owned(), bus: bus.to_owned() }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    #[track_caller]
    pub fn wait_log(&self, words: &str) {
        wait_for(&format!("`{words}` in the log"), Duration::from_secs(60), || {
            self.log().contains(words).then_some(())
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .arg(format!("-{name}"))
                .arg(self.pid().to_string())
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the daemon's end", Duration::from_secs(30), || self.child.try_wait().unwrap())
    }

    /// SIGTERM; it must end well.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "{status}; log:\n{}", self.log());
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another command of the binary, beside the running daemon.
    pub fn run(&self, args: &[&str]) -> Output {
        command(&self.folder, &self.bus).args(args).output().unwrap()
    }

    /// `queue status --json`.
    pub fn status(&self) -> serde_json::Value {
        let output = self.run(&["queue", "status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}\n{}", self.log()))
    }

    /// Waits until `delivered` readings are in and nothing is queued; returns the status.
    #[track_caller]
    pub fn wait_delivered(&self, delivered: u64) -> serde_json::Value {
        wait_for(&format!("{delivered} delivered"), Duration::from_secs(120), || {
            let status = self.status();
            let totals = &status["totals"];
            (totals["delivered"] == delivered
                && totals["queued"] == 0
                && totals["other_records"]["queued"] == 0)
                .then_some(status)
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
