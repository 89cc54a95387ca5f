//! Damage inside the log is told from what a crash leaves at its end.

use std::path::Path;

use hr_gateway::queue::salvage::{Condition, condition};

use crate::salvage::{act, by_sled, codec, copy, open, salvaged};

const SECTOR: usize = 512;

fn flip(bytes: &mut [u8], at: usize, random: &mut fastrand::Rng) {
    bytes[at] ^= 1 << random.u8(..8);
}

/// The disk after a power cut: of the sectors that differ, any part was written.
fn torn(before: &[u8], after: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let survive = random.u8(..=100);
    let mut disk = after.to_vec();
    for (index, sector) in disk.chunks_mut(SECTOR).enumerate() {
        if random.u8(..100) >= survive {
            let old = before.get(index * SECTOR..).unwrap_or_default();
            let kept = old.len().min(sector.len());
            sector[..kept].copy_from_slice(&old[..kept]);
            sector[kept..].fill(0);
        }
    }
    disk
}

#[test]
fn a_kill_or_a_power_cut_at_any_moment_is_no_damage() {
    for seed in 0..3 {
        let mut random = fastrand::Rng::with_seed(100 + seed);
        let folder = tempfile::tempdir().unwrap();
        for life in 0..2 {
            let queue = open(folder.path(), codec(seed));
            let mut synced = std::fs::read(folder.path().join("db")).unwrap();
            for step in 0..random.u32(20..120) {
                let is_synced = act(&queue, &mut random);
                let killed = copy(folder.path());
                let name = format!("seed {seed}, life {life}, step {step}");
                assert!(condition(killed.path()).unwrap() != Condition::Damaged, "{name}, killed");
                let db = killed.path().join("db");
                let written = std::fs::read(&db).unwrap();
                for _ in 0..3 {
                    std::fs::write(&db, torn(&synced, &written, &mut random)).unwrap();
                    assert!(condition(killed.path()).unwrap() != Condition::Damaged, "{name}, power cut");
                }
                if step % 10 == 0 {
                    let found = salvaged(killed.path());
                    assert!(found == by_sled(killed.path()), "{name}: sled shows the same after a power cut");
                }
                if is_synced {
                    synced = std::fs::read(folder.path().join("db")).unwrap();
                }
            }
        }
    }
}

/// Where messages stand in the segments from the newest snapshot on, roughly: what is no zero.
fn written_part(folder: &Path) -> (Vec<u8>, Vec<usize>) {
    let bytes = std::fs::read(folder.join("db")).unwrap();
    let places = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    (bytes, places)
}

#[test]
fn a_flipped_bit_in_what_sled_would_read_is_found() {
    let mut random = fastrand::Rng::with_seed(8);
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path(), codec(1));
    (0..400).for_each(|_| _ = act(&queue, &mut random));
    let killed = copy(folder.path());
    let (whole, places) = written_part(killed.path());
    let mut found = 0;
    for _ in 0..200 {
        let mut bytes = whole.clone();
        flip(&mut bytes, places[random.usize(..places.len())], &mut random);
        std::fs::write(killed.path().join("db"), bytes).unwrap();
        found += u32::from(condition(killed.path()).unwrap() == Condition::Damaged);
    }
    println!("{found} of 200 flips found in {} KB", whole.len() / 1024);
    assert!(found >= 190, "{found} of 200");
}
