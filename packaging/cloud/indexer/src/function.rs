//! What a Lambda function's program does before and after its work: logs for CloudWatch, and how it ends.

use std::process::ExitCode;

use lambda_runtime::Error;
use tracing::error;
use tracing::level_filters::LevelFilter;

use crate::writing::chain;

/// Runs `serve`, which returns only where the function cannot run.
pub fn run(serve: impl FnOnce() -> Result<(), Error>) -> ExitCode {
    // CloudWatch adds the time.
    tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_target(false)
        .with_max_level(LevelFilter::INFO)
        .with_writer(std::io::stderr)
        .init();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(cause = chain(&*error), "The function cannot run");
            ExitCode::FAILURE
        }
    }
}
