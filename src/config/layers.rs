//! The layers under a configuration, read key by key.
//!
//! serde stops at the first value that it cannot take. So each key is given to it alone, in a section that
//! is otherwise empty: what it says is noted, and the others are read all the same.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Tag, Value};
use serde::de::DeserializeOwned;

use super::mistakes::Mistakes;
use super::{Config, ConfigError, ENV_PREFIX, SensorConfig, Validated};

/// Most bytes of a configuration file: no list of sensors comes near, and a wrong path may lead anywhere.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The folder beside the file whose `*.toml` are read after it, in the order of their names.
const CONF_D: &str = "conf.d";

/// The layers under a [`Config`], kept to tell where each value came from.
#[derive(Debug, Clone)]
pub struct Layers {
    figment: Figment,
}

impl Layers {
    /// Defaults, then the file at `path` (which must exist if `required`), then those in `conf.d` beside it, then the
    /// environment. A later file's value takes the place of an earlier one's; `[[sensor]]` blocks, and the elements of
    /// other lists, add up.
    pub fn read(path: &Path, required: bool) -> Result<Self, ConfigError> {
        let env = Env::prefixed(ENV_PREFIX).split("__").ignore(&["config"]);
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        let is_there =
            !matches!(std::fs::metadata(path), Err(error) if error.kind() == std::io::ErrorKind::NotFound);
        if is_there || required {
            is_read(path)?;
            figment = with_file(figment, path)?;
        }
        let beside = path.parent().unwrap_or(Path::new("")).join(CONF_D);
        for file in files_in(&beside)? {
            figment = with_file(figment, &file)?;
        }
        Ok(Self { figment: figment.merge(env) })
    }

    /// The validated whole, or everything that is wrong with it.
    pub fn config(&self) -> Result<Validated, ConfigError> {
        let mut mistakes = Mistakes::new(self);
        let config = self.sections(&mut mistakes);
        Validated::new(config, mistakes)
    }

    /// What can be read, the default in place of what cannot.
    fn sections(&self, mistakes: &mut Mistakes<'_>) -> Config {
        for key in self.figment.extract::<Dict>().unwrap_or_default().into_keys() {
            if let Err(error) = alone(&key, Value::from(Dict::new())).deserialize::<Config>()
                && matches!(error.kind, Kind::UnknownField(..))
            {
                mistakes.add(&key, words(&error.kind));
            }
        }
        Config {
            gateway: self.section("gateway", mistakes),
            sensor: self.sensors(mistakes),
            bluetooth: self.section("bluetooth", mistakes),
            session: self.section("session", mistakes),
            clock: self.section("clock", mistakes),
            queue: self.section("queue", mistakes),
            drain: self.section("drain", mistakes),
            kinesis: self.section("kinesis", mistakes),
            directory: self.section("directory", mistakes),
            page: self.section("page", mistakes),
            log: self.section("log", mistakes),
        }
    }

    fn section<T: Default + DeserializeOwned>(&self, name: &str, mistakes: &mut Mistakes<'_>) -> T {
        let Ok(value) = self.figment.find_value(name) else { return T::default() };
        let Some(keys) = value.into_dict() else {
            mistakes.add(name, format!("is a section: write [{name}], and its keys below"));
            return T::default();
        };
        let mut good = Dict::new();
        for (key, value) in keys {
            match alone(&key, value.clone()).deserialize::<T>() {
                Ok(_) => _ = good.insert(key, value),
                Err(error) => mistakes.add(&format!("{name}.{}", place(&key, &error)), words(&error.kind)),
            }
        }
        Value::from(good).deserialize().unwrap_or_default()
    }

    fn sensors(&self, mistakes: &mut Mistakes<'_>) -> Vec<SensorConfig> {
        let blocks = match self.figment.find_value("sensor") {
            Ok(Value::Array(_, blocks)) => blocks,
            Ok(_) => {
                mistakes.add("sensor", "is a list of blocks: write [[sensor]], with two brackets");
                return Vec::new();
            }
            Err(_) => return Vec::new(),
        };
        let numbered = (1..).zip(blocks);
        let read = numbered.filter_map(|(block, value)| Some((block, sensor(block, value, mistakes)?)));
        let (blocks, sensors) = read.collect::<Vec<_>>().into_iter().unzip();
        mistakes.blocks = blocks;
        sensors
    }

    /// Where the value of `key` (`queue.path`, `sensor.0.id`) came from: `default`, a file, or a
    /// variable.
    pub fn origin(&self, key: &str) -> String {
        // Of a key that is not there, what is above it tells.
        let known = std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(above, _)| above));
        let tag = known.filter_map(|key| self.tag(key)).next();
        match tag.and_then(|tag| self.figment.get_metadata(tag)) {
            Some(metadata) if !metadata.name.starts_with("hr_gateway") => origin_name(metadata, key),
            _ => "default".into(),
        }
    }

    /// Which `[[sensor]]` block of its own file the one at `index` is, from 1.
    pub(super) fn block_in_file(&self, index: usize) -> usize {
        let blocks = self.figment.find_value("sensor").ok();
        let blocks = blocks.as_ref().and_then(Value::as_array).unwrap_or_default();
        let own = blocks.get(index).map(Value::tag);
        1 + blocks.iter().take(index).filter(|block| Some(block.tag()) == own).count()
    }

    /// Of a list it is that of its last element: the list itself is as old as its first.
    fn tag(&self, key: &str) -> Option<Tag> {
        let (list, index) = key.rsplit_once('.').unwrap_or_default();
        if let Ok(index) = index.parse::<usize>() {
            return Some(self.figment.find_value(list).ok()?.as_array()?.get(index)?.tag());
        }
        let value = self.figment.find_value(key).ok()?;
        let last = value.as_array().and_then(|elements| elements.last());
        Some(last.map_or(value.tag(), Value::tag))
    }
}

/// `figment`, and what is in the file at `path`.
fn with_file(figment: Figment, path: &Path) -> Result<Figment, ConfigError> {
    let fail = |what: String| ConfigError::of(path.display(), what);
    if let Err(error) = std::fs::File::open(path) {
        return Err(fail(format!("cannot be read: {error}{}", hint(&error))));
    }
    // What is no TOML has no keys to go through.
    let toml = || Toml::file_exact(path);
    match Figment::from(toml()).extract::<Value>() {
        Ok(_) => Ok(figment.admerge(toml())),
        Err(error) => Err(fail(error.kind.to_string().trim_end().replace('\n', " "))),
    }
}

/// The `*.toml` in `folder`, if there is one, by name.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let fail = |error: std::io::Error| {
        ConfigError::of(folder.display(), format!("cannot be read: {error}{}", hint(&error)))
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".toml") && !name.starts_with('.') {
            is_read(&path)?;
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether what is at `path` is a file that is read.
fn is_read(path: &Path) -> Result<(), ConfigError> {
    let fail = |what: String| Err(ConfigError::of(path.display(), what));
    match std::fs::metadata(path) {
        Err(error) => fail(format!("cannot be read: {error}{}", hint(&error))),
        Ok(found) if !found.is_file() => fail("is no file".into()),
        Ok(found) if found.len() > FILE_BYTES_MAX => {
            fail(format!("has {} bytes; allowed are {FILE_BYTES_MAX}", found.len()))
        }
        Ok(_) => Ok(()),
    }
}

/// A sensor, if its block can be read and has a name.
fn sensor(block: usize, value: Value, mistakes: &mut Mistakes<'_>) -> Option<SensorConfig> {
    let Some(keys) = value.into_dict() else {
        mistakes.add_in_block("", block, None, "is no block of keys");
        return None;
    };
    let id = keys.get("id").and_then(Value::as_str).map(str::to_owned);
    let mut good = Dict::new();
    for (key, value) in keys {
        // What is not its name is tried beside one.
        let mut one = Dict::from([("id".to_owned(), Value::from("x"))]);
        one.insert(key.clone(), value.clone());
        match Value::from(one).deserialize::<SensorConfig>() {
            Ok(_) => _ = good.insert(key, value),
            Err(error) => mistakes.add_in_block(&key, block, id.as_deref(), secretive(&key, &error.kind)),
        }
    }
    if id.is_none() {
        mistakes.add_in_block(
            "id",
            block,
            None,
            "is missing, or no text; give each sensor a name of its own",
        );
    }
    Value::from(good).deserialize().ok()
}

/// A passkey and an address are not shown in a journal, not even half of them.
fn secretive(key: &str, kind: &Kind) -> String {
    match key {
        "passkey" => "a passkey is a number of at most 6 digits, without quotes".into(),
        "address" => "write a Bluetooth address like \"D4:4A:C4:B0:24:03\"".into(),
        _ => words(kind),
    }
}

fn words(kind: &Kind) -> String {
    match kind {
        Kind::UnknownField(_, known) => format!("unknown key; allowed are `{}`", known.join("`, `")),
        kind => kind.to_string(),
    }
}

fn alone(key: &str, value: Value) -> Value {
    Value::from(Dict::from([(key.to_owned(), value)]))
}

/// The key, or the place in the list under it.
fn place(key: &str, error: &figment::Error) -> String {
    match error.path.as_slice() {
        [first, .., last] if first == key => format!("{key}.{last}"),
        _ => key.to_owned(),
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; run this as root",
        _ => "",
    }
}

fn origin_name(metadata: &figment::Metadata, key: &str) -> String {
    match &metadata.source {
        Some(figment::Source::File(path)) => path.display().to_string(),
        _ if metadata.name.contains("environment") => {
            format!("environment variable {ENV_PREFIX}{}", key.replace('.', "__").to_uppercase())
        }
        _ => "built-in default".into(),
    }
}
