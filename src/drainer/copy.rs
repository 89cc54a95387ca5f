//! A copy of what the sink accepted, in a directory.
//!
//! The ledger follows the sink alone. A copy is made after the sink has accepted a reading, holds up nothing, and is
//! not made up for: what its disk is too full or too slow for, or what a crash comes between, is missing in it, which is
//! said once and then counted. Its lines stand in the order in which they were accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Since the copy kept up last.
    missing: Arc<AtomicU64>,
}

/// Writes what is handed on.
pub struct Copier {
    into: Arc<dyn RecordSink>,
    copies: mpsc::Receiver<Vec<Record>>,
    missing: Arc<AtomicU64>,
}

/// `sink`, and what copies what it accepts `into` another, for as long as it [runs](Copier::run).
pub fn copied(sink: Arc<dyn RecordSink>, into: Arc<dyn RecordSink>) -> (Copied, Copier) {
    let (sender, copies) = mpsc::channel(CALLS_AHEAD);
    let missing = Arc::<AtomicU64>::default();
    (Copied { sink, copies: sender, missing: missing.clone() }, Copier { into, copies, missing })
}

fn readings_of(records: &[Record]) -> u64 {
    records.iter().map(|record| record.sequences.len() as u64).sum()
}

impl RecordSink for Copied {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        Box::pin(async move {
            let verdicts = self.sink.put(records).await?;
            let accepted = records.iter().zip(&verdicts);
            let accepted = accepted.filter(|(_, verdict)| matches!(verdict, EntryVerdict::Accepted { .. }));
            let accepted: Vec<Record> = accepted.map(|(record, _)| record.clone()).collect();
            if let Err(mpsc::error::TrySendError::Full(accepted)) = self.copies.try_send(accepted)
                && self.missing.fetch_add(readings_of(&accepted), Ordering::Relaxed) == 0
            {
                warn!(
                    "the copy ([directory]) is slower than the sink; readings are missing in it, and only there"
                );
            }
            Ok(verdicts)
        })
    }

    fn identity_ends_at_s(&self) -> Option<i64> {
        self.sink.identity_ends_at_s()
    }

    fn kind(&self) -> &'static str {
        self.sink.kind()
    }

    fn calls_in_flight_max(&self) -> usize {
        self.sink.calls_in_flight_max()
    }
}

impl Copier {
    /// Copies until the sink is gone and nothing waits.
    pub async fn run(mut self) {
        while let Some(records) = self.copies.recv().await {
            match self.into.put(&records).await {
                Ok(_) if self.copies.is_empty() => {
                    let missing = self.missing.swap(0, Ordering::Relaxed);
                    if missing > 0 {
                        info!(missing, "the copy keeps up again; readings that are missing in it: {missing}");
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    if self.missing.fetch_add(readings_of(&records), Ordering::Relaxed) == 0 {
                        warn!(
                            %error,
                            "the copy cannot be written ([directory]); the sink has the readings all the same"
                        );
                    }
                }
            }
        }
    }
}
