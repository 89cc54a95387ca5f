//! A copy of what the sink accepted, in a directory.
//!
//! The ledger follows the sink alone. A copy is made after the sink has accepted a reading, holds up nothing, and is
//! not made up for: what a full disk does not take, or what a crash comes between, is missing in the copy, which is
//! said once and then counted.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::RecordSink;
use super::batch::Record;
use super::settle::{CallError, EntryVerdict};

/// Calls whose copies may wait: some megabytes.
const CALLS_AHEAD: usize = 16;

/// A sink that hands on what it accepted.
pub struct Copied {
    sink: Arc<dyn RecordSink>,
    copies: mpsc::Sender<Vec<Record>>,
}

/// Writes what is handed on.
pub struct Copier {
    into: Arc<dyn RecordSink>,
    copies: mpsc::Receiver<Vec<Record>>,
}

/// `sink`, and what copies what it accepts `into` another, for as long as it [runs](Copier::run).
pub fn copied(sink: Arc<dyn RecordSink>, into: Arc<dyn RecordSink>) -> (Copied, Copier) {
    let (sender, copies) = mpsc::channel(CALLS_AHEAD);
    (Copied { sink, copies: sender }, Copier { into, copies })
}

impl RecordSink for Copied {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        Box::pin(async move {
            let verdicts = self.sink.put(records).await?;
            let accepted = records.iter().zip(&verdicts);
            let accepted = accepted.filter(|(_, verdict)| matches!(verdict, EntryVerdict::Accepted { .. }));
            let accepted: Vec<Record> = accepted.map(|(record, _)| record.clone()).collect();
            if let Err(mpsc::error::TrySendError::Full(missing)) = self.copies.try_send(accepted) {
                let readings: usize = missing.iter().map(|record| record.sequences.len()).sum();
                warn!(
                    readings,
                    "the copy is slower than the sink; these readings are missing in it, and only there"
                );
            }
            Ok(verdicts)
        })
    }

    fn kind(&self) -> &'static str {
        self.sink.kind()
    }
}

impl Copier {
    /// Copies until the sink is gone and nothing waits.
    pub async fn run(mut self) {
        let mut missing = 0;
        while let Some(records) = self.copies.recv().await {
            let readings: usize = records.iter().map(|record| record.sequences.len()).sum();
            match self.into.put(&records).await {
                Ok(_) if missing > 0 => {
                    info!(missing, "the copy is written again; readings that are missing in it: {missing}");
                    missing = 0;
                }
                Ok(_) => {}
                Err(error) => {
                    if missing == 0 {
                        warn!(
                            %error,
                            "the copy cannot be written ([directory]); the sink has the readings all the same"
                        );
                    }
                    missing += readings;
                }
            }
        }
    }
}
