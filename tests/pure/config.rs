//! Configuration: what is taken, and the words with which the rest is refused.

use hr_gateway::config::{Address, Config, Layers, Size, Span};

/// The outcome for a file with this text.
fn read(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let config = Layers::read(&path, true).and_then(|layers| layers.config());
    config.map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), ""))
}

#[test]
fn the_ten_lines_of_the_readme_are_a_configuration() {
    let readme = std::fs::read_to_string(crate::support::in_tree("README.md")).unwrap();
    let block = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = read(block).unwrap();
    assert_eq!(config.sensor.len(), 1);
    assert!(config.kinesis.stream.is_some() && block.lines().count() <= 12);
}

#[test]
fn nothing_at_all_is_a_configuration_and_the_default_one() {
    assert_eq!(read("").unwrap(), Config::default());
}

#[test]
fn each_mistake_names_the_source_the_key_what_was_found_and_what_is_allowed() {
    for (text, words) in [
        ("[queue]\npaht = \"x\"", &["/config.toml", "queue", "unknown field: found `paht`", "`path`"][..]),
        ("[queue]\ncommit_interval = \"5 parsecs\"", &["queue.commit_interval", "5 parsecs", "\"5s\""]),
        ("[queue]\ncommit_interval = 5", &["queue.commit_interval", "found signed int `5`"]),
        ("[queue]\ncommit_interval = \"1h\"", &["queue.commit_interval", "found 1h", "0s to 10m"]),
        ("[queue]\nwhen_full = \"panic\"", &["queue.when_full", "panic", "`drop-oldest`"]),
        ("[drain]\nbatch_bytes_max = \"5 MiB\"", &["drain.batch_bytes_max", "found 5 MiB", "4608 KiB"]),
        ("[drain]\nbatch_bytes_max = \"lots\"", &["drain.batch_bytes_max", "found `lots`", "64 MiB"]),
        ("[drain]\nrecord_readings_max = 501", &["drain.record_readings_max", "found 501", "1 to 500"]),
        ("[kinesis]\nstream = \"a b\"", &["kinesis.stream", "`a b`", "128 letters"]),
        (
            "[kinesis]\nstream = \"a\"\n[directory]\npath = \"/x\"",
            &["kinesis.stream", "directory.path", "keep one"],
        ),
        ("[kinesis]\nendpoint = \"localhost\"", &["kinesis.endpoint", "localhost", "https://"]),
        ("[[sensor]]\nid = \"a\"", &["sensor", "`address` or `name`", "scan"]),
        ("[[sensor]]\nid = \"a b\"\nname = \"x\"", &["sensor", "`a b` is no name", "letters"]),
        ("[[sensor]]\nid = \"a\"\naddress = \"D4:4A\"", &["D4:4A", "D4:4A:C4:B0:24:03"]),
        ("[[sensor]]\nid=\"a\"\nname=\"x\"\n[[sensor]]\nid=\"a\"\nname=\"y\"", &["`a` stands twice"]),
        ("[gateway\n", &["/config.toml"]),
    ] {
        let said = read(text).expect_err(text);
        for word in words {
            assert!(said.contains(word), "`{text}` was answered `{said}`, without `{word}`");
        }
    }
}

#[test]
fn durations_sizes_and_addresses_read_back_as_they_are_written() {
    for text in ["500ms", "5s", "10m", "1h"] {
        assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
    }
    for text in ["64 MiB", "4608 KiB", "1023 B"] {
        assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
    }
    assert_eq!("d4:4a:c4:b0:24:03".parse::<Address>().unwrap().to_string(), "D4:4A:C4:B0:24:03");
    for bad in [
        "",
        "D4:4A:C4:B0:24",
        "D4:4A:C4:B0:24:03:05",
        "D4:4A:C4:B0:24:GG",
        "D44AC4B02403",
        "+4:4A:C4:B0:24:03",
    ] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}
