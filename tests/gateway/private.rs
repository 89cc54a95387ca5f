//! Health records are for their owner alone, whatever the umask says.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hr_gateway::queue::ReadingQueue;

use crate::support::daemon::{Daemon, careless_command, configure};
use crate::support::draining::open;
use crate::support::{reading, wait_for};

const NO_BUS: &str = "unix:path=/nonexistent";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn everything_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(everything_in(&path)),
            false => found.push(path),
        }
    }
    found
}

fn filled(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), config);
    let queue = open(&folder.path().join("queue"));
    (0..100).for_each(|second| _ = queue.append(&[reading("a", second)]).unwrap());
    folder
}

#[test]
fn an_export_is_its_owners_alone_and_takes_the_place_of_one_that_was_open_to_others() {
    let folder = filled("");
    let output = folder.path().join("backlog.ndjson");
    let export = |path: &Path| {
        let arguments = ["queue", "export", "--output", path.to_str().unwrap()];
        careless_command(folder.path(), NO_BUS).args(arguments).output().unwrap()
    };
    assert!(export(&output).status.success());
    assert_eq!(mode(&output), 0o600);

    std::fs::write(&output, "an older one").unwrap();
    set_mode(&output, 0o666);
    let open_since_before = std::fs::File::open(&output).unwrap();
    assert!(export(&output).status.success());
    assert_eq!(mode(&output), 0o600);
    assert_eq!(std::fs::read_to_string(&output).unwrap().lines().count(), 100);
    let seen = std::io::read_to_string(open_since_before).unwrap();
    assert_eq!(seen, "an older one", "who had it open reads none of it");

    // One that fails leaves the former one, and nothing beside it.
    let other = folder.path().join("config.toml");
    std::fs::write(other, "[queue]\npath = \"/nonexistent/queue\"\n").unwrap();
    assert!(!export(&output).status.success());
    assert_eq!(std::fs::read_to_string(&output).unwrap().lines().count(), 100);
    assert!(!folder.path().join("backlog.ndjson.partial").exists());
    assert!(export(Path::new("/dev/null")).status.code() == Some(1), "there is no queue");
}

#[test]
fn what_the_daemon_and_the_demo_write_is_their_owners_alone() {
    let folder = filled("");
    let out = folder.path().join("out");
    configure(folder.path(), &format!("[directory]\npath = {out:?}\n"));
    // As an earlier version left it.
    let day = out.join("2025-07-15");
    std::fs::create_dir_all(&day).unwrap();
    let file = day.join("readings-0001.ndjson");
    std::fs::write(&file, "").unwrap();
    [(&day, 0o755), (&file, 0o644)].into_iter().for_each(|(path, mode)| set_mode(path, mode));

    let daemon = Daemon::start_as(careless_command(folder.path(), NO_BUS), folder.path(), NO_BUS);
    daemon.wait_delivered(100);
    assert_eq!(mode(&folder.path().join("queue.sock")), 0o600);
    daemon.stop();
    let demo_out = folder.path().join("demo");
    let arguments = ["demo", "--for", "1s", "--quiet", "--output", demo_out.to_str().unwrap()];
    let demo = careless_command(folder.path(), NO_BUS).args(arguments).output().unwrap();
    assert!(demo.status.success(), "{demo:?}");
    let made = [everything_in(&demo_out), everything_in(&day)].concat();
    assert!(made.len() >= 5, "{made:?}");
    for path in made {
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), wanted, "{}", path.display());
    }
}

#[test]
fn a_folder_that_others_share_stays_theirs() {
    let folder = filled("");
    let out = folder.path().join("shared");
    std::fs::create_dir(&out).unwrap();
    set_mode(&out, 0o1777);
    configure(folder.path(), &format!("[directory]\npath = {out:?}\n"));
    let daemon = Daemon::start(folder.path(), NO_BUS);
    wait_for("a day's folder", Duration::from_secs(20), || out.join("2025-07-15").exists().then_some(()));
    daemon.wait_delivered(100);
    daemon.stop();
    assert_eq!((mode(&out), mode(&out.join("2025-07-15"))), (0o1777, 0o700));
}
