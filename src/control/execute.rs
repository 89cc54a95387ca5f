//! Carrying out what is asked of the queue, in steps that leave it free in between.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{ControlError, QueueRequest, Reply, Selection};
use crate::blocking;
use crate::config::DrainOrder;
use crate::queue::handle::Handle;
use crate::queue::rescued::Rescuer;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::{Absorbable, DeadLetter, QueueError, ReadingQueue};
use crate::reading::Item;
use crate::wire::{self, Envelope};

/// Items read at once by an export.
const EXPORT_ITEMS: usize = 5_000;

/// Carries out `request`; what there is to say goes to `say` as it comes. Who hears slowly holds up nobody
/// else: between two steps the queue is free.
pub async fn execute(
    queue: &Handle,
    rescuer: &Rescuer,
    request: &QueueRequest,
    say: &mpsc::Sender<Reply>,
) -> Result<u64, ControlError> {
    match request {
        QueueRequest::Status => {
            tell(say, Reply::Status(Box::new(queue.status().await?))).await?;
            Ok(1)
        }
        QueueRequest::Export => export(queue, say).await,
        QueueRequest::DeadLetters => {
            let mut letters = DeadLetters::of(queue);
            let mut count = 0;
            while let Some((letter, envelope)) = letters.next().await? {
                let line = line_of(&letter.item, envelope);
                let sequence = letter.item.sequence;
                count += 1;
                tell(say, Reply::DeadLetter { sequence, reason: letter.reason, line }).await?;
            }
            Ok(count)
        }
        QueueRequest::Requeue(selection) => in_steps(queue, selection, AfterAll::Queue, say).await,
        QueueRequest::Recover(folder) => recover(queue, rescuer.clone(), folder.clone(), say).await,
        QueueRequest::Drop(selection) => in_steps(queue, selection, AfterAll::Nowhere, say).await,
    }
}

/// Fails when nobody hears any more.
pub(super) async fn tell(say: &mpsc::Sender<Reply>, reply: Reply) -> io::Result<()> {
    say.send(reply).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

fn line_of(item: &Item, envelope: &Envelope) -> String {
    let mut line = Vec::new();
    wire::write_line(item, envelope, &mut line);
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

async fn export(queue: &Handle, say: &mpsc::Sender<Reply>) -> Result<u64, ControlError> {
    let total = queue.depth();
    let mut seen = SequenceSet::default();
    let mut count = 0;
    loop {
        let envelope = queue.envelope().await;
        let items = queue.peek(DrainOrder::OldestFirst, seen.clone(), EXPORT_ITEMS).await?;
        let Some(last) = items.last().map(|item| item.sequence) else { return Ok(count) };
        seen.insert_range(0..=last);
        for item in &items {
            tell(say, Reply::Line(line_of(item, &envelope))).await?;
        }
        count += items.len() as u64;
        tell(say, Reply::Progress(count, total.max(count))).await?;
    }
}

/// All dead letters, read some at a time.
struct DeadLetters<'a> {
    queue: &'a Handle,
    from: u64,
    read: std::vec::IntoIter<DeadLetter>,
    envelope: Option<Envelope>,
}

impl<'a> DeadLetters<'a> {
    fn of(queue: &'a Handle) -> Self {
        Self { queue, from: 0, read: Vec::new().into_iter(), envelope: None }
    }

    async fn next(&mut self) -> Result<Option<(DeadLetter, &Envelope)>, QueueError> {
        if self.read.as_slice().is_empty() {
            self.read = self.queue.dead_letters(self.from, EXPORT_ITEMS).await?.into_iter();
            self.envelope = Some(self.queue.envelope().await);
        }
        let next = self.read.next();
        self.from = next.as_ref().map_or(self.from, |letter| letter.item.sequence + 1);
        Ok(next.zip(self.envelope.as_ref()))
    }
}

/// Reading the damaged store takes its time; it is done aside.
async fn recover(
    queue: &Handle,
    rescuer: Rescuer,
    folder: PathBuf,
    say: &mpsc::Sender<Reply>,
) -> Result<u64, ControlError> {
    let rescued = Arc::new(blocking::run(move || rescuer.read(&folder)).await?);
    let readable = rescued.readable().count() + rescued.dead().count();
    let origins = rescued.envelope().origins;
    let (mut seen, mut from, mut taken) = (SequenceSet::default(), 0, 0);
    loop {
        let (source, claimed) = (rescued.clone(), seen.clone());
        let items = move || source.peek(DrainOrder::OldestFirst, &claimed, EXPORT_ITEMS);
        let source = rescued.clone();
        let letters = move || source.dead_letters(from, EXPORT_ITEMS);
        let (items, letters) = (blocking::run(items).await?, blocking::run(letters).await?);
        if items.is_empty() && letters.is_empty() {
            break;
        }
        items.last().into_iter().for_each(|last| seen.insert_range(0..=last.sequence));
        from = letters.last().map_or(from, |last| last.item.sequence + 1);
        taken += queue.absorb(Absorbable { origins: origins.clone(), items, letters }).await?;
        tell(say, Reply::Progress(taken, readable)).await?;
    }
    let missing = queue.missing().await.ranges().map(RangeInclusive::into_inner).collect();
    tell(say, Reply::Rescued { readable, passed_over: rescued.passed_over(), missing }).await?;
    Ok(taken)
}

/// Where dead letters go in the end.
#[derive(Debug, Clone, Copy)]
enum AfterAll {
    Queue,
    Nowhere,
}

async fn in_steps(
    queue: &Handle,
    selection: &Selection,
    to: AfterAll,
    say: &mpsc::Sender<Reply>,
) -> Result<u64, ControlError> {
    const STEP: usize = 500;
    let mut chosen = Vec::new();
    match selection {
        Selection::Sequences(sequences) => chosen.clone_from(sequences),
        Selection::All => {
            let mut letters = DeadLetters::of(queue);
            while let Some((letter, _)) = letters.next().await? {
                chosen.push(letter.item.sequence);
            }
        }
    }
    let mut moved = 0;
    for (step, sequences) in chosen.chunks(STEP).enumerate() {
        let set = sequences.iter().copied().collect();
        moved += match to {
            AfterAll::Queue => queue.requeue(set).await?,
            AfterAll::Nowhere => queue.drop_dead_letters(set).await?,
        };
        tell(say, Reply::Progress((step * STEP + sequences.len()) as u64, chosen.len() as u64)).await?;
    }
    Ok(moved)
}
