//! Texts of others on a terminal.

use figment::Figment;
use figment::providers::{Format, Toml};
use hr_gateway::printable::{self, Printable};

#[test]
fn what_could_steer_a_terminal_or_deceive_a_reader_is_shown_as_what_it_is() {
    for (text, shown) in [
        ("Forerunner 255", "Forerunner 255"),
        ("Łukasz’ Gürtel ❤ 心", "Łukasz’ Gürtel ❤ 心"),
        ("a\u{1b}[31mb\u{7}", "a\\u{1b}[31mb\\u{7}"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("a\u{9b}b\u{7f}", "a\\u{9b}b\\u{7f}"),
        ("TICKR\u{202e}X", "TICKR\\u{202e}X"),
        ("a\u{2066}b\u{200b}c\u{feff}d\u{2028}", "a\\u{2066}b\\u{200b}c\\u{feff}d\\u{2028}"),
        ("a\u{e0041}", "a\\u{e0041}"),
    ] {
        assert_eq!(Printable(text).to_string(), shown);
    }
    assert_eq!(format!("{:<6}|", Printable("ab")), "ab    |");
}

#[test]
fn json_keeps_its_meaning_and_loses_what_could_steer_a_terminal() {
    let names = ["a\u{1b}[31m\r\n\u{9b}b", "TICKR\u{202e}X", "a\u{e0041}", "Łukasz ❤"];
    let shown = printable::json(&serde_json::to_string_pretty(&names).unwrap());
    assert!(
        shown.chars().all(|c| c == '\n' || Printable(&c.to_string()).to_string() == c.to_string()),
        "{shown}"
    );
    assert!(shown.contains("Łukasz ❤"), "{shown}");
    assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), names);
}

#[test]
fn a_name_is_a_toml_string_that_reads_as_the_name() {
    for name in ["TICKR 12", "a\"b\\c", "\u{1b}[31m\r\n\t", "\u{202e}\u{e0041}\u{200b}😀", ""] {
        let written = printable::toml(name);
        assert!(
            written.chars().all(|c| !c.is_control() && c != '\u{202e}' && c != '\u{e0041}'),
            "{written:?}"
        );
        let read = Figment::from(Toml::string(&format!("name = {written}"))).extract_inner::<String>("name");
        assert_eq!(read.as_deref(), Ok(name));
    }
}
