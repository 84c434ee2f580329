//! Files below the root of another process, symbolic links included, with the rights of that process.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags, fstatfs, open, openat, statat};

use super::confined::{Links, open_below};
use super::{Io, Rights};

/// Limit of names in a configuration directory.
const MAX_FILES: usize = 5000;

/// Magic number of procfs (statfs(2)). Its files expose other processes; none of them is a configuration or a log.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// The root directory of a process. Symbolic links resolve as for that process, and every access is permitted or denied as for
/// that process.
pub struct Root {
    directory: OwnedFd,
    /// The rights of the process; `None` for this process.
    rights: Option<Rights>,
    /// Created on a thread that can be abandoned, and used there only.
    not_send: PhantomData<*const ()>,
}

impl Root {
    /// The root of this process.
    pub fn own(_io: &Io) -> Result<Self> {
        let directory = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { directory, rights: None, not_send: PhantomData })
    }

    /// The root of `pid`, with the rights of `pid`.
    pub fn of(_io: &Io, pid: i32) -> Result<Self> {
        // one descriptor for both: a new process with the same PID matches neither
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = open(format!("/proc/{pid}"), flags, Mode::empty())?;
        let directory = openat(&process, "root", flags, Mode::empty())?;
        Ok(Self { directory, rights: Some(Rights::of(&process)?), not_send: PhantomData })
    }

    /// The root of `pid`, or of this process.
    pub fn of_or_own(io: &Io, pid: Option<i32>) -> Result<Self> {
        pid.map_or_else(|| Self::own(io), |pid| Self::of(io, pid))
    }

    /// Name of the root of `pid` for errors.
    #[must_use]
    pub fn name(pid: i32) -> String {
        format!("the root of process {pid}")
    }

    fn as_process<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        match &self.rights {
            Some(rights) => rights.assume(f),
            None => f(),
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<File> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        // neither a FIFO nor a terminal at the path may block this thread; O_PATH opens nothing
        let wait = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
        self.as_process(|| Ok(open_below(&self.directory, relative, flags | wait, Links::InRoot)?.into()))
    }

    /// Opens a regular file inside of this root.
    ///
    /// Its type is checked before the open, because opening a device has side effects.
    pub fn file(&self, path: &str) -> Result<File> {
        let regular = |file: &File| -> Result<()> {
            if !file.metadata()?.is_file() {
                return Err(Error::other("not a regular file"));
            }
            if self.rights.is_some() && i128::from(fstatfs(file)?.f_type) == i128::from(PROC_SUPER_MAGIC) {
                return Err(Error::other("a file of procfs"));
            }
            Ok(())
        };
        regular(&self.open(Path::new(path), OFlags::PATH)?)?;
        let file = self.open(Path::new(path), OFlags::RDONLY)?;
        regular(&file)?;
        Ok(file)
    }

    /// Reads a regular file of at most `largest` bytes; a larger one is an error.
    pub fn bytes(&self, path: &str, largest: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(largest + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > largest {
            return Err(Error::other(format!("larger than {}", crate::model::quantity::bytes(largest))));
        }
        Ok(bytes)
    }

    /// The target of the symbolic link at `path`, or `None` if it is not a link.
    #[must_use]
    pub fn link(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        let directory = self.directory(path.parent()?).ok()?;
        let name = path.file_name()?;
        let target = self.as_process(|| Ok(rustix::fs::readlinkat(&directory, name, Vec::new())?)).ok()?;
        target.into_string().ok()
    }

    /// A descriptor (`O_PATH`) of the object at `path`; follows symbolic links.
    pub fn open_path(&self, path: &Path) -> Result<File> {
        self.open(path, OFlags::PATH)
    }

    fn directory(&self, path: &Path) -> Result<File> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Metadata of the object at `path`, of any type; follows symbolic links.
    pub fn metadata(&self, path: &str) -> Result<std::fs::Metadata> {
        self.open(Path::new(path), OFlags::PATH)?.metadata()
    }

    /// The later modification time of the file at `path` and of its symbolic link.
    #[must_use]
    pub fn modified(&self, path: &str) -> Option<Timestamp> {
        let of = |seconds: i64, nanos: i64| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).ok();
        let meta = self.metadata(path).ok()?;
        let target = of(meta.mtime(), meta.mtime_nsec());
        let path = Path::new(path);
        let link = self.directory(path.parent()?).ok().and_then(|directory| {
            let name = path.file_name()?;
            let stat = self.as_process(|| Ok(statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?)).ok()?;
            of(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0))
        });
        target.max(link)
    }

    /// The mode of a file that is not world-readable.
    #[must_use]
    pub fn hidden_mode(&self, path: &str) -> Option<u32> {
        let mode = self.metadata(path).ok()?.mode() & 0o7777;
        (mode & 0o004 == 0).then_some(mode)
    }

    /// The names in a directory, sorted like glob(3); the first 5000 that the file system lists.
    #[must_use]
    pub fn names(&self, directory: &Path) -> Vec<String> {
        let Ok(directory) = self.open(directory, OFlags::RDONLY | OFlags::DIRECTORY) else { return Vec::new() };
        let Ok(entries) = rustix::fs::Dir::read_from(&directory) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .take(MAX_FILES)
            .filter_map(|e| e.ok()?.file_name().to_str().ok().map(str::to_owned))
            .filter(|n| n != "." && n != "..")
            .collect();
        names.sort();
        names
    }

    /// Whether `path` exists.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.open(Path::new(path), OFlags::PATH).is_ok()
    }

    /// The paths that match a pattern, at most 5000.
    #[must_use]
    pub fn glob(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![PathBuf::from("/")];
        for part in pattern.split('/').filter(|p| !p.is_empty()) {
            let wild = part.contains(['*', '?', '[']);
            let matcher = glob::Pattern::new(part).ok().filter(|_| wild);
            found = found
                .into_iter()
                .flat_map(|directory| match &matcher {
                    None => vec![directory.join(part)],
                    // a star does not match a leading dot
                    Some(m) => {
                        let hidden = part.starts_with('.');
                        let names = self.names(&directory).into_iter();
                        let names = names.filter(|n| m.matches(n) && (hidden || !n.starts_with('.')));
                        names.map(|n| directory.join(n)).collect()
                    }
                })
                .take(MAX_FILES)
                .collect();
        }
        found.into_iter().filter_map(|p| p.into_os_string().into_string().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::confined::tests::both_ways;
    use super::*;

    fn own() -> Root {
        Root::of(&Io::for_test(), i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn fifo_device_and_procfs_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", path("environ")).unwrap();
        std::fs::write(path("file"), "text").unwrap();
        both_ways(|| {
            for name in ["fifo", "zero", "environ", "none", "."] {
                assert!(own().file(&path(name)).is_err(), "{name}");
            }
            assert_eq!(own().bytes(&path("file"), 10).unwrap(), b"text");
            assert!(own().bytes(&path("file"), 3).is_err());
        });
    }

    #[test]
    fn link_loop_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loop");
        std::os::unix::fs::symlink(&path, &path).unwrap();
        both_ways(|| assert!(own().file(path.to_str().unwrap()).is_err()));
    }
}
