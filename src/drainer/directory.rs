//! A folder as a sink: the same NDJSON, for use without a cloud.
//!
//! `<folder>/2025-07-15/readings-0001.ndjson`: the day is the reading's own, the number goes up when a
//! file has grown to its limit. What must hold: a record counts as accepted only after fsync of its
//! file and, for a new file, of the folders above; a file holds whole lines only, also after a power
//! cut in the middle of one; and nobody but their owner reads them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::RecordSink;
use super::batch::Record;
use super::settle::{CallError, EntryVerdict, ErrorClass};
use crate::blocking;
use crate::private;

/// Days kept open at once; the earliest is closed.
const OPEN_DAYS_MAX: usize = 8;
/// What a line begins with, by contract of [`wire`](crate::wire); the date follows.
const LINE_START: &[u8] = b"{\"timestamp\":\"";

/// A write that nobody waits for any more may still hang in an fsync, and would cut off what another sink
/// wrote after it.
static ONE_WRITES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A folder.
pub struct DirectorySink {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    folder: PathBuf,
    file_size_max: u64,
    open: BTreeMap<String, OpenDay>,
}

struct OpenDay {
    file: File,
    number: u32,
    bytes: u64,
}

impl DirectorySink {
    /// A sink for `folder`, created when the first record comes.
    pub fn new(folder: PathBuf, file_size_max: u64) -> Self {
        let inner = Inner { folder, file_size_max, open: BTreeMap::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }
}

impl RecordSink for DirectorySink {
    fn put<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<Vec<EntryVerdict>, CallError>> {
        let inner = self.inner.clone();
        let data: Vec<Vec<u8>> = records.iter().map(|record| record.data.clone()).collect();
        Box::pin(async move {
            let count = data.len();
            let turn = ONE_WRITES.lock().await;
            let written = blocking::run(move || {
                let _turn = turn;
                inner.lock().unwrap_or_else(PoisonError::into_inner).write(&data)
            });
            written.await.map(|()| vec![EntryVerdict::Accepted { shard: None }; count]).map_err(|error| {
                CallError {
                    class: ErrorClass::Blocked,
                    code: "DirectoryUnwritable".into(),
                    message: error.to_string(),
                }
            })
        })
    }

    fn identity_ends_at_s(&self) -> Option<i64> {
        None
    }

    fn kind(&self) -> &'static str {
        "directory"
    }

    /// A sensor's lines stand in their order.
    fn calls_in_flight_max(&self) -> usize {
        1
    }
}

impl Inner {
    fn write(&mut self, records: &[Vec<u8>]) -> io::Result<()> {
        let mut by_day: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for line in records.iter().flat_map(|data| data.split_inclusive(|byte| *byte == b'\n')) {
            by_day.entry(date_of(line)?).or_default().extend_from_slice(line);
        }
        for (date, lines) in by_day {
            let result = self.day(&date).and_then(|day| day.append(&lines));
            if result.is_err() {
                // Opened anew at the next try, which cuts off what was written of a line.
                self.open.remove(&date);
            }
            result?;
        }
        Ok(())
    }

    fn day(&mut self, date: &str) -> io::Result<&mut OpenDay> {
        if self.open.get(date).is_some_and(|day| day.bytes >= self.file_size_max) {
            let number = self.open.remove(date).map_or(1, |day| day.number + 1);
            self.open.insert(date.to_owned(), OpenDay::create(&self.folder, date, number)?);
        }
        if !self.open.contains_key(date) {
            if self.open.len() >= OPEN_DAYS_MAX {
                self.open.pop_first();
            }
            self.open.insert(date.to_owned(), OpenDay::resume(&self.folder, date, self.file_size_max)?);
        }
        Ok(self.open.get_mut(date).expect("it was just put there"))
    }
}

impl OpenDay {
    /// Goes on in the day's last file, or begins the next if that is full.
    fn resume(folder: &Path, date: &str, size_max: u64) -> io::Result<Self> {
        let number = last_number(&folder.join(date))?.unwrap_or(1);
        let day = Self::create(folder, date, number)?;
        if day.bytes >= size_max { Self::create(folder, date, number + 1) } else { Ok(day) }
    }

    fn create(folder: &Path, date: &str, number: u32) -> io::Result<Self> {
        let day_folder = folder.join(date);
        private::create_folders(&day_folder)?;
        private::restrict_folder(&day_folder)?;
        let mut file = private::open(&day_folder.join(format!("readings-{number:04}.ndjson")))?;
        let bytes = cut_torn_line(&mut file)?;
        for above in [&day_folder, folder] {
            File::open(above)?.sync_all()?;
        }
        sync_above(folder)?;
        Ok(Self { file, number, bytes })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.bytes += lines.len() as u64,
            // Whole lines that made it would come twice.
            Err(_) => self.file.set_len(self.bytes)?,
        }
        written
    }
}

/// Makes `folder` itself durable, and those above it. A folder that cannot be opened, or whose file system
/// knows no fsync or no writing, is one that nothing was made in.
fn sync_above(folder: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    for above in folder.ancestors().skip(1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            Err(error) if !matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem) => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

fn date_of(line: &[u8]) -> io::Result<String> {
    let date = line.strip_prefix(LINE_START).and_then(|rest| rest.get(..10));
    let date = date.and_then(|date| str::from_utf8(date).ok());
    date.map(str::to_owned).ok_or_else(|| io::Error::other("a line does not begin with its timestamp"))
}

fn last_number(day_folder: &Path) -> io::Result<Option<u32>> {
    let entries = match fs::read_dir(day_folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut last = None;
    for entry in entries {
        let name = entry?.file_name();
        let number = (name.to_str())
            .and_then(|name| name.strip_prefix("readings-"))
            .and_then(|name| name.strip_suffix(".ndjson"))
            .and_then(|number| number.parse::<u32>().ok());
        last = last.max(number);
    }
    Ok(last)
}

/// Cuts the file after its last whole line (what follows was never acknowledged, so it comes again) and
/// goes to its end. Returns its length.
fn cut_torn_line(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 4096;
    let mut end = file.metadata()?.len();
    let whole = end;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            end = start + newline as u64 + 1;
            break;
        }
        end = start;
    }
    if end < whole {
        file.set_len(end)?;
    }
    file.seek(SeekFrom::Start(end))
}
