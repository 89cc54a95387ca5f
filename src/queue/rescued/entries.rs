//! What the entries of a damaged store tell, but for its items: what cannot be read of them is left out.

use crate::queue::QueueError;
use crate::queue::durable::layout::{Meta, decode_missing, decode_origin, missing_key};
use crate::queue::durable::rows::decode_row;
use crate::queue::ledger::Ledger;
use crate::queue::salvage::Salvaged;
use crate::queue::sequence_set::SequenceSet;
use crate::queue::sled::storage;
use crate::queue::witness::Mark;
use crate::reading::{GatewayId, Origin, Origins};

pub(super) fn read(salvaged: &Salvaged, key: &[u8]) -> Result<Option<Vec<u8>>, QueueError> {
    salvaged.value(key).map_err(storage("read its store"))
}

/// `None` if there is nothing to know them by.
pub(super) fn origins_of(
    salvaged: &Salvaged,
    meta: Option<&Meta>,
    mark: Option<&Mark>,
    gateway: &GatewayId,
) -> Result<Option<Origins>, QueueError> {
    let mut origins = Vec::new();
    for key in salvaged.keys(&b"e"[..]..&b"f"[..]) {
        origins.extend(read(salvaged, key)?.and_then(|value| decode_origin(key, &value)));
    }
    if let (true, Some(meta)) = (origins.is_empty(), meta) {
        origins.push(Origin { first_sequence: 1, epoch: meta.store, gateway: gateway.clone() });
    }
    if let Some(mark) = mark
        && origins.iter().all(|origin| origin.epoch != mark.opening)
    {
        // The last opening's: it is the witness that knows.
        let gateway = origins.last().map_or(gateway, |last| &last.gateway).clone();
        origins.push(Origin { first_sequence: mark.opened_at, epoch: mark.opening, gateway });
    }
    Ok(Origins::new(origins))
}

pub(super) fn missing_of(salvaged: &Salvaged) -> Result<SequenceSet, QueueError> {
    let mut missing = SequenceSet::default();
    for key in salvaged.keys(missing_key(0)..=missing_key(u64::MAX)) {
        let range = read(salvaged, key)?.and_then(|value| decode_missing(key, &value));
        range.into_iter().for_each(|range| missing.insert_range(range));
    }
    Ok(missing)
}

pub(super) fn rows_of(salvaged: &Salvaged) -> Result<Ledger, QueueError> {
    let mut ledger = Ledger::default();
    for key in salvaged.keys(&b"l"[..]..&b"m"[..]) {
        let row = read(salvaged, key)?.and_then(|value| decode_row(key, &value));
        ledger.rows.extend(row);
    }
    Ok(ledger)
}
