//! What needs no OpenSearch: the decisions.

mod pure {
    pub mod batch;
    pub mod bulk;
    pub mod deadline;
    pub mod minutes;
    pub mod retention;
    pub mod transform;
    pub mod window;
}

/// A line as the gateway writes it, with the sequence `sequence` and at `taken_ms`.
fn line(sensor: &str, sequence: u64, taken_ms: i64, rr_intervals_ms: &[f64]) -> String {
    let timestamp = hr_gateway::wire::Timestamp::from_ms(taken_ms);
    format!(
        "{{\"timestamp\":\"{}\",\"heart_rate\":{},\"reading_id\":\"00000000000000aa-{sequence}\",\
         \"gateway_id\":\"living-room\",\"sensor_id\":\"{sensor}\",\"session_id\":\"00000000000000aa-s0\",\
         \"sequence\":{sequence},\"rr_intervals_ms\":{rr_intervals_ms:?},\"clock\":\"synchronized\",\"schema_version\":1}}",
        timestamp.as_str(),
        60 + sequence % 40,
    )
}

/// The same, read.
fn reading(sequence: u64, taken_ms: i64, rr_intervals_ms: &[f64]) -> hr_indexer::line::Reading<'static> {
    hr_indexer::line::Reading::parse(&line("forerunner", sequence, taken_ms, rr_intervals_ms)).unwrap()
}
