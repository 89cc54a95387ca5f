//! The way to Kinesis: TLS, proxies and portals, through the real binary and its environment.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use hr_gateway::queue::ReadingQueue;
use tokio::sync::watch;

use crate::support::daemon::{Daemon, command, configure};
use crate::support::draining::open;
use crate::support::fake_kinesis::{FakeKinesis, Fault, Options};
use crate::support::middlebox::Middlebox;
use crate::support::mock_bus::MockBus;
use crate::support::systemd::Systemd;
use crate::support::{in_tree, measurement, reading, wait_for};

const NO_BUS: &str = "unix:path=/nonexistent";
const WATCH: &str = "C0:FF:EE:00:00:01";

struct Gateway {
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Drains to `endpoint`; `queued` readings wait.
    fn new(endpoint: &str, queued: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kinesis = format!("[kinesis]\nstream = \"s\"\nendpoint = \"{endpoint}\"");
        configure(folder.path(), &format!("{kinesis}\n[drain]\nblocked_delay_max = \"1s\"\n"));
        let queue = open(&folder.path().join("queue"));
        (0..queued).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
        Self { folder }
    }

    fn command(&self, environment: &[(&str, &str)]) -> Command {
        let mut command = command(self.folder.path(), NO_BUS);
        for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "AWS_CA_BUNDLE"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.envs(environment.iter().copied());
        command
    }

    fn check(&self, environment: &[(&str, &str)], args: &[&str]) -> Output {
        self.command(environment).arg("check").args(args).output().unwrap()
    }

    /// What `check --online` says of the sink.
    fn sink(&self, environment: &[(&str, &str)]) -> String {
        let output = self.check(environment, &["--online"]);
        let said = String::from_utf8(output.stdout).unwrap();
        let line = said.lines().find(|line| line.contains("  sink: "));
        line.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
    }

    fn run(&self, environment: &[(&str, &str)]) -> Daemon {
        Daemon::start_as(self.command(environment), self.folder.path(), NO_BUS)
    }
}

fn authority() -> String {
    in_tree("tests/tls/ca.pem").to_str().unwrap().to_owned()
}

fn kinesis() -> (FakeKinesis, SocketAddr) {
    let fake = FakeKinesis::start(Options::default());
    let address = fake.address;
    (fake, address)
}

#[test]
fn readings_go_over_tls_with_the_authority_of_aws_ca_bundle_and_not_without() {
    let (fake, behind) = kinesis();
    let tls = Middlebox::tls("valid", behind);
    let gateway = Gateway::new(&format!("https://localhost:{}", tls.address.port()), 5);
    let said = gateway.sink(&[]);
    assert!(said.starts_with("FAIL") && said.contains("UntrustedCertificate"), "{said}");
    assert!(said.contains("AWS_CA_BUNDLE"), "it says what to do: {said}");

    let daemon = gateway.run(&[]);
    daemon.wait_log("UntrustedCertificate");
    assert!(daemon.log().contains("ERROR"), "{}", daemon.log());
    assert_eq!(daemon.status()["totals"]["queued"], 5);
    daemon.stop();

    let bundle = authority();
    let said = gateway.sink(&[("AWS_CA_BUNDLE", &bundle)]);
    assert!(said.starts_with("ok"), "{said}");
    let daemon = gateway.run(&[("AWS_CA_BUNDLE", &bundle)]);
    daemon.wait_delivered(5);
    daemon.stop();
    assert_eq!(fake.seen(|seen| seen.lines.len()), 5);
}

#[test]
fn a_certificate_that_is_wrong_says_in_which_way() {
    let (_fake, behind) = kinesis();
    let bundle = authority();
    for (name, code, advice) in [
        ("expired", "CertificateExpired", "timedatectl"),
        ("future", "CertificateNotYetValid", "timedatectl"),
        ("other-name", "CertificateForAnotherName", "portal"),
    ] {
        let tls = Middlebox::tls(name, behind);
        let gateway = Gateway::new(&format!("https://localhost:{}", tls.address.port()), 0);
        let said = gateway.sink(&[("AWS_CA_BUNDLE", &bundle)]);
        assert!(said.starts_with("FAIL") && said.contains(code) && said.contains(advice), "{said}");
    }
}

#[test]
fn a_bundle_or_a_proxy_that_cannot_be_used_is_told_by_check_and_stops_no_readings() {
    let gateway = Gateway::new("https://kinesis.test", 3);
    let key = in_tree("tests/tls/server.key").to_str().unwrap().to_owned();
    let garbled = gateway.folder.path().join("garbled.pem");
    let text = std::fs::read_to_string(authority()).unwrap();
    std::fs::write(&garbled, text.replace("MIIB", "MIIC")).unwrap();
    for (variable, value, words) in [
        ("AWS_CA_BUNDLE", "/nonexistent.pem", "No such file"),
        ("AWS_CA_BUNDLE", &key, "no certificate"),
        ("AWS_CA_BUNDLE", garbled.to_str().unwrap(), "certificate 1"),
        ("HTTPS_PROXY", "socks5://user:secret@proxy:1080", "http://host:port"),
        ("https_proxy", "http://", "http://host:port"),
        ("HTTPS_PROXY", "user:secret@proxy:3128/", "`proxy:3128/` is no proxy"),
        ("NO_PROXY", "example.org,*.example", "`*.example` matches no host"),
        ("NO_PROXY", "localhost:443", "`localhost:443` matches no host"),
        ("no_proxy", "10.0.0.0/33", "`10.0.0.0/33` matches no host"),
    ] {
        let output = gateway.check(&[(variable, value)], &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(variable) && said.contains(words), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let bundle = gateway.folder.path().join("late.pem");
    let daemon = gateway.run(&[("AWS_CA_BUNDLE", bundle.to_str().unwrap())]);
    daemon.wait_log("late.pem");
    assert!(daemon.log().contains("ERROR"), "{}", daemon.log());
    assert_eq!(daemon.status()["totals"]["queued"], 3);
    // The file comes: from then on the name is what is missing.
    std::fs::write(&bundle, text).unwrap();
    daemon.wait_log("the sink cannot be reached");
    daemon.stop();
}

#[test]
fn https_goes_through_the_proxy_and_past_it_to_what_no_proxy_names() {
    let (fake, behind) = kinesis();
    let tls = Middlebox::tls("valid", behind);
    let proxy = Middlebox::proxy(tls.address, None);
    let bundle = authority();
    let through = format!("http://{}", proxy.address);
    // No name server knows this name: only the proxy leads there.
    let gateway = Gateway::new("https://kinesis.test", 7);
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        let said = gateway.sink(&[("AWS_CA_BUNDLE", &bundle), (variable, &through)]);
        assert!(said.starts_with("ok"), "{variable}: {said}");
    }
    let asked = proxy.seen();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|line| line.starts_with("CONNECT kinesis.test:443 ")), "{asked:?}");
    let daemon = gateway.run(&[("AWS_CA_BUNDLE", &bundle), ("HTTPS_PROXY", &through)]);
    daemon.wait_delivered(7);
    daemon.stop();
    assert_eq!(fake.seen(|seen| seen.lines.len()), 7);

    let asked = proxy.seen().len();
    let near = Gateway::new(&format!("https://localhost:{}", tls.address.port()), 0);
    let environment = [
        ("AWS_CA_BUNDLE", &*bundle),
        ("HTTPS_PROXY", &through),
        ("no_proxy", "10.0.0.0/8, ::1,.example.org,,localhost"),
    ];
    let said = near.sink(&environment);
    assert!(said.starts_with("ok"), "{said}");
    assert_eq!(proxy.seen().len(), asked, "past the proxy");
}

#[test]
fn an_instance_is_asked_for_its_region_past_the_proxy() {
    let metadata =
        Middlebox::portal("200 OK", "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n", "us-east-1");
    let (_fake, behind) = kinesis();
    let proxy = Middlebox::proxy(behind, None);
    let gateway = Gateway::new("http://kinesis.test", 0);
    let mut command = gateway.command(&[("HTTP_PROXY", &format!("http://{}", proxy.address))]);
    command.env_remove("AWS_REGION").env_remove("AWS_EC2_METADATA_DISABLED");
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{}", metadata.address));
    let output = command.args(["check", "--online"]).output().unwrap();
    assert!(!metadata.seen().is_empty(), "{output:?}");
    let asked = proxy.seen();
    assert!(asked.iter().all(|line| line.contains("kinesis.test")) && !asked.is_empty(), "{asked:?}");
}

#[test]
fn a_proxy_that_wants_a_user_is_told_of_and_takes_the_one_in_its_address() {
    let (_fake, behind) = kinesis();
    let tls = Middlebox::tls("valid", behind);
    let proxy = Middlebox::proxy(tls.address, Some("proxy-authorization: Basic bWU6c2VjcmV0"));
    let bundle = authority();
    let gateway = Gateway::new("https://kinesis.test", 2);
    let anonymous = format!("http://{}", proxy.address);
    let said = gateway.sink(&[("AWS_CA_BUNDLE", &bundle), ("HTTPS_PROXY", &anonymous)]);
    assert!(said.starts_with("FAIL") && said.contains("ProxyAuthenticationRequired"), "{said}");
    assert!(said.contains("user:password@"), "{said}");
    let known = format!("http://me:secret@{}", proxy.address);
    let daemon = gateway.run(&[("AWS_CA_BUNDLE", &bundle), ("HTTPS_PROXY", &known)]);
    daemon.wait_delivered(2);
    let shown = gateway.check(&[("AWS_CA_BUNDLE", &bundle), ("HTTPS_PROXY", &known)], &[]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&format!("HTTPS_PROXY = http://{}", proxy.address)), "{shown}");
    assert!(!(daemon.log() + &shown).contains("secret"));
    daemon.stop();
}

#[test]
fn whatever_answers_in_kinesis_place_is_named_by_its_status_and_accepts_nothing() {
    const HTML: &str = "Content-Type: text/html\r\n";
    const MOVED: &str = "Content-Type: text/html\r\nLocation: http://portal.example/\r\n";
    const PAGE: &str = "<html><h1>Welcome to our guest network</h1></html>";
    for (status, headers, body, code, class) in [
        ("200 OK", HTML, PAGE, "NotKinesis", "ERROR"),
        ("200 OK", "", "", "NotKinesis", "ERROR"),
        ("200 OK", "Content-Type: application/json\r\n", "{}", "NotKinesis", "ERROR"),
        ("302 Found", MOVED, PAGE, "NotKinesis", "ERROR"),
        ("403 Forbidden", HTML, PAGE, "NotKinesis", "ERROR"),
        ("407 Proxy Authentication Required", HTML, PAGE, "ProxyAuthenticationRequired", "ERROR"),
        ("413 Content Too Large", HTML, PAGE, "RequestTooLarge", "ERROR"),
        ("511 Network Authentication Required", HTML, PAGE, "NetworkLoginRequired", "ERROR"),
        ("502 Bad Gateway", HTML, PAGE, "Unavailable", "WARN"),
    ] {
        let portal = Middlebox::portal(status, headers, body);
        let gateway = Gateway::new(&format!("http://{}", portal.address), 20);
        let daemon = gateway.run(&[]);
        daemon.wait_log(code);
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains(code)).unwrap();
        assert!(line.contains(class) && line.contains(&status[..3]), "{status}: {line}");
        let totals = &daemon.status()["totals"];
        let count = |column: &str| totals[column].as_u64().unwrap();
        let counted = (count("queued"), count("delivered"), count("dead_lettered"));
        assert_eq!(counted, (20, 0, 0), "{status}");
        daemon.stop();
    }
}

#[test]
fn a_stream_that_is_too_small_is_told_as_that_and_not_as_unreachable() {
    let (fake, _) = kinesis();
    fake.always(Some(Fault::Error(400, "ProvisionedThroughputExceededException")));
    let gateway = Gateway::new(&fake.endpoint(), 1);
    let systemd = Systemd::listen(gateway.folder.path());
    let mut command = gateway.command(&[]);
    systemd.watch(&mut command, Duration::from_secs(60));
    let daemon = Daemon::start_as(command, gateway.folder.path(), NO_BUS);
    daemon.wait_log("give the stream more shards or make it on-demand");
    let status = "the sink takes no more for now (ProvisionedThroughputExceededException)";
    wait_for("the status line", Duration::from_secs(30), || systemd.told(status).first().copied());
    assert!(!daemon.log().contains("cannot be reached"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_proxy_that_takes_small_calls_only_gets_them() {
    let (fake, _) = kinesis();
    fake.refuse_larger_than(20_000);
    let gateway = Gateway::new(&fake.endpoint(), 600);
    let daemon = gateway.run(&[]);
    daemon.wait_delivered(600);
    daemon.stop();
    assert!(fake.seen(|seen| seen.counts[1..].iter().all(|count| *count == 1)), "each once");
}

#[test]
fn a_connection_that_died_without_a_word_costs_one_call_and_not_a_quarter_of_an_hour() {
    let (fake, behind) = kinesis();
    let (freeze, frozen) = watch::channel(());
    let tls = Middlebox::http2("valid", behind, frozen);
    let mut bus = MockBus::start();
    bus.tell(&format!("sensor {WATCH} Watch"));
    let gateway = Gateway::new(&format!("https://localhost:{}", tls.address.port()), 0);
    let mut command = gateway.command(&[("AWS_CA_BUNDLE", &authority())]);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address()).env("HR_GATEWAYD_DRAIN__REQUEST_TIMEOUT", "1s");
    command.env("HR_GATEWAYD_SENSOR", format!("[{{ id = \"a\", address = \"{WATCH}\" }}]"));
    let daemon = Daemon::start_as(command, gateway.folder.path(), &bus.address());
    bus.wait_subscribed(WATCH);
    bus.notify(WATCH, &measurement(70).encode());
    daemon.wait_delivered(1);
    freeze.send(()).unwrap();
    bus.notify(WATCH, &measurement(71).encode());
    daemon.wait_log("the sink accepts again");
    daemon.wait_delivered(2);
    daemon.stop();
    let lines = fake.seen(|seen| seen.lines.len());
    assert!(lines >= 2, "{lines}");
}
