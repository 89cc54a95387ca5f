//! Name servers that are silent.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hr_gateway::drainer::kinesis::names::{LOOKUPS_MAX, NameError, Names};

use crate::support::daemon::{Daemon, command, configure};
use crate::support::mock_bus::{MockBus, python};
use crate::support::{measurement, wait_for};

const WATCH: &str = "C0:FF:EE:00:00:01";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

static SILENT: AtomicBool = AtomicBool::new(true);
static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Answers only when the servers are not silent.
fn look_up(name: &str) -> std::io::Result<Vec<IpAddr>> {
    ASKED.fetch_add(1, Ordering::SeqCst);
    while SILENT.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    match name {
        "nowhere.test" => Err(std::io::Error::other("Name or service not known")),
        _ => Ok(vec![ADDRESS]),
    }
}

#[tokio::test]
async fn lookups_are_shared_and_bounded_and_outlive_those_who_gave_up() {
    const IMPATIENT: Duration = Duration::from_millis(5);
    let names = Names::by(look_up);
    for _ in 0..100 {
        for name in ["a.test", "b.test"] {
            let gave_up = tokio::time::timeout(IMPATIENT, names.addresses(name)).await;
            assert!(gave_up.is_err(), "{gave_up:?}");
        }
    }
    assert_eq!(ASKED.load(Ordering::SeqCst), LOOKUPS_MAX, "one for each name");
    let refused = names.clone().addresses("c.test").await.unwrap_err();
    assert!(matches!(refused, NameError::TooMany { .. }));
    let said = refused.to_string();
    assert!(said.contains("c.test") && said.contains("a.test") && said.contains("b.test"), "{said}");
    assert!(Names::unanswered().is_some_and(|(name, _)| name == "a.test"));

    let mut waiting = futures_util::future::join_all((0..50).map(|_| names.addresses("a.test")));
    assert!(tokio::time::timeout(IMPATIENT, &mut waiting).await.is_err());
    SILENT.store(false, Ordering::SeqCst);
    for answer in waiting.await {
        assert_eq!(answer.unwrap()[..], [ADDRESS]);
    }
    assert_eq!(ASKED.load(Ordering::SeqCst), LOOKUPS_MAX, "one answer for all");
    wait_for("room for others", Duration::from_secs(30), || Names::unanswered().is_none().then_some(()));
    assert_eq!(names.addresses("c.test").await.unwrap()[..], [ADDRESS]);
    let said = names.addresses("nowhere.test").await.unwrap_err().to_string();
    assert_eq!(said, "no address for nowhere.test: Name or service not known");
}

/// A network without a way out, where three name servers take every question and answer none; then what
/// stands in `"$@"`.
const SILENT_NETWORK: &str = r#"
set -e
ip link set lo up
printf 'nameserver 127.0.0.2\nnameserver 127.0.0.3\nnameserver 127.0.0.4\noptions timeout:10\n' >"$FOLDER/resolv.conf"
printf 'hosts: files dns\n' >"$FOLDER/nsswitch.conf"
mount --bind "$FOLDER/resolv.conf" /etc/resolv.conf
mount --bind "$FOLDER/nsswitch.conf" /etc/nsswitch.conf
"$PYTHON" -c '
import os, socket, sys
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
for index, taken in enumerate(sockets):
    taken.bind(("127.0.0.%d" % (index + 2), 53))
if os.fork() == 0:
    os.closerange(0, 3)
    while os.path.exists(sys.argv[1]):
        __import__("time").sleep(0.2)
' "$FOLDER/resolv.conf"
exec "$@"
"#;

/// `command`, in that network.
fn in_silent_network(command: &Command, folder: &std::path::Path) -> Command {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    unshare.args(["--net", "--mount", "sh", "-c", SILENT_NETWORK, "sh"]).arg(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    unshare.env("FOLDER", folder).env("PYTHON", python()).stdin(Stdio::null());
    unshare
}

/// The threads of the daemon, by name.
fn threads(daemon: &Daemon) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok().map(|name| name.trim().to_owned())
    };
    tasks.filter_map(name).collect()
}

#[test]
fn silent_name_servers_hold_up_neither_readings_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut bus = MockBus::start();
    bus.tell(&format!("sensor {WATCH} Watch"));
    let sensor = format!("[[sensor]]\nid = \"a\"\naddress = \"{WATCH}\"");
    configure(folder.path(), &format!("{sensor}\n[kinesis]\nstream = \"s\"\nregion = \"us-east-1\"\n"));
    let usual = command(folder.path(), &bus.address());
    let silent = in_silent_network(&usual, folder.path());
    let daemon = Daemon::start_as(silent, folder.path(), &bus.address());
    bus.wait_subscribed(WATCH);
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_log("the name servers have not answered for kinesis.us-east-1.amazonaws.com");
    for received in 2..=30 {
        bus.notify(WATCH, &measurement(70).encode());
        wait_for("a reading to be durable", Duration::from_secs(30), || {
            (daemon.status()["totals"]["received"] == received).then_some(())
        });
        let threads = threads(&daemon);
        let lookups = threads.iter().filter(|name| *name == "name-lookup").count();
        assert!(lookups <= LOOKUPS_MAX, "{threads:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let asked = Instant::now();
    daemon.stop();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10), "no lookup is waited for, but it took {took:?} to end");
    std::fs::remove_file(folder.path().join("resolv.conf")).unwrap();
}
