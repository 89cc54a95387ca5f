//! A `credential_process`, on a leash.
//!
//! The SDK starts one, and leaves it behind when its caller gives up: a helper that hangs piles up until
//! the unit's `TasksMax`, and from then on nothing is delivered. What must hold: a helper ends at its limit,
//! or when nobody is left to take its answer; however it ends, its whole process group ends with it; and what
//! waits for it is a thread of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::oneshot;

/// More than this is no credentials (they take about 1.5 KB).
const OUTPUT_MAX: u64 = 64 << 10;
/// How much of what a helper complained of is passed on.
const COMPLAINT_MAX: usize = 200;
/// What the shell exits with when it cannot run a command ("Exit Status for Commands", POSIX.1-2017, XCU 2.8.2).
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// `waitpid` knows no deadline.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum HelperError {
    /// It ran too long.
    #[error("the credential helper `{program}` did not answer within {limit:?} and was killed")]
    Killed {
        /// Its name, without arguments, which may be secret.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It ended without an answer.
    #[error("the credential helper `{program}` failed: {what}")]
    Failed {
        /// Its name.
        program: String,
        /// How.
        what: String,
    },
    /// It cannot be run, or what it answers is no credentials: it will be so the next time too.
    #[error("the credential helper `{program}` cannot work: {what}")]
    Useless {
        /// Its name.
        program: String,
        /// Why.
        what: String,
    },
}

/// A helper that runs. Dropping it kills it.
pub(super) struct Helper {
    group: Arc<Group>,
    answer: oneshot::Receiver<Result<Vec<u8>, HelperError>>,
    program: String,
}

impl Helper {
    /// Starts `command` by the shell, as the SDK does, for at most `limit`.
    pub(super) fn start(command: &str, limit: Duration) -> Result<Self, HelperError> {
        let program = program(command);
        let failed =
            |error: io::Error| HelperError::Failed { program: program.clone(), what: error.to_string() };
        let outputs = Outputs::new().map_err(failed)?;
        let (stdout, stderr) = outputs.for_child().map_err(failed)?;
        let child = Command::new("sh")
            .args(["-c", command])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(failed)?;
        let group = Arc::new(Group(Mutex::new(Some(child))));
        let (sender, answer) = oneshot::channel();
        let helper = Self { group: group.clone(), answer, program: program.clone() };
        thread::Builder::new()
            .name("credentials".into())
            .spawn(move || {
                let answer = attend(&group, &outputs, &program, limit);
                group.kill();
                _ = sender.send(answer);
                _ = group.end();
            })
            .map_err(|error| {
                _ = helper.group.end();
                HelperError::Failed { program: helper.program.clone(), what: error.to_string() }
            })?;
        Ok(helper)
    }

    /// What it wrote to its standard output, once it has ended well.
    pub(super) async fn answer(mut self) -> Result<Vec<u8>, HelperError> {
        match (&mut self.answer).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(HelperError::Failed { program: self.program.clone(), what: "nobody waits for it".into() })
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.group.kill();
    }
}

/// The first word of a command, without its folder.
pub(super) fn program(command: &str) -> String {
    let word = match command.trim_start().strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => command.split_whitespace().next(),
    };
    let word = word.unwrap_or_default();
    word.rsplit('/').next().unwrap_or(word).to_owned()
}

/// A process group, until its leader has been waited for: from then on the number may be another's.
struct Group(Mutex<Option<Child>>);

impl Group {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does not wait for the end.
    fn kill(&self) {
        if let Some(leader) = &*self.child() {
            _ = kill_process_group(Pid::from_child(leader), Signal::KILL);
        }
    }

    /// Whether the leader ended. It is not waited for yet: its number is the group's, and stays so until then.
    fn ended(&self) -> io::Result<bool> {
        let Some(leader) = &*self.child() else { return Err(io::ErrorKind::NotFound.into()) };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(Pid::from_child(leader)), look)?.is_some())
    }

    /// Kills what is left, waits for the leader's end and says how it ended.
    fn end(&self) -> io::Result<ExitStatus> {
        self.kill();
        self.child().take().ok_or(io::ErrorKind::NotFound)?.wait()
    }
}

/// What a helper writes: in memory, as some of it is secret, and not through a pipe, which a process
/// that it leaves behind would hold open.
struct Outputs {
    stdout: File,
    stderr: File,
}

impl Outputs {
    fn new() -> io::Result<Self> {
        let file = || Ok::<_, io::Error>(File::from(memfd_create("credentials", MemfdFlags::CLOEXEC)?));
        Ok(Self { stdout: file()?, stderr: file()? })
    }

    fn for_child(&self) -> io::Result<(File, File)> {
        Ok((self.stdout.try_clone()?, self.stderr.try_clone()?))
    }

    fn too_much(&self) -> io::Result<bool> {
        Ok(self.stdout.metadata()?.len().max(self.stderr.metadata()?.len()) > OUTPUT_MAX)
    }

    fn read(file: &File) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; file.metadata()?.len().min(OUTPUT_MAX) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// The last line of what it complained of.
    fn complaint(&self) -> String {
        let text = Self::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        line.trim().chars().filter(|char| !char.is_control()).take(COMPLAINT_MAX).collect()
    }
}

fn attend(group: &Group, outputs: &Outputs, program: &str, limit: Duration) -> Result<Vec<u8>, HelperError> {
    let failed = |what: String| HelperError::Failed { program: program.to_owned(), what };
    let deadline = Instant::now() + limit;
    while !group.ended().map_err(|error| failed(error.to_string()))? {
        if Instant::now() >= deadline {
            return Err(HelperError::Killed { program: program.to_owned(), limit });
        }
        if outputs.too_much().unwrap_or(false) {
            return Err(failed(format!("it wrote more than {} KiB", OUTPUT_MAX >> 10)));
        }
        thread::sleep(LOOK_EVERY);
    }
    let status = group.end().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let what = format!("{status}: {}", outputs.complaint());
        return Err(match status.code() {
            Some(NOT_EXECUTABLE | NOT_FOUND) => HelperError::Useless { program: program.to_owned(), what },
            _ => failed(what),
        });
    }
    Outputs::read(&outputs.stdout).map_err(|error| failed(error.to_string()))
}
