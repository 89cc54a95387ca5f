//! Values as people write them: durations, sizes, addresses.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A Bluetooth address: `D4:4A:C4:B0:24:03`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub [u8; 6]);

/// How a sensor's device is named: `"TICKR"` is that very name, `"TICKR*"` any that begins so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct NamePattern {
    text: String,
    is_prefix: bool,
}

/// Which adapter: `hci0` by its name, which it may not keep, or by its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdapterChoice {
    /// By its name.
    Name(String),
    /// By its address.
    Address(Address),
}

/// A duration as people write it: `"500ms"`, `"5s"`, `"10m"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// A number of bytes as people write it: `"64 MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

impl Span {
    pub(super) const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    pub(super) const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = humantime::parse_duration(text);
        parsed
            .map(Self)
            .map_err(|_| format!("found `{text}`; write a duration like \"500ms\", \"5s\" or \"10m\""))
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<bytesize::ByteSize>();
        parsed
            .map(|size| Self(size.0))
            .map_err(|_| format!("found `{text}`; write a size like \"64 MiB\" or \"1 GiB\""))
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        let mut part = || parts.next().filter(is_byte).and_then(|part| u8::from_str_radix(part, 16).ok());
        let complete = bytes.iter_mut().all(|byte| part().map(|value| *byte = value).is_some());
        if complete && parts.next().is_none() {
            return Ok(Self(bytes));
        }
        Err(format!("found `{text}`; write a Bluetooth address like \"D4:4A:C4:B0:24:03\""))
    }
}

impl NamePattern {
    /// How well it fits `name`: the whole of it, or so many of its bytes.
    pub fn fit(&self, name: &str) -> Option<Fit> {
        match self.is_prefix {
            false => (name == self.text).then_some(Fit::Whole),
            true => name.starts_with(&self.text).then_some(Fit::Beginning(self.text.len())),
        }
    }

    /// Whether `name` begins so and is longer, where the very name was asked for.
    pub fn would_fit_as_prefix(&self, name: &str) -> bool {
        !self.is_prefix && name != self.text && name.starts_with(&self.text)
    }

    /// The name, or how it begins.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// How well a [`NamePattern`] fits; the better is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// The name begins with so many bytes of it.
    Beginning(usize),
    /// It is the name.
    Whole,
}

impl From<String> for NamePattern {
    fn from(mut text: String) -> Self {
        let is_prefix = text.ends_with('*');
        text.truncate(text.trim_end_matches('*').len());
        Self { text, is_prefix }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> String {
        pattern.to_string()
    }
}

impl FromStr for AdapterChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = |number: &str| {
            number.bytes().all(|digit| digit.is_ascii_digit()) && number.parse::<u16>().is_ok()
        };
        if text.strip_prefix("hci").is_some_and(is_number) {
            return Ok(Self::Name(text.to_owned()));
        }
        text.parse().map(Self::Address).map_err(|_| {
            format!(
                "found `{text}`; write an adapter's name like \"hci0\", or its address like \"00:1A:7D:DA:71:13\" \
                 (`bluetoothctl list` shows both)"
            )
        })
    }
}

impl fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes.is_multiple_of(1 << 20) => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} B"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02X}:{b:02X}:{c:02X}:{d:02X}:{e:02X}:{g:02X}")
    }
}

macro_rules! via_text {
    ($($name:ident),*) => { $(
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )* };
}
via_text!(Span, Size, Address, AdapterChoice);

/// A text that may look like a number: figment reads `HR_GATEWAYD_GATEWAY__ID=42` as one.
pub(super) fn text_or_number<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Number(u64),
    }
    let text = match Option::<Written>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Written::Text(text)) => text,
        Some(Written::Number(number)) => number.to_string(),
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
