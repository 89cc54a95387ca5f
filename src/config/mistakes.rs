//! What is wrong with a configuration: every mistake of it, each in one line ready for a person.

use std::fmt;

use super::Layers;
use crate::printable::Printable;

/// One mistake: where it stands, what was found there, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    source: String,
    place: String,
    what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, place, what } = self;
        let text = match place.is_empty() {
            true => format!("{source}: {what}"),
            false => format!("{source}: {place}: {what}"),
        };
        // A value may hold anything; a mistake is one line.
        Printable(&text).fmt(f)
    }
}

/// Why a configuration is not taken: at least one mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(Vec<Mistake>);

impl ConfigError {
    /// One that concerns the whole of `source`.
    pub fn of(source: impl fmt::Display, what: impl fmt::Display) -> Self {
        let (source, what) = (source.to_string(), what.to_string());
        Self(vec![Mistake { source, place: String::new(), what }])
    }

    /// Every mistake, in the order of the file's sections.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

/// Gathers mistakes.
pub(super) struct Mistakes<'a> {
    layers: &'a Layers,
    found: Vec<Mistake>,
    keys: Vec<String>,
    /// Which `[[sensor]]` blocks could be read, in the order of what came of them.
    pub(super) blocks: Vec<usize>,
}

impl<'a> Mistakes<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self { layers, found: Vec::new(), keys: Vec::new(), blocks: Vec::new() }
    }

    /// Notes one at `key`, unless there is one already: what a bad value leads to is not told as well.
    pub(super) fn add(&mut self, key: &str, what: impl fmt::Display) {
        self.note(key, self.layers.origin(key), format!("`{key}`"), what);
    }

    /// Notes one at `key` of a `[[sensor]]` block, by its place among all from 1 on and its name, if it has one.
    pub(super) fn add_in_block(
        &mut self,
        key: &str,
        block: usize,
        id: Option<&str>,
        what: impl fmt::Display,
    ) {
        let named = id.map(|id| format!(" (`{id}`)")).unwrap_or_default();
        let of_file = self.layers.block_in_file(block - 1);
        let place = match key {
            "" => format!("`sensor` block {of_file}{named}"),
            key => format!("`sensor.{key}` of block {of_file}{named}"),
        };
        let origin = self.layers.origin(&format!("sensor.{}.{key}", block - 1));
        self.note(&format!("sensor.{block}.{key}"), origin, place, what);
    }

    /// Whether `key` is known to be wrong.
    pub(super) fn concern(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    fn note(&mut self, key: &str, source: String, place: String, what: impl fmt::Display) {
        if self.concern(key) {
            return;
        }
        self.keys.push(key.to_owned());
        self.found.push(Mistake { source, place, what: what.to_string() });
    }

    /// An error if there are any.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        if self.found.is_empty() { Ok(()) } else { Err(ConfigError(self.found)) }
    }
}
