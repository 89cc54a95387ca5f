//! Configuration: what is taken, and the words with which the rest is refused.

use hr_gateway::config::{Address, Config, Layers, Size, Span};

/// The outcome for a file with this text.
fn read(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let config = Layers::read(&path, true).and_then(|layers| layers.config());
    let config = config.map(|validated| validated.config().clone());
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
fn files_in_conf_d_are_read_after_the_main_one_by_name_and_their_sensors_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let beside = folder.path().join("conf.d");
    std::fs::create_dir(&beside).unwrap();
    let write = |name: &str, text: &str| std::fs::write(beside.join(name), text).unwrap();
    std::fs::write(&path, "[gateway]\nid = \"main\"\n[[sensor]]\nid = \"a\"\nname = \"A\"\n").unwrap();
    write("20-b.toml", "[gateway]\nid = \"later\"\n[[sensor]]\nid = \"c\"\nname = \"C\"\n");
    write("10-a.toml", "[gateway]\nid = \"earlier\"\n[[sensor]]\nid = \"b\"\nname = \"B\"\n");
    write("note.txt", "no TOML");
    write(".hidden.toml", "no TOML");
    let layers = Layers::read(&path, true).unwrap();
    let config = layers.config().unwrap().config().clone();
    let sensors: Vec<&str> = config.sensor.iter().map(|sensor| sensor.id.as_str()).collect();
    assert_eq!((sensors, config.gateway.id.unwrap().as_str()), (vec!["a", "b", "c"], "later"));
    assert!(layers.origin("gateway.id").ends_with("conf.d/20-b.toml"), "{}", layers.origin("gateway.id"));

    // Without a main file, too; and a mistake names its own.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(Layers::read(&path, false).unwrap().config().unwrap().config().sensor.len(), 2);
    write("30-c.toml", "[queue]\nitems_max = \"many\"\n");
    let mistake = Layers::read(&path, false).unwrap().config().err().unwrap().to_string();
    assert!(mistake.contains("conf.d/30-c.toml: `queue.items_max`"), "{mistake}");
    write("30-c.toml", "[[sensor]]\nid = \"d\"\n");
    let mistake = Layers::read(&path, false).unwrap().config().err().unwrap().to_string();
    assert!(mistake.contains("conf.d/30-c.toml: `sensor` block 1 (`d`)"), "{mistake}");
    write("30-c.toml", "[queue\n");
    let mistake = Layers::read(&path, false).unwrap_err().to_string();
    assert!(mistake.contains("conf.d/30-c.toml"), "{mistake}");
    std::fs::remove_file(beside.join("30-c.toml")).unwrap();
    std::fs::create_dir(beside.join("40-d.toml")).unwrap();
    assert!(Layers::read(&path, false).unwrap_err().to_string().contains("40-d.toml: is no file"));
}

#[test]
fn nothing_at_all_is_a_configuration_and_the_default_one() {
    assert_eq!(read("").unwrap(), Config::default());
}

#[test]
fn each_mistake_names_the_source_the_key_what_was_found_and_what_is_allowed() {
    for (text, words) in [
        ("[queue]\npaht = \"x\"", &["/config.toml", "queue.paht", "unknown key", "`path`"][..]),
        ("[queue]\ncommit_interval = \"5 parsecs\"", &["queue.commit_interval", "5 parsecs", "\"5s\""]),
        ("[queue]\ncommit_interval = 5", &["queue.commit_interval", "found signed int `5`"]),
        ("[queue]\ncommit_interval = \"1h\"", &["queue.commit_interval", "found 1h", "0s to 10m"]),
        ("[queue]\nwhen_full = \"panic\"", &["queue.when_full", "panic", "`drop-oldest`"]),
        ("[drain]\nbatch_bytes_max = \"5 MiB\"", &["drain.batch_bytes_max", "found 5 MiB", "4608 KiB"]),
        ("[drain]\nbatch_bytes_max = \"lots\"", &["drain.batch_bytes_max", "found `lots`", "64 MiB"]),
        ("[drain]\nrecord_readings_max = 501", &["drain.record_readings_max", "found 501", "1 to 500"]),
        ("[kinesis]\nstream = \"a b\"", &["kinesis.stream", "`a b`", "128 letters"]),
        ("[page]\nlisten = \"8180\"", &["page.listen"]),
        ("[page]\nlisten = \"0.0.0.0:8180\"", &["page.listen", "found 0.0.0.0:8180", "page.password_file"]),
        ("[kinesis]\nendpoint = \"localhost\"", &["kinesis.endpoint", "localhost", "https://"]),
        ("[kinesis]\ncredential_timeout = \"0s\"", &["kinesis.credential_timeout", "found 0s", "1s to 10m"]),
        ("[[sensor]]\nid = \"a\"", &["sensor", "`address` or `name`", "scan"]),
        ("[[sensor]]\nid = \"a b\"\nname = \"x\"", &["sensor", "`a b` is no name", "letters"]),
        (
            "[[sensor]]\nid = \"a\"\naddress = \"D4:4A\"",
            &["`sensor.address` of block 1 (`a`)", "D4:4A:C4:B0:24:03"],
        ),
        ("[sensor]\nid = \"a\"\nname = \"x\"", &["`sensor`", "[[sensor]], with two brackets"]),
        ("[[sensor]]\nname = \"x\"", &["`sensor.id` of block 1", "is missing"]),
        ("[[sensor]]\nid = \"a\"\nname = \"x\"\npasskey = \"123456\"", &["sensor.passkey", "without quotes"]),
        ("queue = 5", &["`queue`", "write [queue]"]),
        ("stream = \"x\"", &["`stream`", "unknown key", "`kinesis`"]),
        ("[bluetooth]\nadapters = [\"hci0\", 1]", &["bluetooth.adapters", "found signed int `1`"]),
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

/// Each would have made a later step fail, or do something that nobody meant.
#[test]
fn a_value_that_a_later_step_would_fail_on_is_refused_with_its_key() {
    let long = "x".repeat(300);
    let sensor = |line: &str| format!("[[sensor]]\nid = \"a\"\n{line}");
    let with_name = |line: &str| sensor(&format!("name = \"x\"\n{line}"));
    let mut refused: Vec<(String, &str)> = [
        ("[gateway]\nid = \"\"", "gateway.id"),
        ("[gateway]\nid = \"a\\nb\"", "gateway.id"),
        ("[log]\nlevel = \"debgu\"", "log.level"),
        ("[log]\nlevel = \"\"", "log.level"),
        ("[log]\nlevel = \"hr gateway=debug\"", "log.level"),
        ("[log]\nledger_interval = \"0s\"", "log.ledger_interval"),
        ("[kinesis]\nregion = \"us\\neast\"", "kinesis.region"),
        ("[kinesis]\nregion = \"\"", "kinesis.region"),
        ("[kinesis]\nregion = \"US-EAST-1\"", "kinesis.region"),
        ("[kinesis]\nprofile = \" \"", "kinesis.profile"),
        ("[kinesis]\nprofile = \"a]\"", "kinesis.profile"),
        ("[kinesis]\nstream = \"\"", "kinesis.stream"),
        ("[bluetooth]\nadapters = [\"\"]", "bluetooth.adapters.0"),
        ("[bluetooth]\nadapters = [\"hci0/x\"]", "bluetooth.adapters.0"),
        ("[bluetooth]\ndiscover_rssi_min = 100", "bluetooth.discover_rssi_min"),
        ("[bluetooth]\ndiscover_rssi_min = 100000", "bluetooth.discover_rssi_min"),
        ("[bluetooth]\ndiscover_max = 0", "bluetooth.discover_max"),
        ("[session]\nidle_after = \"99999999999999999999y\"", "session.idle_after"),
        ("[drain]\ncalls_in_flight_max = -1", "drain.calls_in_flight_max"),
        ("[queue]\nitems_max = 0", "queue.items_max"),
        ("[queue]\nitems_max = -5", "queue.items_max"),
        ("[queue]\npath = \"\"", "queue.path"),
        ("[queue]\npath = \"queue\"", "queue.path"),
        ("[queue]\npath = \"/\"", "queue.path"),
        ("[queue]\npath = \"/a\\u0000b\"", "queue.path"),
        ("[directory]\npath = \"\"", "directory.path"),
        ("[directory]\npath = \"readings\"", "directory.path"),
        ("[directory]\nfile_size_max = \"0 B\"", "directory.file_size_max"),
        ("[queue]\npath = \"/a/q\"\n[directory]\npath = \"/a/q\"", "directory.path"),
        ("[queue]\npath = \"/a/q\"\n[directory]\npath = \"/a/q/out\"", "directory.path"),
        ("[queue]\nencryption_key_file = \"/nonexistent/key\"", "queue.encryption_key_file"),
        ("[queue]\nencryption_key_file = \"/etc\"", "queue.encryption_key_file"),
        ("[queue]\nencryption_key_file = \"/etc/passwd\"", "queue.encryption_key_file"),
        ("[queue]\nencryption_key_file = \"key\"", "queue.encryption_key_file"),
    ]
    .map(|(text, key)| (text.to_owned(), key))
    .into();
    for endpoint in [
        "",
        "http://",
        "https://:443",
        "localhost",
        "ftp://host",
        "http://host:0",
        "http://host:99999",
        "http://ho st",
        "http://host/?a=b",
        "http://host/#a",
        "http://user:hunter2@host",
        "http://host\\nX-Header: 1",
    ] {
        refused.push((format!("[kinesis]\nendpoint = \"{endpoint}\""), "kinesis.endpoint"));
    }
    for name in ["", "  ", "*", "a\\tb", &long] {
        refused.push((sensor(&format!("name = \"{name}\"")), "sensor.name"));
    }
    for adapter in ["", "hci", "hc0", "hci0\\n", "../hci0", "hci-1", "00:1A:7D:DA:71"] {
        refused.push((with_name(&format!("adapter = \"{adapter}\"")), "sensor.adapter"));
    }
    for follow in ["always", ""] {
        refused.push((with_name(&format!("follow = \"{follow}\"")), "sensor.follow"));
    }
    refused.push((sensor("address = \"C0:FF:EE:00:00:01\"\nfollow = \"any\""), "sensor.follow"));
    refused.push((with_name("mode = \"both\""), "sensor.mode"));
    refused.push((with_name("mode = \"advertisement\"\nbond = true"), "sensor.mode"));
    refused.push((with_name("passkey = 1000000"), "sensor.passkey"));
    refused.push((with_name("passkey = -1"), "sensor.passkey"));
    refused.push((format!("[queue]\npath = \"/{long}/queue\""), "queue.path"));
    for (text, key) in refused {
        let said = read(&text).expect_err(&text);
        assert!(said.contains(&format!("`{key}`")), "`{text}` was answered `{said}`, without `{key}`");
        assert_eq!(said.lines().count(), 1, "`{text}` is one mistake: {said}");
        assert!(!said.contains("hunter2"), "keys are not shown: {said}");
    }
}

#[test]
fn what_is_right_is_taken() {
    for text in [
        "[kinesis]\nendpoint = \"http://127.0.0.1:4566\"",
        "[kinesis]\nendpoint = \"https://vpce-1.kinesis.ap-south-1.vpce.amazonaws.com/\"",
        "[kinesis]\nendpoint = \"http://[::1]:80\"",
        "[kinesis]\nprofile = \"lab gateway\"\nregion = \"us-gov-east-1\"",
        "[log]\nlevel = \"hr_gateway::drainer=debug, info\"",
        "[bluetooth]\nadapters = [\"hci0\", \"hci12\"]",
        "[[sensor]]\nid = \"a\"\nname = \"TICKR*\"\nadapter = \"hci1\"\npasskey = 0",
        "[[sensor]]\nid = \"a\"\nname = \"Polar*\"\nmode = \"advertisement\"",
        "[[sensor]]\nid = \"a\"\nname = \"TICKR\"\nfollow = \"any\"\nadapter = \"00:1A:7D:DA:71:13\"",
        "[[sensor]]\nid = \"a\"\nname = \"TICKR\"\n[[sensor]]\nid = \"b\"\nname = \"TICKR X\"\n\
         [[sensor]]\nid = \"c\"\nname = \"TICKR*\"",
        "[queue]\npath = \"/a/queue\"\n[directory]\npath = \"/a\"",
    ] {
        assert!(read(text).is_ok(), "{text}: {:?}", read(text));
    }
}

#[test]
fn every_mistake_of_a_file_is_told_at_once_in_a_line_of_its_own() {
    let said = read(
        "colour = \"red\"\n\
         [[sensor]]\nid = \"chest\"\naddres = \"x\"\nbond = \"yes\"\nname = \"Polar\"\n\
         [[sensor]]\nname = \"\"\n\
         [[sensor]]\nid = \"wrist\"\naddress = \"D4:4A:C4:B0:24:0\"\n\
         [[sensor]]\nid = \"arm\"\naddress = \"D4:4A:C4:B0:24:03\"\n\
         [[sensor]]\nid = \"leg\"\naddress = \"D4:4A:C4:B0:24:03\"\n\
         [session]\nidle_after = 5\ngap_after = \"1h\"\n\
         [drain]\nrecord_readings_max = 0\nordr = \"newest-first\"\n\
         [kinesis]\nstream = \"a b\"\nregion = 7\n\
         [log]\nlevel = \"loud\"\n",
    )
    .unwrap_err();
    let keys = [
        "`colour`",
        "`sensor.addres` of block 1 (`chest`)",
        "`sensor.bond` of block 1 (`chest`)",
        "`sensor.id` of block 2",
        "`sensor.address` of block 3 (`wrist`)",
        "`sensor.address` of block 5 (`leg`): is that of `arm` too",
        "`session.idle_after`",
        "`drain.record_readings_max`",
        "`drain.ordr`",
        "`kinesis.stream`",
        "`kinesis.region`",
        "`log.level`",
    ];
    for key in keys {
        assert_eq!(said.lines().filter(|line| line.contains(key)).count(), 1, "{key} in\n{said}");
    }
    assert_eq!(said.lines().count(), keys.len(), "what a mistake leads to is none:\n{said}");
    assert!(said.lines().all(|line| line.starts_with("/config.toml: ")), "{said}");
    assert!(
        !said.contains("D4:4A:C4:B0:24:0:") && !said.contains("24:03 "),
        "no address of a sensor: {said}"
    );
}

#[test]
fn a_key_file_is_read_and_one_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (key, config) = (folder.path().join("key"), folder.path().join("config.toml"));
    std::fs::write(&config, format!("[queue]\nencryption_key_file = {key:?}\n")).unwrap();
    let validated = || Layers::read(&config, true).and_then(|layers| layers.config());
    for (content, right) in [
        ("ab".repeat(32) + "\n", true),
        ("x".repeat(32), true),
        ("ab".repeat(31), false),
        ("+b".repeat(32), false),
    ] {
        std::fs::write(&key, &content).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(validated().is_ok(), right, "{content}");
    }
    std::fs::write(&key, "ab".repeat(32)).unwrap();
    assert!(validated().unwrap().warnings().is_empty());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(validated().unwrap().warnings()[0].contains("chmod o-r"));
}

#[test]
fn what_is_no_file_of_text_is_refused_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let said = Layers::read(folder.path(), true).unwrap_err().to_string();
    assert!(said.contains("is no file"), "{said}");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Layers::read(&path, true).is_err());
    std::fs::write(&path, "[gateway]\nid = \n[queue\n").unwrap();
    let said = Layers::read(&path, true).unwrap_err().to_string();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("line 2"), "{said}");
}
