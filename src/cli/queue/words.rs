//! What was found of a damaged store, in words.

pub(super) fn rescued_words(readable: u64, passed_over: u64, missing: &[(u64, u64)]) -> String {
    let missing = missing_words(missing);
    format!("{readable} readings and gap records in it can be read, {passed_over} places cannot; {missing}")
}

pub(super) fn missing_words(missing: &[(u64, u64)]) -> String {
    const RANGES_SHOWN: usize = 20;
    let count: u64 = missing.iter().map(|(first, last)| last - first + 1).sum();
    let ranges: Vec<_> =
        missing.iter().take(RANGES_SHOWN).map(|(first, last)| format!("{first}-{last}")).collect();
    let which = match missing.len() {
        0 => String::new(),
        shown if shown <= RANGES_SHOWN => format!(" (sequences {})", ranges.join(", ")),
        _ => format!(" (sequences {}, …)", ranges.join(", ")),
    };
    format!("{count} readings and gap records are known to be missing{which}")
}
