//! What the kernel says of another process.

use std::collections::BTreeMap;
use std::path::Path;

pub struct Process {
    pid: u32,
}

impl Process {
    pub fn of(pid: u32) -> Self {
        Self { pid }
    }

    fn status_mib(&self, key: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib: f64 = line.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()).unwrap_or(f64::NAN);
        kib / 1024.0
    }

    /// Resident now.
    pub fn rss_mib(&self) -> f64 {
        self.status_mib("VmRSS")
    }

    /// Resident at most so far.
    pub fn peak_rss_mib(&self) -> f64 {
        self.status_mib("VmHWM")
    }

    /// Its share of what is resident, pages of libraries that others use counted in part.
    pub fn pss_mib(&self) -> f64 {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }

    /// What it had written to disks so far.
    pub fn written_kib(&self) -> f64 {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid)).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|bytes| bytes.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
    }

    /// Its threads by name, those of one name together: nanoseconds on a core, and switches to another thread.
    pub fn by_thread(&self) -> BTreeMap<String, (u64, u64)> {
        let mut threads = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten() {
            let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let name = read("comm").trim().trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
            let ran = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            let status = read("status");
            let switches = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
            let switches = switches.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum::<u64>();
            let thread: &mut (u64, u64) = threads.entry(name).or_default();
            (thread.0, thread.1) = (thread.0 + ran, thread.1 + switches);
        }
        threads
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// User and system time so far.
    pub fn cpu_seconds(&self) -> f64 {
        const TICKS_PER_S: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks =
            |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
        (ticks(11) + ticks(12)) / TICKS_PER_S
    }
}

/// What a folder takes on disk.
pub fn folder_mib(folder: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let mut blocks = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            blocks += metadata.blocks();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    blocks as f64 / 2048.0
}
