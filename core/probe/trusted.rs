//! Files that decide what this process does: configuration, secrets, certificate authorities, programs. For root they are root's alone,
//! with every directory above them.
//!
//! A path is walked from `/` component by component: each one is opened relative to the descriptor of the directory before it
//! (`O_PATH | O_NOFOLLOW`), its owner and mode are those of the open descriptor (`fstat`), and the target of a symbolic link is walked in
//! the same way. What was checked is therefore what is read, and a component that is exchanged meanwhile is another descriptor.
//!
//! The owner that a FUSE filesystem reports is the claim of the user who mounted it, so a mount of another user counts as that user's.

#![allow(
    clippy::disallowed_methods,
    reason = "opens each component relative to the last; every caller is covered by the watchdog"
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

use super::file::user_name;
use crate::model::FileIdentity;

/// Symbolic links in one path; the kernel has the same limit (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// `FUSE_SUPER_MAGIC` of linux/magic.h.
const FUSE: u64 = 0x6573_5546;

/// Write permission for the group or for others.
const GROUP_OR_OTHERS: u32 = 0o022;

/// Write permission for others.
const OTHERS: u32 = 0o002;

/// The restricted deletion flag: an entry can be renamed or removed by its owner only.
const STICKY: u32 = 0o1000;

/// Why a path is not used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The component that failed.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// Another user can change a component of the path.
    #[error("{component} {cause}: {remedy}")]
    Refused {
        /// The component.
        component: PathBuf,
        /// Its owner or its mode.
        cause: String,
        /// Commands or places that mend it.
        remedy: String,
    },
}

impl TrustError {
    /// The error as one of the standard library.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        match self {
            Self::Io { source, .. } => source,
            refused @ Self::Refused { .. } => io::Error::new(ErrorKind::PermissionDenied, refused.to_string()),
        }
    }

    /// The path, or a directory above it, does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
    }

    fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }
}

/// The purpose of a path; it decides what is refused and the advice in the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A file that is read or run, or a directory that is read.
    Read,
    /// A file that is written and that its writer alone reads.
    Write,
    /// Metrics that another user collects: they may be written to a directory of that user.
    Collect,
}

/// A directory that was reached by way of trusted directories only.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Others can add entries but cannot touch those of this user (`/tmp`).
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
    /// Its path, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether others can add entries, but cannot touch those of this user (`/tmp`).
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

/// The last component of a path that was walked.
#[derive(Debug)]
pub enum Entry {
    /// A directory.
    Directory(Directory),
    /// Anything but a directory and, where links are followed, a link.
    File {
        /// The directory it is in.
        parent: Directory,
        /// Its name there.
        name: OsString,
        /// Its type, owner and mode.
        stat: Box<Stat>,
    },
    /// Nothing of this name.
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
    /// The last component is resolved when it is a link.
    follow: bool,
}

impl Rules {
    fn of_process(purpose: Purpose, follow: bool) -> Self {
        Self { user: rustix::process::geteuid().as_raw(), purpose, follow }
    }

    fn trusts(self, uid: u32) -> bool {
        uid == 0 || uid == self.user
    }

    /// Users often have a group of their own that may write; root has none.
    fn write_bits(self) -> u32 {
        if self.user == 0 { GROUP_OR_OTHERS } else { OTHERS }
    }

    fn refuse(self, component: &Path, stat: &Stat, cause: String) -> TrustError {
        let shown = component.display();
        let remedy = match self.purpose {
            // a directory such as /tmp is meant to be as it is
            Purpose::Read if stat.st_mode & STICKY != 0 => {
                "move the file to a directory of root's such as /etc/opsctl: others can add files to this one".to_owned()
            }
            Purpose::Read if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                "name a file in a directory of root's such as /etc/opsctl".to_owned()
            }
            Purpose::Read if self.user == 0 => {
                format!("chown root and chmod go-w {shown}, or move the file to a directory of root's such as /etc/opsctl")
            }
            Purpose::Read => format!("chmod o-w {shown}, or use a file of your own"),
            Purpose::Write | Purpose::Collect => {
                "write to a directory of root's such as /var/lib/opsctl or /root, or to standard output (`FORMAT=-`)".to_owned()
            }
        };
        TrustError::Refused { component: component.to_owned(), cause, remedy }
    }

    /// The reason why another user can change what is open here.
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

    /// A directory of a path, if it may be passed. For an ordinary user only the file itself is checked: a user who can exchange it
    /// can replace it only by another file of this user or of root.
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

/// The user who mounted the FUSE filesystem of a descriptor; none on other filesystems. An owner that is not known is
/// `u32::MAX`, which no rule trusts.
fn mounter(fd: BorrowedFd<'_>) -> Option<u32> {
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the width and sign of f_type depend on the architecture")]
    let kind = fstatfs(fd).map(|s| s.f_type as u64);
    // an error is an answer of a FUSE server, too
    if kind.is_ok_and(|kind| kind & 0xffff_ffff != FUSE) {
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

/// The option `user_id` of a mount in the text of mountinfo; a FUSE filesystem without one (virtiofs) was mounted by root.
fn mount_user(mountinfo: &str, id: &str) -> Option<u32> {
    let line = mountinfo.lines().find(|l| l.split(' ').next() == Some(id))?;
    let options = line.rsplit(' ').next()?;
    options.split(',').find_map(|o| o.strip_prefix("user_id=")).map_or(Some(0), |uid| uid.parse().ok())
}

/// Walks a path.
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
                // the mode of a link says nothing; only where others can add entries does its owner matter
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

/// The components of a path, the last one first. A path that ends in a slash names a directory, which the walk finds out.
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

/// The directory in which `path` is to be written, and what is there now. A link at the end is not followed.
pub fn destination(path: &Path, purpose: Purpose) -> Result<Entry, TrustError> {
    walk(path, Rules::of_process(purpose, false))
}

/// A regular file that only this user and root can change.
pub fn open(path: &Path) -> Result<File, TrustError> {
    let rules = Rules::of_process(Purpose::Read, true);
    match walk(path, rules)? {
        Entry::Directory(directory) => Err(TrustError::io(directory.path, rustix::io::Errno::ISDIR)),
        Entry::Absent { parent, name } => Err(TrustError::io(parent.path.join(name), rustix::io::Errno::NOENT)),
        Entry::File { parent, name, stat } => {
            let shown = parent.path.join(&name);
            regular(&shown, &stat)?;
            // a file of root's may have been moved there, under this name, by its directory's other users
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

/// At most `max` bytes of a trusted file; a longer one is an error.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, TrustError> {
    bounded(open(path)?, path, max)
}

/// [`read`] of a file of any user, for input that decides nothing: a configuration that is only checked.
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

/// A directory that only this user and root can change.
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

/// A trusted file and which one it is.
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

/// Runs something that may hang in the kernel (a dead mount) on a thread that is abandoned after `timeout`; none then.
pub fn within<T: Send + 'static>(timeout: Duration, run: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (send, receive) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("files".to_owned());
    // the receiver is dropped when the wait has timed out
    let started = thread.spawn(move || drop(send.send(run())));
    started.ok().and_then(|_| receive.recv_timeout(timeout).ok())
}

/// The name of a user, or the number where there is none.
fn named(uid: u32) -> String {
    super::blocking::on_this_thread(|io| user_name(io, uid))
}

#[cfg(test)]
mod tests;
