//! The Lambda function: environment, logs, handler.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use hr_indexer::index::Retention;
use hr_indexer::opensearch::OpenSearch;
use hr_indexer::{function, handler};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;

fn main() -> ExitCode {
    function::run(serve)
}

fn serve() -> Result<(), Error> {
    let search = OpenSearch::from_environment(|name| std::env::var(name).ok())?;
    let days = std::env::var("READINGS_RETENTION_DAYS").unwrap_or_default();
    let days = days.parse().map_err(|_| "READINGS_RETENTION_DAYS is not set to a number of days")?;
    let retention = Retention { days };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Read by the handler: what does not fit shall be told without being quoted.
    let service = service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let now = SystemTime::now();
        let now_ms = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let time_left = event.context.deadline().duration_since(now).unwrap_or_default();
        handler::handle(&search, retention, event.payload.get(), now_ms, time_left).await
    });
    runtime.block_on(lambda_runtime::run(service))
}
