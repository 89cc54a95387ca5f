//! What the service's unit sets, and a command on a terminal does not see.

use std::process::{Command, Stdio};

use super::say;
use crate::config::ENV_PREFIX;

const UNIT: &str = "hr-gatewayd.service";
/// The unit's `EnvironmentFile`.
const ENVIRONMENT_FILE: &str = "/etc/hr-gatewayd/environment";

/// Says which variables of the configuration the unit, its drop-ins or its file set otherwise than they are here.
pub(super) fn say_what_it_sets() {
    let shown = Command::new("systemctl")
        .args(["show", UNIT, "--property=Environment", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let shown = shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let file = std::fs::read_to_string(ENVIRONMENT_FILE).unwrap_or_default();
    let mut unseen: Vec<String> = variables(&shown)
        .chain(variables(&file))
        .filter(|(name, value)| is_unseen(name, value))
        .map(|it| it.0)
        .collect();
    unseen.sort();
    unseen.dedup();
    if !unseen.is_empty() {
        say!(
            "hr-gatewayd: warning: {UNIT} sets {}, which this command does not: what follows is of another configuration \
             (`systemctl show {UNIT} --property=Environment`)",
            unseen.join(", ")
        );
    }
}

fn is_unseen(name: &str, value: &str) -> bool {
    name.starts_with(ENV_PREFIX) && std::env::var(name).as_deref() != Ok(value)
}

/// `NAME=value` as systemd shows them in a line, quoted where there is a space, and as a file has them.
fn variables(text: &str) -> impl Iterator<Item = (String, String)> {
    let words = text.split_whitespace().map(|word| word.trim_matches('"'));
    words.filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_configuration_that_are_otherwise_here_are_told_apart() {
        let text = "MALLOC_ARENA_MAX=1 HR_GATEWAYD_QUEUE__PATH=/srv/queue \"HR_GATEWAYD_LOG__LEVEL=info\"\n";
        let names: Vec<String> =
            variables(text).filter(|(name, value)| is_unseen(name, value)).map(|it| it.0).collect();
        assert_eq!(names, ["HR_GATEWAYD_QUEUE__PATH", "HR_GATEWAYD_LOG__LEVEL"]);
    }
}
