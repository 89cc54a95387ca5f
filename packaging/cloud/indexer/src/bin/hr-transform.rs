//! The Lambda function of a Firehose delivery: environment, logs, handler.

use std::process::ExitCode;

use hr_indexer::function;
use hr_indexer::transform::{HighestRate, transform};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::{RawValue, to_raw_value};
use tracing::{info, warn};

fn main() -> ExitCode {
    function::run(serve)
}

fn serve() -> Result<(), Error> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
    let highest = variable("HIGHEST_RATE")?.parse().ok().and_then(HighestRate::new);
    let highest = highest.ok_or("HIGHEST_RATE is not a highest heart rate from 100 to 250")?;
    let first_day = variable("FIRST_DAY")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Read by the function itself: what does not fit shall be told without being quoted.
    let service = service_fn(async |event: LambdaEvent<Box<RawValue>>| {
        let (answer, counts) = transform(event.payload.get(), highest, &first_day)?;
        match counts.refused {
            0 => info!(lines = counts.taken, "Lines transformed"),
            refused => warn!(lines = counts.taken, refused, "Lines that are no gateway's are refused"),
        }
        Ok::<_, Error>(to_raw_value(&answer)?)
    });
    runtime.block_on(lambda_runtime::run(service))
}
