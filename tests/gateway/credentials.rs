//! Keys from a `credential_process`: slow, hanging, failing, and behind a role.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use hr_gateway::queue::ReadingQueue;

use crate::support::daemon::{Daemon, command, configure};
use crate::support::draining::open;
use crate::support::fake_kinesis::{FakeKinesis, Fault, Options};
use crate::support::middlebox::Middlebox;
use crate::support::mock_bus::MockBus;
use crate::support::{measurement, reading, wait_for};

const NO_BUS: &str = "unix:path=/nonexistent";
const WATCH: &str = "C0:FF:EE:00:00:01";
/// What a helper writes.
const ANSWER: &str = r#"echo '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s"}'"#;

/// A profile's line for a role, and what gives out its keys.
const ROLE: &str = "role_arn = arn:aws:iam::123456789012:role/gateway\n";
const STS: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
    <Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>\
    <Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

struct Gateway {
    folder: tempfile::TempDir,
    fake: FakeKinesis,
}

impl Gateway {
    /// Gets its keys from a helper that is this shell script; `runs` beside it gets a line each time.
    fn new(script: &str, more_config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = FakeKinesis::start(Options::default());
        let kinesis = format!("[kinesis]\nstream = \"s\"\nendpoint = \"{}\"", fake.endpoint());
        configure(folder.path(), &format!("{kinesis}\n{more_config}"));
        let gateway = Self { folder, fake };
        let runs = gateway.path("runs");
        let text = format!("#!/bin/sh\necho $$ >>{}\n{script}\n", runs.display());
        std::fs::write(gateway.path("helper.sh"), text).unwrap();
        std::fs::set_permissions(gateway.path("helper.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&runs, "").unwrap();
        gateway.profiles(&format!("[default]\n{}", gateway.helper()));
        gateway
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn helper(&self) -> String {
        format!("credential_process = {} --pin hush", self.path("helper.sh").display())
    }

    fn profiles(&self, text: &str) {
        std::fs::write(self.path("aws-config"), text).unwrap();
    }

    fn command(&self, bus: &str) -> Command {
        let mut command = command(self.folder.path(), bus);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.env("AWS_CONFIG_FILE", self.path("aws-config"));
        command
    }

    fn queue(&self, readings: u64) {
        let queue = open(&self.path("queue"));
        (0..readings).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    }

    fn run(&self, bus: &str) -> Daemon {
        Daemon::start_as(self.command(bus), self.folder.path(), bus)
    }

    /// The processes that wrote their number into `runs`.
    fn runs(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.path("runs")).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn alive(&self) -> usize {
        let runs = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
        };
        self.runs().iter().filter(|pid| runs(pid)).count()
    }
}

#[test]
fn a_helper_that_hangs_is_one_at_a_time_named_and_killed_with_all_it_started() {
    const LIMITS: &str =
        "credential_timeout = \"2s\"\n[drain]\nrequest_timeout = \"1s\"\nblocked_delay_max = \"1s\"";
    // Itself and a child of its: both hang.
    let script = "sleep 1000 & echo $! >>\"$(dirname \"$0\")/runs\"; sleep 1000";
    let gateway = Gateway::new(script, LIMITS);
    gateway.queue(3);
    let daemon = gateway.run(NO_BUS);
    daemon.wait_log("`helper.sh` did not answer within 2s and was killed");
    wait_for("four runs", Duration::from_secs(60), || {
        // Those that were killed may still be ending.
        let one = || (gateway.alive() <= 2).then_some(());
        wait_for("one helper and its child at a time", Duration::from_secs(1), one);
        (gateway.runs().len() >= 8).then_some(())
    });
    let log = daemon.log();
    assert!(log.contains("`helper.sh` has not answered for"), "{log}");
    assert_eq!(log.matches("was killed").count(), 1, "said once: {log}");
    assert!(!log.contains("hush"), "arguments may be secret: {log}");
    wait_for("a run in the middle", Duration::from_secs(60), || (gateway.alive() == 2).then_some(()));
    daemon.stop();
    wait_for("the end of all helpers", Duration::from_secs(5), || (gateway.alive() == 0).then_some(()));
}

#[test]
fn a_helper_that_takes_longer_than_a_call_is_waited_for_and_run_once() {
    let script = format!("sleep 2; {ANSWER}");
    let gateway = Gateway::new(&script, "[drain]\nrequest_timeout = \"1s\"");
    let output = gateway.command(NO_BUS).args(["check", "--online"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("ok    sink"), "{said}");
    std::fs::write(gateway.path("runs"), "").unwrap();
    gateway.queue(3);
    let daemon = gateway.run(NO_BUS);
    daemon.wait_delivered(3);
    assert_eq!((gateway.runs().len(), gateway.fake.seen(|seen| seen.lines.len())), (1, 3));
    daemon.stop();
}

#[test]
fn a_helper_that_fails_is_named_with_its_last_words_and_answers_that_are_none_too() {
    for (script, words) in [
        ("echo no card in the reader >&2; exit 3", "exit status: 3: no card in the reader"),
        ("echo hello", "not a JSON object"),
        (r#"echo '{"Version": 2}'"#, "no `Version` of 1"),
        (r#"echo '{"Version": 1, "AccessKeyId": "A"}'"#, "no `SecretAccessKey`"),
        ("yes", "more than 64 KiB"),
    ] {
        let gateway = Gateway::new(script, "");
        let output = gateway.command(NO_BUS).args(["check", "--online"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("the credential helper `helper.sh`") && said.contains(words), "{said}");
        assert!(said.contains("run the profile's credential_process by hand"), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn a_helper_that_can_never_work_needs_a_person_and_one_that_fails_may_not() {
    for (script, class) in [
        ("exec /nonexistent/signer", "ERROR"),
        ("exec /", "ERROR"),
        ("echo hello", "ERROR"),
        ("exit 3", "WARN"),
    ] {
        let gateway = Gateway::new(script, "");
        gateway.queue(1);
        let daemon = gateway.run(NO_BUS);
        daemon.wait_log("CredentialHelperFailed");
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("CredentialHelperFailed")).unwrap();
        assert!(line.contains(class), "{script}: {line}");
        assert_eq!(line.contains("credential_process by hand"), class == "ERROR", "{script}: {line}");
        daemon.stop();
    }
}

#[test]
fn what_a_helper_leaves_behind_ends_when_it_ends() {
    let gateway = Gateway::new(&format!("sleep 1000 & echo $! >>\"$(dirname \"$0\")/runs\"; {ANSWER}"), "");
    gateway.queue(3);
    let daemon = gateway.run(NO_BUS);
    daemon.wait_delivered(3);
    assert_eq!(gateway.runs().len(), 2, "itself and what it left");
    wait_for("the end of both", Duration::from_secs(5), || (gateway.alive() == 0).then_some(()));
    daemon.stop();
}

#[test]
fn keys_go_on_while_they_are_valid_though_their_renewal_hangs() {
    let (mut bus, gateway) = with_short_lived_keys("sleep 1000", "credential_timeout = \"2s\"");
    let daemon = gateway.run(&bus.address());
    bus.wait_subscribed(WATCH);
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_delivered(1);
    let loaded = Instant::now();
    let mut sent = 1;
    while !daemon.log().contains("was killed") {
        bus.notify(WATCH, &measurement(70).encode());
        sent += 1;
        daemon.wait_delivered(sent);
        assert!(loaded.elapsed() < Duration::from_secs(SHORT), "renewal begins half-way: {}", daemon.log());
        std::thread::sleep(Duration::from_millis(300));
    }
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_delivered(sent + 1);
    daemon.wait_log("cannot be renewed");
    assert!(!daemon.log().contains("the sink cannot be reached"), "{}", daemon.log());
    daemon.stop();
}

/// Seconds until keys end; their renewal begins half-way.
const SHORT: u64 = 20;

/// A gateway with one sensor, whose helper gives out short-lived keys once, and does `later` from then on.
fn with_short_lived_keys(later: &str, more_config: &str) -> (MockBus, Gateway) {
    let script = format!(
        r#"[ $(wc -l <"$(dirname "$0")/runs") -gt 1 ] && {later}
end=$(date -u -d '+{SHORT} seconds' +%FT%TZ)
echo '{{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s", "Expiration": "'$end'"}}'"#
    );
    let mut bus = MockBus::start();
    bus.tell(&format!("sensor {WATCH} Watch"));
    let config = format!("{more_config}\n[[sensor]]\nid = \"a\"\naddress = \"{WATCH}\"");
    (bus, Gateway::new(&script, &config))
}

#[test]
fn a_renewal_is_not_blamed_for_what_the_network_does_while_keys_are_valid() {
    let (mut bus, gateway) = with_short_lived_keys("sleep 1000", "[drain]\nrequest_timeout = \"1s\"");
    let daemon = gateway.run(&bus.address());
    bus.wait_subscribed(WATCH);
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_delivered(1);
    std::thread::sleep(Duration::from_secs(SHORT / 2));
    gateway.fake.always(Some(Fault::Delay(Duration::from_secs(2))));
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_log("the sink cannot be reached");
    assert_eq!(gateway.runs().len(), 2, "the renewal is under way");
    assert!(daemon.log().contains("Timeout"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_renewal_goes_on_though_nobody_makes_a_call() {
    let (mut bus, gateway) = with_short_lived_keys("sleep 1", "");
    let end = SystemTime::now() + Duration::from_secs(SHORT);
    let end = chrono::DateTime::<chrono::Utc>::from(end).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let sts = Middlebox::portal(
        "200 OK",
        "Content-Type: text/xml\r\n",
        STS.replace("2100-01-01T00:00:00Z", &end).leak(),
    );
    gateway.profiles(&format!("[default]\n{ROLE}source_profile = default\n{}\n", gateway.helper()));
    let mut command = gateway.command(&bus.address());
    command.env("AWS_ENDPOINT_URL_STS", format!("http://{}", sts.address));
    let daemon = Daemon::start_as(command, gateway.folder.path(), &bus.address());
    bus.wait_subscribed(WATCH);
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_delivered(1);
    std::thread::sleep(Duration::from_secs(SHORT / 2));
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_delivered(2);
    wait_for("the role's next keys", Duration::from_secs(10), || (sts.seen().len() == 2).then_some(()));
    daemon.stop();
}

#[test]
fn a_role_is_assumed_with_the_keys_of_a_helper_wherever_the_profile_names_it() {
    let gateway = Gateway::new(ANSWER, "");
    let helper = gateway.helper();
    for profiles in [
        format!("[default]\n{ROLE}source_profile = base\n[profile base]\n{helper}\n"),
        format!("[default]\n{ROLE}source_profile = default\n{helper}\n"),
        format!(
            "[default]\n{ROLE}source_profile = middle\n[profile middle]\n{ROLE}source_profile = base\n\
                 [profile base]\n{helper}\n"
        ),
    ] {
        let sts = Middlebox::portal("200 OK", "Content-Type: text/xml\r\n", STS);
        std::fs::write(gateway.path("runs"), "").unwrap();
        gateway.profiles(&profiles);
        let mut check = gateway.command(NO_BUS);
        check.env("AWS_ENDPOINT_URL_STS", format!("http://{}", sts.address));
        let output = check.args(["check", "--online"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("ok    sink"), "{profiles}: {said}");
        assert_eq!(sts.seen().len(), profiles.matches("role_arn").count(), "{profiles}");
        assert_eq!(gateway.runs().len(), 1, "{profiles}");
    }
}

#[test]
fn a_certificate_that_ends_is_told_of_in_the_journal_and_the_status() {
    let copy = tempfile::tempdir().unwrap();
    let copied = format!("[directory]\npath = {:?}\n", copy.path());
    ["", &copied].into_iter().for_each(tells_of_a_certificate_that_ends);
}

fn tells_of_a_certificate_that_ends(more_config: &str) {
    let bus = MockBus::start();
    let gateway = Gateway::new(ANSWER, more_config);
    let certificate = crate::support::in_tree("tests/tls/expired.pem");
    let helper = gateway.helper();
    gateway.profiles(&format!("[default]\n{helper} --certificate {}", certificate.display()));
    gateway.queue(1);
    let daemon = gateway.run(&bus.address());
    daemon.wait_log("the certificate that this gateway identifies itself by has ended");
    daemon.wait_delivered(1);
    let status = gateway.command(&bus.address()).arg("status").output().unwrap();
    let said = String::from_utf8(status.stdout).unwrap();
    assert!(said.contains("the certificate that the gateway identifies itself by has ended"), "{said}");
    daemon.stop();
}
