//! Faults put in on purpose, which the tests on a real machine need and no input can cause. Only debug
//! builds listen: in a release [`injected`] is `false` and what depends on it is not there.

/// Whether the environment variable `INJECT_FAULT` names this fault.
pub fn injected(fault: &str) -> bool {
    cfg!(debug_assertions) && std::env::var("INJECT_FAULT").is_ok_and(|named| named == fault)
}
