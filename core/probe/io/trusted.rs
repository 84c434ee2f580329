//! Trusted files: files that determine the behavior of this process (configuration, secrets, certificate authorities, programs).
//! If opsctl runs as root, they and every directory above them must belong to root and be writable by root only.
//!
//! A path is walked from `/` component by component: each one is opened relative to the descriptor of the directory before it
//! (`O_PATH | O_NOFOLLOW`), its owner and mode are those of the open descriptor (`fstat`), and the target of a symbolic link is
//! walked in the same way. The checked file is therefore the one that is read; a component that is replaced meanwhile has another
//! descriptor.
//!
//! The owner reported by a FUSE filesystem is chosen by the user that mounted it, so all files in it count as that user's.

#![allow(
    clippy::disallowed_methods,
    reason = "opens each component relative to the last; every caller is subject to the watchdog"
)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat};

use crate::model::FileIdentity;
use crate::probe::io::file::user_name;

/// Limit of symbolic links in one path; the same as the kernel's (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// `FUSE_SUPER_MAGIC` of linux/magic.h.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// Write permission for the group or for others.
const GROUP_OR_OTHERS_WRITE: u32 = 0o022;

/// Write permission for others.
const OTHERS_WRITE: u32 = 0o002;

/// The restricted deletion flag: only its owner can rename or remove an entry.
const STICKY: u32 = 0o1000;

/// Why a path is rejected.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The component that caused the error.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// Another user can change a component of the path.
    #[error("{component} {cause}: {remedy}")]
    Refused {
        /// The component.
        component: PathBuf,
        /// Its owner or its mode.
        cause: String,
        /// Commands or locations that resolve the error.
        remedy: String,
    },
}

impl TrustError {
    /// Converts to an error of the standard library.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Io { source, .. } => source,
            refused @ Self::Refused { .. } => io::Error::new(ErrorKind::PermissionDenied, refused.to_string()),
        }
    }

    /// Whether the path, or a directory above it, does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
    }

    fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }
}

/// The purpose of a path; it determines the rules and the remedy in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A file that is read or executed, or a directory that is read.
    Read,
    /// A file that is written, and read only by its writer.
    Write,
    /// Metrics for a collector that runs as another user: they may be written to a directory of that user.
    Collect,
}

/// A directory that was reached through trusted directories only.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Others can add entries but cannot change those of this user (`/tmp`).
    sticky: bool,
    /// Another user can change it; only for [`Purpose::Collect`].
    foreign: bool,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    /// Its path with symbolic links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether others can add entries but cannot change those of this user (`/tmp`).
    #[must_use]
    pub fn is_sticky(&self) -> bool {
        self.sticky
    }

    /// The names in it, sorted.
    pub fn names(&self) -> Result<Vec<OsString>, TrustError> {
        let failed = |e: rustix::io::Errno| TrustError::io(&self.path, e);
        let readable =
            openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&readable).map_err(failed)? {
            let name = OsStr::from_bytes(entry.map_err(failed)?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// The last component of a walked path.
#[derive(Debug)]
pub enum Entry {
    /// A directory.
    Directory(Directory),
    /// Any other type; a symbolic link only if links are not followed.
    File {
        /// The directory it is in.
        parent: Directory,
        /// Its name there.
        name: OsString,
        /// Its type, owner and mode.
        stat: Box<Stat>,
    },
    /// The entry does not exist.
    Absent {
        /// The directory it would be in.
        parent: Directory,
        /// Its name there.
        name: OsString,
    },
}

/// The user that opsctl runs as, and the rules for that user.
#[derive(Debug, Clone, Copy)]
struct Rules {
    user: u32,
    purpose: Purpose,
    /// Whether the last component is resolved if it is a symbolic link.
    follow: bool,
}

impl Rules {
    fn of_process(purpose: Purpose, follow: bool) -> Self {
        Self { user: rustix::process::geteuid().as_raw(), purpose, follow }
    }

    fn trusts(self, uid: u32) -> bool {
        uid == 0 || uid == self.user
    }

    /// The mode bits that must not be set. Regular users often have a private group with write permission; root has none.
    fn write_bits(self) -> u32 {
        if self.user == 0 { GROUP_OR_OTHERS_WRITE } else { OTHERS_WRITE }
    }

    fn refuse(self, component: &Path, stat: &Stat, cause: String) -> TrustError {
        let shown = component.display();
        let remedy = match self.purpose {
            // the mode of a sticky directory such as /tmp is intended
            Purpose::Read if stat.st_mode & STICKY != 0 => {
                "move the file to a directory owned by root such as /etc/opsctl: others can add files to this one".to_owned()
            }
            Purpose::Read if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                "name a file in a directory owned by root such as /etc/opsctl".to_owned()
            }
            Purpose::Read if self.user == 0 => {
                format!("chown root and chmod go-w {shown}, or move the file to a directory owned by root such as /etc/opsctl")
            }
            Purpose::Read => format!("chmod o-w {shown}, or use a file of your own"),
            Purpose::Write | Purpose::Collect => {
                "write to a directory owned by root such as /var/lib/opsctl or /root, or to standard output (`FORMAT=-`)"
                    .to_owned()
            }
        };
        TrustError::Refused { component: component.to_owned(), cause, remedy }
    }

    /// Why another user can change the open file or directory, if so.
    fn weakness(self, fd: impl AsFd, stat: &Stat) -> Option<String> {
        let mode = stat.st_mode & 0o7777;
        if !self.trusts(stat.st_uid) {
            return Some(format!("belongs to user {} (mode {mode:o})", named(stat.st_uid)));
        }
        if mode & self.write_bits() != 0 {
            return Some(format!("can be written by others (mode {mode:o})"));
        }
        let mounter = mounter(fd.as_fd())?;
        (!self.trusts(mounter)).then(|| format!("is in a FUSE filesystem that user {} mounted", named(mounter)))
    }

    /// Checks a directory in a path. For a regular user only the file itself is checked: its directory permits at most a
    /// replacement by another file of this user or of root.
    fn directory(self, fd: OwnedFd, stat: &Stat, path: PathBuf, foreign: bool) -> Result<Directory, TrustError> {
        let weakness = if self.user == 0 { self.weakness(&fd, stat) } else { None };
        let Some(cause) = weakness else { return Ok(Directory { fd, path, sticky: false, foreign }) };
        let sticky = self.trusts(stat.st_uid) && stat.st_mode & STICKY != 0 && mounter(fd.as_fd()).is_none_or(|m| self.trusts(m));
        if sticky || self.purpose == Purpose::Collect {
            return Ok(Directory { fd, path, sticky, foreign: foreign || !sticky });
        }
        Err(self.refuse(&path, stat, cause))
    }
}

/// The user that mounted the FUSE filesystem of a descriptor; `None` on other filesystems. An unknown owner is `u32::MAX`, which
/// no rule trusts.
fn mounter(fd: BorrowedFd<'_>) -> Option<u32> {
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the width and sign of f_type depend on the architecture")]
    let kind = fstatfs(fd).map(|s| s.f_type as u64);
    // an error may come from a FUSE server, too
    if kind.is_ok_and(|kind| kind & 0xffff_ffff != FUSE_MAGIC) {
        return None;
    }
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let owner = || {
        let info = text(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
        let id = info.lines().find_map(|l| l.strip_prefix("mnt_id:"))?.trim().to_owned();
        mount_user(&text("/proc/self/mountinfo")?, &id)
    };
    Some(owner().unwrap_or(u32::MAX))
}

/// The option `user_id` of a mount in mountinfo; a FUSE filesystem without it (virtiofs) was mounted by root.
fn mount_user(mountinfo: &str, id: &str) -> Option<u32> {
    let line = mountinfo.lines().find(|l| l.split(' ').next() == Some(id))?;
    let options = line.rsplit(' ').next()?;
    options.split(',').find_map(|o| o.strip_prefix("user_id=")).map_or(Some(0), |uid| uid.parse().ok())
}

/// Walks a path, and checks every directory.
fn walk(path: &Path, rules: Rules) -> Result<Entry, TrustError> {
    let absolute = std::path::absolute(path).map_err(|e| TrustError::io(path, e))?;
    let mut pending = names_reversed(&absolute);
    let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(|e| TrustError::io("/", e))?;
    let stat = fstat(&root).map_err(|e| TrustError::io("/", e))?;
    let mut above = Vec::new();
    let mut here = rules.directory(root, &stat, PathBuf::from("/"), false)?;
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == ".." {
            here = above.pop().unwrap_or(here);
            continue;
        }
        let shown = here.path.join(&name);
        let fd = match openat(&here.fd, &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) if pending.is_empty() => return Ok(Entry::Absent { parent: here, name }),
            Err(e) => return Err(TrustError::io(shown, e)),
        };
        let stat = fstat(&fd).map_err(|e| TrustError::io(&shown, e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if rules.follow || !pending.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(TrustError::io(shown, rustix::io::Errno::LOOP));
                }
                // the mode of a link has no meaning; its owner matters only where others can add entries
                if here.foreign || (here.sticky && !rules.trusts(stat.st_uid)) {
                    return Err(rules.refuse(&shown, &stat, format!("is a symbolic link of user {}", named(stat.st_uid))));
                }
                let target = readlinkat(&fd, "", Vec::new()).map_err(|e| TrustError::io(&shown, e))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() && !above.is_empty() {
                    above.truncate(1);
                    here = above.pop().unwrap_or(here);
                }
                pending.extend(names_reversed(&target));
            }
            FileType::Directory => {
                let below = rules.directory(fd, &stat, shown, here.foreign)?;
                above.push(std::mem::replace(&mut here, below));
            }
            _ if pending.is_empty() => return Ok(Entry::File { parent: here, name, stat: Box::new(stat) }),
            _ => return Err(TrustError::io(shown, rustix::io::Errno::NOTDIR)),
        }
    }
    Ok(Entry::Directory(here))
}

/// The components of a path in reverse order. A trailing slash is ignored; the walk determines the type.
fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// The directory for writing `path`, and its current entry. A symbolic link as the last component is not followed.
pub fn destination(path: &Path, purpose: Purpose) -> Result<Entry, TrustError> {
    walk(path, Rules::of_process(purpose, false))
}

/// Opens a regular file that only this user and root can change.
pub fn open(path: &Path) -> Result<File, TrustError> {
    let rules = Rules::of_process(Purpose::Read, true);
    match walk(path, rules)? {
        Entry::Directory(directory) => Err(TrustError::io(directory.path, rustix::io::Errno::ISDIR)),
        Entry::Absent { parent, name } => Err(TrustError::io(parent.path.join(name), rustix::io::Errno::NOENT)),
        Entry::File { parent, name, stat } => {
            let shown = parent.path.join(&name);
            regular(&shown, &stat)?;
            // other users of the directory may have moved a file owned by root to this name
            if parent.sticky {
                let stat = fstat(&parent.fd).map_err(|e| TrustError::io(&parent.path, e))?;
                let cause = format!("can be written by others (mode {:o})", stat.st_mode & 0o7777);
                return Err(rules.refuse(&parent.path, &stat, cause));
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let fd = openat(&parent.fd, &name, flags, Mode::empty()).map_err(|e| TrustError::io(&shown, e))?;
            let stat = fstat(&fd).map_err(|e| TrustError::io(&shown, e))?;
            regular(&shown, &stat)?;
            match rules.weakness(&fd, &stat) {
                Some(cause) => Err(rules.refuse(&shown, &stat, cause)),
                None => Ok(fd.into()),
            }
        }
    }
}

fn regular(path: &Path, stat: &Stat) -> Result<(), TrustError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(TrustError::io(path, io::Error::other("not a regular file"))),
    }
}

/// Reads a trusted file; a file larger than `max` bytes is an error.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, TrustError> {
    bounded(open(path)?, path, max)
}

/// [`read`] for a file of any user, for input without effect on this process: a configuration that is only checked.
pub fn read_untrusted(path: &Path, max: u64) -> Result<Vec<u8>, TrustError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(|e| TrustError::io(path, e))?;
    regular(path, &fstat(&fd).map_err(|e| TrustError::io(path, e))?)?;
    bounded(fd.into(), path, max)
}

fn bounded(file: File, path: &Path, max: u64) -> Result<Vec<u8>, TrustError> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| TrustError::io(path, e))?;
    if bytes.len() as u64 > max {
        let why = format!("larger than {}", crate::model::quantity::bytes(max));
        return Err(TrustError::io(path, io::Error::new(ErrorKind::FileTooLarge, why)));
    }
    Ok(bytes)
}

/// [`read`] as text.
pub fn read_to_string(path: &Path, max: u64) -> Result<String, TrustError> {
    String::from_utf8(read(path, max)?)
        .map_err(|_| TrustError::io(path, io::Error::new(ErrorKind::InvalidData, "not UTF-8 text")))
}

/// Opens a directory that only this user and root can change.
pub fn directory(path: &Path) -> Result<Directory, TrustError> {
    let rules = Rules::of_process(Purpose::Read, true);
    match walk(path, rules)? {
        Entry::Directory(directory) => {
            let stat = fstat(&directory.fd).map_err(|e| TrustError::io(&directory.path, e))?;
            match rules.weakness(&directory.fd, &stat) {
                Some(cause) => Err(rules.refuse(&directory.path, &stat, cause)),
                None => Ok(directory),
            }
        }
        Entry::Absent { parent, name } => Err(TrustError::io(parent.path.join(name), rustix::io::Errno::NOENT)),
        Entry::File { parent, name, .. } => Err(TrustError::io(parent.path.join(name), rustix::io::Errno::NOTDIR)),
    }
}

/// A trusted file and its device and inode.
pub fn identity(path: &Path) -> Result<(File, FileIdentity), TrustError> {
    let file = open(path)?;
    let stat = fstat(&file).map_err(|e| TrustError::io(path, e))?;
    Ok((file, FileIdentity { dev: stat.st_dev, ino: stat.st_ino }))
}

/// The owner of a file, for a message.
#[must_use]
pub fn owner(stat: &Stat) -> String {
    format!("user {}", named(stat.st_uid))
}

/// Runs a closure that may hang in the kernel (a dead mount) on a thread that is abandoned after `timeout`; `None` in this case.
pub fn within<T: Send + 'static>(timeout: Duration, run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("files".to_owned());
    // the receiver is dropped after the timeout
    let started = thread.spawn(move || drop(send.send(run())));
    started.ok().and_then(|_| receive.recv_timeout(timeout).ok())
}

/// The name of a user, or the uid if there is none.
fn named(uid: u32) -> String {
    crate::probe::blocking::run_on_current_thread(|io| user_name(io, uid))
}

#[cfg(test)]
mod tests;
