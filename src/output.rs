//! Output files at paths given by the user: reports, recordings, metrics, a new configuration, man pages.
//!
//! Files are written atomically with their final mode, and writing never blocks: FIFOs, sockets and devices are rejected, except
//! `/dev/stdout`, `/dev/stderr` and `/dev/null`. Root also follows no link at the end of the path and writes to no directory that another
//! user can change, at any level. A shared directory (`/tmp`) is accepted for a new file or a file of root. All checks use open descriptors
//! ([`trusted`]), and the file is created and renamed relative to the same descriptor.

#![allow(clippy::disallowed_methods, reason = "a file that the command line names, opened by the watched main thread")]

mod format;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opsctl_core::model::quantity;
use opsctl_core::probe::io::trusted;
use opsctl_core::probe::io::trusted::{Directory, Entry, Purpose, within};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, fchmod, mkdirat, openat, renameat, renameat_with, unlinkat};

pub use format::Format;

/// Time limit of writing a file; only an unresponsive filesystem exceeds it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of names tried for the temporary file.
const MAX_ATTEMPTS: usize = 8;

/// The mode of reports in files: `file_mode` in `[report]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u32);

impl Default for FileMode {
    fn default() -> Self {
        Self(0o600)
    }
}

impl FileMode {
    /// Reads `0600`, `0640` or `0644`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "0600" | "600" => Ok(Self(0o600)),
            "0640" | "640" => Ok(Self(0o640)),
            "0644" | "644" => Ok(Self(0o644)),
            _ => Err(format!("`{text}` is not one of 0600, 0640 and 0644")),
        }
    }
}

/// The readers of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only its owner, unless `file_mode` is set: it describes a host.
    Report(FileMode),
    /// Only its owner: a recording, a configuration.
    Private,
    /// The collector of node_exporter, which runs as another user (mode 0644). The directory may belong to that user.
    Metrics,
    /// All users (mode 0644): documentation.
    Public,
}

impl Access {
    /// The access of a report file: metrics are for the collector of node_exporter, which reads `.prom` files only.
    #[must_use]
    pub fn of_report(format: Format, file: &Path, mode: FileMode) -> Self {
        let collected = format == Format::Prometheus && file.extension().is_some_and(|e| e == "prom");
        if collected { Self::Metrics } else { Self::Report(mode) }
    }

    fn mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Report(FileMode(mode)) => mode,
            Self::Private => 0o600,
            Self::Metrics | Self::Public => 0o644,
        })
    }

    fn purpose(self) -> Purpose {
        if self == Self::Metrics { Purpose::Collect } else { Purpose::Write }
    }

    fn is_durable(self) -> bool {
        self == Self::Private
    }
}

/// Writes a file and replaces an existing one.
pub fn write(path: &Path, bytes: Vec<u8>, access: Access) -> io::Result<()> {
    put(path, bytes, access, true).map(|_| ())
}

/// Writes a new file; false if it exists.
pub fn write_new(path: &Path, bytes: Vec<u8>, access: Access) -> io::Result<bool> {
    put(path, bytes, access, false)
}

/// Creates a directory and missing parents, with this mode, reduced by the umask.
pub fn create_directories(path: &Path, mode: u32) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    bounded(path, move |path| {
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        above.into_iter().try_for_each(|path| {
            match trusted::destination(path, Purpose::Write).map_err(trusted::TrustError::into_io)? {
                Entry::Directory(_) => Ok(()),
                Entry::Absent { parent, name } => match mkdirat(&parent, &name, Mode::from_raw_mode(mode)) {
                    // created by a concurrent run
                    Err(rustix::io::Errno::EXIST) => trusted::directory(path).map(|_| ()).map_err(trusted::TrustError::into_io),
                    result => result.map_err(io::Error::from),
                },
                // a link to a directory is accepted if no other user can replace the link
                Entry::File { .. } => trusted::directory(path).map(|_| ()).map_err(trusted::TrustError::into_io),
            }
        })
    })
}

fn bounded<T: Send + 'static>(path: PathBuf, run: impl FnOnce(&Path) -> io::Result<T> + Send + 'static) -> io::Result<T> {
    within(WRITE_TIMEOUT, move || run(&path)).unwrap_or_else(|| {
        let after = quantity::duration(WRITE_TIMEOUT.try_into().unwrap_or_default());
        Err(io::Error::new(ErrorKind::TimedOut, format!("the filesystem does not respond within {after}")))
    })
}

fn put(path: &Path, bytes: Vec<u8>, access: Access, replace: bool) -> io::Result<bool> {
    // the open descriptors of this process, not the files they refer to
    match path.to_str() {
        Some("/dev/stdout") => return whole(&mut io::stdout().lock(), &bytes),
        Some("/dev/stderr") => return whole(&mut io::stderr().lock(), &bytes),
        Some("/dev/null") => return Ok(true),
        _ => {}
    }
    bounded(path.to_owned(), move |path| {
        let (directory, name) = match trusted::destination(path, access.purpose()).map_err(trusted::TrustError::into_io)? {
            Entry::Directory(_) => return Err(io::Error::new(ErrorKind::IsADirectory, "it is a directory")),
            Entry::Absent { parent, name } => (parent, name),
            Entry::File { .. } if !replace => return Ok(false),
            Entry::File { parent, name, stat } => {
                replaceable(&parent, &name, &stat)?;
                (parent, name)
            }
        };
        let (temporary, mut file) = temporary(&directory)?;
        let written = fill(&mut file, &bytes, access).and_then(|()| rename(&directory, &temporary, &name, replace));
        if !matches!(written, Ok(true)) {
            let _ = unlinkat(&directory, &temporary, AtFlags::empty());
        } else if access.is_durable() {
            sync(&directory)?;
        }
        written
    })
}

fn whole(out: &mut dyn io::Write, bytes: &[u8]) -> io::Result<bool> {
    out.write_all(bytes)?;
    out.flush().map(|()| true)
}

/// Whether the existing file may be replaced. It is never opened.
fn replaceable(directory: &Directory, name: &OsStr, stat: &rustix::fs::Stat) -> io::Result<()> {
    let root = rustix::process::geteuid().is_root();
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            if root && directory.is_sticky() && stat.st_uid != 0 {
                let (path, owner) = (directory.path().join(name), trusted::owner(stat));
                let why = format!("{} belongs to {owner} in a directory that others can write: remove it first", path.display());
                return Err(io::Error::new(ErrorKind::PermissionDenied, why));
            }
            return Ok(());
        }
        // for an ordinary user the link itself is replaced
        FileType::Symlink if !root => return Ok(()),
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no regular file",
    };
    let why = format!("{} is {kind}: name a regular file, or `-` for standard output", directory.path().join(name).display());
    Err(io::Error::new(ErrorKind::InvalidInput, why))
}

/// A new file in a directory, readable only by its owner. An existing name of any type is not used.
fn temporary(directory: &Directory) -> io::Result<(String, File)> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut last = ErrorKind::AlreadyExists.into();
    for _ in 0..MAX_ATTEMPTS {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = format!(".opsctl-{}", quantity::hex(&random));
        match openat(directory, &name, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => return Ok((name, fd.into())),
            Err(rustix::io::Errno::EXIST) => {}
            Err(e) => {
                last = io::Error::from(e);
                break;
            }
        }
    }
    Err(last)
}

fn fill(file: &mut File, bytes: &[u8], access: Access) -> io::Result<()> {
    file.write_all(bytes)?;
    // independent of the umask
    fchmod(file.as_fd(), access.mode())?;
    if access.is_durable() { file.sync_all() } else { Ok(()) }
}

fn rename(directory: &Directory, from: &str, to: &OsStr, replace: bool) -> io::Result<bool> {
    if replace {
        return renameat(directory, from, directory, to).map(|()| true).map_err(io::Error::from);
    }
    match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        // filesystems without the flag (NFS): create a hard link and remove the first name
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            match rustix::fs::linkat(directory, from, directory, to, AtFlags::empty()) {
                Ok(()) => unlinkat(directory, from, AtFlags::empty()).map(|()| true).map_err(io::Error::from),
                Err(rustix::io::Errno::EXIST) => Ok(false),
                Err(e) => Err(e.into()),
            }
        }
        Err(e) => Err(e.into()),
    }
}

fn sync(directory: &Directory) -> io::Result<()> {
    let readable = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    File::from(readable).sync_all()
}

#[cfg(test)]
mod tests;
