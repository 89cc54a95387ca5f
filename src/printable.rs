//! Texts of others on a terminal and in the journal. Pure.

use std::fmt;

/// Shows a text that somebody else chose (a device's name) in one line, and as what it is: control characters
/// could steer a terminal, and marks of writing direction could show a name as another.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::with_capacity(self.0.len());
        for c in self.0.chars() {
            match is_deceptive(c) {
                true => shown.extend(c.escape_default()),
                false => shown.push(c),
            }
        }
        f.pad(&shown)
    }
}

/// JSON text of the same meaning that is as harmless: what [`Printable`] would show as what it is, is escaped.
pub fn json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_deceptive(c) && c != '\n' {
            true => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")))
            }
            false => shown.push(c),
        }
    }
    shown
}

/// A TOML string of this text, as harmless.
pub fn toml(text: &str) -> String {
    let mut shown = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => shown.extend(['\\', c]),
            c if is_deceptive(c) => shown.push_str(&format!("\\U{:08x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

/// Controls, line and paragraph separators, and what has no width or changes the writing direction (Unicode
/// Standard Annex 9).
fn is_deceptive(c: char) -> bool {
    let invisible = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    let general_punctuation =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    c.is_control() || invisible || general_punctuation
}
