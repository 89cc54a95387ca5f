//! An in-process Kinesis: PutRecords with true shard limits, and failures as the test scripts them.
//!
//! It runs on a thread and runtime of its own, on 127.0.0.1, and ends when dropped. Every accepted line
//! is kept (or, for benches, counted by its sequence), so that a test can ask what arrived, how often,
//! and in which order.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How the stream is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of shards.
    pub shards: usize,
    /// 1 MB/s and 1,000 records/s a shard, as a bucket of one second.
    pub limited: bool,
    /// Keep the lines (tests), or only count sequences (benches).
    pub keep_lines: bool,
    /// The lines are in the records of another program, as that one frames them.
    pub foreign: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { shards: 1, limited: false, keep_lines: true, foreign: false }
    }
}

/// What happens to one call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error of the whole call.
    Error(u16, &'static str),
    /// The connection is cut before anything is accepted.
    Reset,
    /// Everything is accepted, and the connection is cut before the answer.
    AcceptThenReset,
    /// The answer comes late.
    Delay(Duration),
    /// Every second entry fails with this code.
    HalfFail(&'static str),
}

/// What there is to know.
#[derive(Default)]
pub struct Seen {
    /// Accepted lines, in order of acceptance.
    pub lines: Vec<String>,
    /// How often each sequence was accepted, by index; for one epoch only.
    pub counts: Vec<u8>,
    /// Calls, whatever became of them.
    pub calls: u64,
    /// Entries accepted and rejected.
    pub accepted_entries: u64,
    /// Entries rejected by the shards' limits.
    pub rejected_entries: u64,
    /// Bytes accepted: data and partition keys.
    pub accepted_bytes: u64,
    /// From each kept reading's own time stamp to its acceptance.
    pub delays_ms: Vec<i64>,
    /// When the first and the last entry were accepted.
    pub first_accepted: Option<Instant>,
    pub last_accepted: Option<Instant>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    buckets: HashMap<usize, Bucket>,
    script: VecDeque<Fault>,
    always: Option<Fault>,
    entry_failure_rate: f64,
    random: Option<fastrand::Rng>,
    poison: Option<String>,
    body_bytes_max: Option<usize>,
    down: bool,
    next_number: u64,
}

struct Bucket {
    bytes: f64,
    records: f64,
    at: Instant,
}

pub struct FakeKinesis {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl FakeKinesis {
    pub fn start(options: Options) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let stop = CancellationToken::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let (thread_state, thread_stop) = (state.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, thread_state, options) => {}
                    () = thread_stop.cancelled() => {}
                }
            });
        });
        Self { address: receiver.recv().unwrap(), state, stop, thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// These happen to the next calls, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().script.extend(faults);
    }

    /// This happens to every call until it is `None` again.
    pub fn always(&self, fault: Option<Fault>) {
        self.lock().always = fault;
    }

    /// Each entry fails with `InternalFailure` at this rate.
    pub fn fail_entries(&self, rate: f64, seed: u64) {
        let mut state = self.lock();
        state.entry_failure_rate = rate;
        state.random = Some(fastrand::Rng::with_seed(seed));
    }

    /// Calls with an entry that contains this text are refused with a ValidationException.
    pub fn refuse_lines_with(&self, text: &str) {
        self.lock().poison = Some(text.to_owned());
    }

    /// Requests with a larger body get the 413 of a proxy.
    pub fn refuse_larger_than(&self, bytes: usize) {
        self.lock().body_bytes_max = Some(bytes);
    }

    /// While down, every connection is cut.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// Looks at what arrived.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.lock().seen)
    }

    /// Faults that were not used yet.
    pub fn script_left(&self) -> usize {
        self.lock().script.len()
    }
}

impl Drop for FakeKinesis {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, options: Options) {
    let options = Arc::new(options);
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        _ = stream.set_nodelay(true);
        let (state, options) = (state.clone(), options.clone());
        tokio::spawn(async move {
            if state.lock().unwrap().down {
                return;
            }
            let service =
                hyper::service::service_fn(|request| answer(request, state.clone(), options.clone()));
            // HTTP/2 begins with "PRI". In HTTP/1, an `Err` of the service cuts the connection, as a fault asks.
            let mut start = [0; 3];
            let http2 = stream.peek(&mut start).await.is_ok_and(|_| start == *b"PRI");
            let stream = TokioIo::new(stream);
            match http2 {
                true => _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
                false => _ = http1::Builder::new().serve_connection(stream, service).await,
            }
        });
    }
}

#[derive(Debug)]
struct Cut;
impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut")
    }
}
impl std::error::Error for Cut {}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    options: Arc<Options>,
) -> Result<Response<Full<Bytes>>, Cut> {
    let body = request.into_body().collect().await.map_err(|_| Cut)?.to_bytes();
    let (fault, response) = {
        let mut state = state.lock().unwrap();
        state.seen.calls += 1;
        if state.down {
            return Err(Cut);
        }
        let fault = state.script.pop_front().or_else(|| state.always.clone());
        match &fault {
            Some(Fault::Reset) => return Err(Cut),
            Some(Fault::Error(status, code)) => return Ok(error(*status, code)),
            _ if state.body_bytes_max.is_some_and(|max| body.len() > max) => return Ok(too_large()),
            _ => {}
        }
        (fault.clone(), put_records(&body, &mut state, &options, fault.as_ref()))
    };
    match fault {
        Some(Fault::AcceptThenReset) => Err(Cut),
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            Ok(response)
        }
        _ => Ok(response),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecords<'a> {
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
    stream_name: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    data: &'a str,
    partition_key: &'a str,
    explicit_hash_key: Option<&'a str>,
}

fn put_records(
    body: &[u8],
    state: &mut State,
    options: &Options,
    fault: Option<&Fault>,
) -> Response<Full<Bytes>> {
    let put: PutRecords<'_> = serde_json::from_slice(body).expect("the SDK sends PutRecords as JSON");
    assert!(!put.stream_name.is_empty());
    assert!(put.records.len() <= 500, "a call has at most 500 entries");
    if put.records.iter().any(|entry| entry.explicit_hash_key.is_some()) {
        // The probe's, which no stream has.
        return error(400, "InvalidArgumentException");
    }
    let decode =
        |entry: &Entry<'_>| base64::prelude::BASE64_STANDARD.decode(entry.data).expect("data is base64");
    let entries: Vec<(Vec<u8>, &str)> = put.records.iter().map(|e| (decode(e), e.partition_key)).collect();
    let total: usize = entries.iter().map(|(data, key)| data.len() + key.len()).sum();
    assert!(total <= 5 << 20, "a call has at most 5 MiB");
    if let Some(poison) = &state.poison
        && entries.iter().any(|(data, _)| String::from_utf8_lossy(data).contains(poison))
    {
        return error(400, "ValidationException");
    }
    let mut failed = 0;
    let mut records = Vec::new();
    for (index, (data, key)) in entries.iter().enumerate() {
        let shard =
            key.bytes().fold(7usize, |hash, byte| hash.wrapping_mul(31) + usize::from(byte)) % options.shards;
        let random_failure = match &mut state.random {
            Some(random) => random.f64() < state.entry_failure_rate,
            None => false,
        };
        let code = match fault {
            Some(Fault::HalfFail(code)) if index % 2 == 0 => Some(*code),
            _ if random_failure => Some("InternalFailure"),
            _ if options.limited && !state.take(shard, data.len() + key.len()) => {
                state.seen.rejected_entries += 1;
                Some("ProvisionedThroughputExceededException")
            }
            _ => None,
        };
        records.push(match code {
            Some(code) => {
                failed += 1;
                format!(r#"{{"ErrorCode":"{code}","ErrorMessage":"as scripted"}}"#)
            }
            None => {
                state.keep(data, key, options);
                format!(r#"{{"SequenceNumber":"{}","ShardId":"shardId-{shard:012}"}}"#, state.next_number)
            }
        });
    }
    json(200, format!(r#"{{"FailedRecordCount":{failed},"Records":[{}]}}"#, records.join(",")))
}

impl State {
    fn take(&mut self, shard: usize, bytes: usize) -> bool {
        const BYTES_PER_S: f64 = 1_000_000.0;
        const RECORDS_PER_S: f64 = 1_000.0;
        let now = Instant::now();
        let full = || Bucket { bytes: BYTES_PER_S, records: RECORDS_PER_S, at: now };
        let bucket = self.buckets.entry(shard).or_insert_with(full);
        let elapsed = now.duration_since(bucket.at).as_secs_f64();
        bucket.at = now;
        bucket.bytes = (bucket.bytes + elapsed * BYTES_PER_S).min(BYTES_PER_S);
        bucket.records = (bucket.records + elapsed * RECORDS_PER_S).min(RECORDS_PER_S);
        if bucket.bytes < bytes as f64 || bucket.records < 1.0 {
            return false;
        }
        bucket.bytes -= bytes as f64;
        bucket.records -= 1.0;
        true
    }

    fn keep(&mut self, data: &[u8], key: &str, options: &Options) {
        self.next_number += 1;
        let seen = &mut self.seen;
        seen.accepted_entries += 1;
        seen.accepted_bytes += (data.len() + key.len()) as u64;
        let now = Instant::now();
        seen.first_accepted.get_or_insert(now);
        seen.last_accepted = Some(now);
        let lines = data.split_inclusive(|byte| *byte == b'\n');
        for (index, line) in lines.enumerate() {
            assert!(index < 500, "a record has at most 500 lines");
            assert!(options.foreign || line.last() == Some(&b'\n'), "a line ends in a newline");
            let sequence = sequence_of(line);
            if seen.counts.len() <= sequence {
                seen.counts.resize(sequence + 1, 0);
            }
            seen.counts[sequence] = seen.counts[sequence].saturating_add(1);
            if options.keep_lines {
                seen.delays_ms.push(delay_ms(line));
                seen.lines.push(String::from_utf8(line.trim_ascii_end().to_vec()).expect("a line is UTF-8"));
            }
        }
    }
}

/// The number after `"sequence":`, also where the quotes are escaped, without parsing the whole line.
fn sequence_of(line: &[u8]) -> usize {
    const NAME: &[u8] = b"\"sequence";
    let at = line.windows(NAME.len()).position(|window| window == NAME).expect("a line has a sequence");
    let value = line[at + NAME.len()..].iter().skip_while(|byte| !byte.is_ascii_digit());
    let digits = value.take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

/// From the time stamp that the line begins with until now.
fn delay_ms(line: &[u8]) -> i64 {
    let text = str::from_utf8(&line[14..38]).expect("a time stamp has 24 characters");
    let taken = chrono::DateTime::parse_from_rfc3339(text).expect("a time stamp is RFC 3339");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64 - taken.timestamp_millis()
}

fn error(status: u16, code: &str) -> Response<Full<Bytes>> {
    json(status, format!(r#"{{"__type":"{code}","message":"as scripted"}}"#))
}

fn too_large() -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from("<html>413</html>"));
    let answer = Response::builder().status(413).header("content-type", "text/html");
    answer.body(body).expect("the parts are right")
}

fn json(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(Full::new(Bytes::from(body)))
        .expect("the parts are right")
}
