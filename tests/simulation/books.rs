//! The judge's own account of what became of what, by sensor.

use hr_gateway::queue::ledger::{Account, Ledger};

use crate::history::SENSORS;

/// Readings, or gap records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Column {
    pub received: u64,
    pub delivered: u64,
    pub queued: u64,
    pub dead: u64,
    pub evicted: u64,
}

/// One sensor's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Page {
    pub readings: Column,
    pub others: Column,
    pub malformed: u64,
    /// Lost since the last gap record that told of it.
    pub untold: u64,
    /// The number of the last reading.
    pub last: Option<usize>,
}

/// All sensors'. What is in them is as old as the store: they go back with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Books(pub [Page; SENSORS.len()]);

impl Column {
    fn says_the_same(&self, account: &Account) -> bool {
        let Self { received, delivered, queued, dead, evicted } = *self;
        let theirs =
            [account.received, account.delivered, account.queued, account.dead_lettered, account.evicted];
        theirs == [received, delivered, queued, dead, evicted]
            && received == delivered + queued + dead + evicted
    }
}

impl Page {
    pub fn column(&mut self, is_other: bool) -> &mut Column {
        if is_other { &mut self.others } else { &mut self.readings }
    }
}

impl Books {
    /// What the ledger says otherwise, if anything.
    pub fn compare(&self, ledger: &Ledger) -> Result<(), String> {
        for (page, name) in self.0.iter().zip(SENSORS) {
            let row = ledger.rows.iter().find(|(sensor, _)| sensor.as_str() == name);
            let row = row.map(|(_, row)| row.clone()).unwrap_or_default();
            let same = page.readings.says_the_same(&row.readings)
                && page.others.says_the_same(&row.other_records)
                && page.malformed == row.malformed;
            if !same {
                return Err(format!("the ledger of {name} says {row:?}; it should be {page:?}"));
            }
        }
        Ok(())
    }
}
