//! Files and folders that hold health records: for their owner alone, whatever the umask says, and also
//! where an earlier version or another program left them open to others.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
const PERMISSIONS: u32 = 0o7777;

/// From now on this process creates nothing that another user can open: neither what is made below, nor
/// what libraries make, nor a socket between its birth and its restriction.
pub fn restrict_process() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes a folder that is not there yet.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Makes the folder and those above it, where they are missing. One that is there is left as it is: it may
/// be anything, `/tmp` too.
pub fn create_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Takes a folder that is ours by its name from others.
pub fn restrict_folder(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    restrict(mode, FOLDER_MODE, |permissions| fs::set_permissions(path, permissions))
}

/// Opens a file for reading and writing, creating it.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
    let mode = file.metadata()?.permissions().mode();
    restrict(mode, FILE_MODE, |permissions| file.set_permissions(permissions))?;
    Ok(file)
}

/// A file system without rights (a USB stick's) grants them by its mount alone, and refuses.
fn restrict(have: u32, want: u32, set: impl FnOnce(Permissions) -> io::Result<()>) -> io::Result<()> {
    if have & PERMISSIONS == want {
        return Ok(());
    }
    match set(Permissions::from_mode(want)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// While it lives, this thread and those that it starts act as another user, who owns what they make: root
/// works on the gateway's files, and they stay the gateway's.
pub struct ActingAs {
    before: Option<(Uid, Gid)>,
}

impl ActingAs {
    /// Acts as the owner of `path`, if this is root.
    pub fn owner_of(path: &Path) -> io::Result<Self> {
        let owner = path.metadata()?;
        let before = (geteuid(), getegid());
        if !before.0.is_root() || owner.uid() == before.0.as_raw() {
            return Ok(Self { before: None });
        }
        set_thread_res_gid(None, Gid::from_raw(owner.gid()), None)?;
        let acting = Self { before: Some(before) };
        set_thread_res_uid(None, Uid::from_raw(owner.uid()), None)?;
        Ok(acting)
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if let Some((user, group)) = self.before {
            // The real user is root's: it may always go back.
            _ = set_thread_res_uid(None, user, None);
            _ = set_thread_res_gid(None, group, None);
        }
    }
}

/// A file that takes its name when it is whole, in place of what had it: whoever has the former one open
/// sees nothing of this one, and a failure leaves the former one as it was.
pub struct NewFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    whole: bool,
}

impl NewFile {
    /// Begins it beside `path`, as `….partial`.
    pub fn create(path: &Path) -> io::Result<Self> {
        // Behind a link the file is replaced, not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&partial)?;
        Ok(Self { file, partial, path, whole: false })
    }

    /// Gives it its name. Durable on return.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.whole = true;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        match File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()) {
            // A file system that cannot, or a folder that is not for us to read.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidInput
                        | io::ErrorKind::Unsupported
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(())
            }
            synced => synced,
        }
    }
}

impl io::Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.whole {
            _ = fs::remove_file(&self.partial);
        }
    }
}
