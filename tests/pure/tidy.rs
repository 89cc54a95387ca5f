//! Rules of the tree that no lint knows.

use std::path::{Path, PathBuf};

use crate::support::in_tree;

const INDEXER: [&str; 2] = ["packaging/cloud/indexer/src", "packaging/cloud/indexer/tests"];

/// A file that outgrows this is two rooms.
const LINES_MAX: usize = 400;

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| rust_files(&in_tree(folder), &mut paths));
    let root = in_tree("");
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn each_foreign_world_is_named_in_one_place() {
    for (words, place) in [
        (&["bluer::", "use bluer"][..], "src/ble/bluez/"),
        (&[" ::sled", "use sled"], "src/queue/sled.rs"),
        (
            &[
                "aws_sdk_kinesis",
                "aws_config",
                "aws_smithy",
                "aws_types",
                "aws_runtime",
                "aws_credential",
                "rustls::",
            ],
            "src/drainer/kinesis/",
        ),
        (&["sd_notify"], "src/service_manager.rs"),
        (&["tracing_subscriber", "tracing_journald"], "src/telemetry.rs"),
        (&["hyper::", "hyper_", "aws_sigv4"], "packaging/cloud/indexer/src/opensearch.rs"),
    ] {
        let room = if place.starts_with("src") { "src" } else { INDEXER[0] };
        for (name, text) in sources(&[room]) {
            let named = words.iter().any(|word| text.contains(word));
            assert!(!named || name.starts_with(place), "{name} names {words:?}, which belongs into {place}");
        }
    }
}

#[test]
fn files_stay_small_and_open_with_why_they_exist() {
    for (name, text) in sources(&[&["src", "tests", "benches"], &INDEXER[..]].concat()) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines; {LINES_MAX} are allowed");
        assert!(text.starts_with("//! "), "{name} does not open with its reason");
    }
}

#[test]
fn tasks_are_spawned_by_the_gateway_alone() {
    for (name, text) in sources(&["src"]) {
        // A sensor's task is a child of the source's, and so is the scan of an adapter. The queue has a thread of its own, and so has what cannot
        // be awaited: a name lookup, a credential helper and journald, each bounded there. The one load of
        // credentials outlives the call that began it.
        let allowed = [
            "src/gateway.rs",
            "src/ble/bluez/children.rs",
            "src/ble/bluez/discovery.rs",
            "src/drainer/kinesis/names.rs",
            "src/drainer/kinesis/helper.rs",
            "src/drainer/kinesis/identity.rs",
            "src/queue/handle.rs",
            "src/telemetry.rs",
        ]
        .contains(&name.as_str());
        assert!(
            allowed || !text.contains("tokio::spawn") && !text.contains(".spawn("),
            "{name} spawns a task"
        );
    }
}

#[test]
fn nothing_is_marked_unfinished_or_names_a_registry() {
    let marks =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["#[ig", "nore"].concat(), ["to", "do!("].concat()];
    for (name, text) in sources(&[&["src", "tests", "benches"], &INDEXER[..]].concat()) {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{name} contains {mark}");
        }
    }
}
