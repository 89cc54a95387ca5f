//! A failing history, made as short as it can be, and the command that plays it again.

use std::ops::ControlFlow;

use crate::history;
use crate::plant::Plant;
use crate::world::{self, Outcome};

/// Most histories that are tried for a shorter one.
const TRIES_MAX: u32 = 500;

/// A seed, and which of its events happen; all, if `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    pub seed: u64,
    pub kept: Option<Vec<usize>>,
}

impl Replay {
    pub fn run(&self, plant: Option<Plant>) -> Result<Outcome, String> {
        let (profile, events) = history::draw(self.seed);
        let events: Vec<_> = match &self.kept {
            None => events,
            Some(kept) => kept.iter().filter_map(|index| events.get(*index).copied()).collect(),
        };
        world::live(self.seed, profile, &events, plant)
    }

    /// `17` or `17:0,3,9`.
    pub fn parse(text: &str) -> Option<Self> {
        let (seed, kept) = match text.split_once(':') {
            None => (text, None),
            Some((seed, "")) => (seed, Some(Vec::new())),
            Some((seed, kept)) => {
                (seed, Some(kept.split(',').map(str::parse).collect::<Result<_, _>>().ok()?))
            }
        };
        Some(Self { seed: seed.parse().ok()?, kept })
    }

    /// What a person types.
    pub fn command(&self) -> String {
        let kept = self.kept.as_ref().map(|kept| kept.iter().map(usize::to_string).collect::<Vec<_>>());
        let kept = kept.map_or(String::new(), |kept| format!(":{}", kept.join(",")));
        format!("SIMULATION_REPLAY={}{kept} cargo test --locked --test simulation histories", self.seed)
    }
}

/// Leaves out what is not needed for `seed` to fail, in larger and then smaller pieces.
pub fn shrink(seed: u64, plant: Option<Plant>) -> Replay {
    let all = history::draw(seed).1.len();
    let mut shortest = Replay { seed, kept: Some((0..all).collect()) };
    let mut tries = 0;
    let mut piece = all.div_ceil(2);
    while piece > 0 {
        let found = try_without(&shortest, piece, plant, &mut tries);
        match found {
            ControlFlow::Break(shorter) => shortest = shorter,
            ControlFlow::Continue(()) if piece == 1 => break,
            ControlFlow::Continue(()) => piece = piece.div_ceil(2),
        }
        if tries >= TRIES_MAX {
            break;
        }
    }
    shortest
}

fn try_without(replay: &Replay, piece: usize, plant: Option<Plant>, tries: &mut u32) -> ControlFlow<Replay> {
    let kept = replay.kept.as_deref().unwrap_or_default();
    for from in (0..kept.len()).step_by(piece) {
        let until = kept.len().min(from + piece);
        let shorter = Replay { seed: replay.seed, kept: Some([&kept[..from], &kept[until..]].concat()) };
        *tries += 1;
        if shorter.run(plant).is_err() {
            return ControlFlow::Break(shorter);
        }
    }
    ControlFlow::Continue(())
}
