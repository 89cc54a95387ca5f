//! A second opinion on the API: the real recordings into moto's Kinesis, read back with its own calls.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::command;
use crate::support::mock_bus::python;
use crate::support::{in_tree, wait_for};

struct Moto {
    server: Child,
    port: u16,
}

impl Moto {
    fn start() -> Self {
        wait_for("moto", Duration::from_secs(120), Self::try_start)
    }

    /// `None` if another took its port, which was free a moment ago; moto takes no port 0.
    fn try_start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut moto = Self { server, port };
        let answers =
            wait_for("moto or its end", Duration::from_secs(60), || match moto.server.try_wait().unwrap() {
                Some(_) => Some(false),
                None => std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true),
            });
        answers.then_some(moto)
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// One call, by curl: the SDK under test stays out of the judgement.
    fn call(&self, action: &str, body: Value) -> Value {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--data", &body.to_string()])
            .args(["-H", &format!("X-Amz-Target: Kinesis_20131202.{action}")])
            .args(["-H", "Content-Type: application/x-amz-json-1.1"])
            .args([
                "-H",
                "Authorization: AWS4-HMAC-SHA256 Credential=x/20250101/us-east-1/kinesis/aws4_request",
            ])
            .arg(self.endpoint())
            .output()
            .expect("curl is installed (packaging/test.sh does it)");
        assert!(output.status.success(), "{action}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Every line of every record of every shard.
    fn lines(&self, stream: &str) -> Vec<Value> {
        use base64::Engine;
        let mut lines = Vec::new();
        let shards = self.call("ListShards", json!({ "StreamName": stream }));
        for shard in shards["Shards"].as_array().unwrap() {
            let from = json!({ "StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON" });
            let mut iterator = self.call("GetShardIterator", from)["ShardIterator"].clone();
            loop {
                let answer = self.call("GetRecords", json!({ "ShardIterator": iterator, "Limit": 1000 }));
                let records = answer["Records"].as_array().unwrap();
                if records.is_empty() {
                    break;
                }
                for record in records {
                    let data =
                        base64::prelude::BASE64_STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
                    let text = String::from_utf8(data).unwrap();
                    lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
                }
                iterator = answer["NextShardIterator"].clone();
            }
        }
        lines.sort_by_key(|line| line["sequence"].as_u64());
        lines
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        _ = self.server.kill();
        _ = self.server.wait();
    }
}

#[test]
fn a_recording_played_by_the_demo_is_in_moto_once_and_in_sequence() {
    let moto = Moto::start();
    moto.call("CreateStream", json!({ "StreamName": "hr-kinesis-stream", "ShardCount": 2 }));
    let folder = tempfile::tempdir().unwrap();
    let recording = match in_tree("../shared/data/garmin-fenix2-multisport-7h.csv") {
        path if path.exists() => path,
        _ => {
            let path = folder.path().join("made.csv");
            let rows: String = (0..5_000).map(|n| format!("{n},{}\n", 60 + n % 120)).collect();
            std::fs::write(&path, format!("offset_s,heart_rate_bpm\n{rows}")).unwrap();
            path
        }
    };
    let expected = std::fs::read_to_string(&recording).unwrap().lines().count() - 1;
    let output = command(folder.path(), "unix:path=/nonexistent")
        // moto numbers the records of concurrent calls without a lock, and then overwrites some of them.
        .env("HR_GATEWAYD_DRAIN__CALLS_IN_FLIGHT_MAX", "1")
        .args(["demo", "--quiet", "--speed", "100000", "--kinesis-endpoint", &moto.endpoint(), "--replay"])
        .arg(&recording)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let ledger: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ledger["received"], expected);
    assert_eq!(ledger["delivered"], expected);
    let lines = moto.lines("hr-kinesis-stream");
    let sequences: Vec<u64> = lines.iter().map(|line| line["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    let ids: std::collections::HashSet<&str> =
        lines.iter().map(|l| l["reading_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), lines.len());
    assert_eq!(lines.iter().filter(|line| line.get("heart_rate").is_some()).count(), expected);
}

#[test]
fn check_online_tells_a_stream_that_is_there_from_one_that_is_not() {
    let moto = Moto::start();
    moto.call("CreateStream", json!({ "StreamName": "there", "ShardCount": 1 }));
    let folder = tempfile::tempdir().unwrap();
    for (stream, words) in [("there", "ok    sink: stream there"), ("missing", "create the stream")] {
        let config = format!("[kinesis]\nstream = \"{stream}\"\nendpoint = \"{}\"\n", moto.endpoint());
        crate::support::daemon::configure(folder.path(), &config);
        let output =
            command(folder.path(), "unix:path=/nonexistent").args(["check", "--online"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(words), "{said}");
        assert!(said.contains("FAIL  adapter") && said.contains("systemctl status bluetooth"), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
    assert!(moto.lines("there").is_empty(), "a check writes nothing");
}
