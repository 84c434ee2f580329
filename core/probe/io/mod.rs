//! The only access to files and programs.
//!
//! Every call that can block in the kernel takes an [`Io`], and only [`blocking::run`] provides one, on a thread that can be
//! abandoned. `clippy.toml` disallows `std::fs`, `std::process::Command` and name lookups everywhere else.

#![allow(clippy::disallowed_methods, reason = "the one module that wraps them")]

pub mod accounts;
pub mod blocking;
pub mod clock;
pub mod command;
pub(in crate::probe) mod confined;
pub mod crontab;
pub(in crate::probe) mod dns;
mod environ;
pub(in crate::probe) mod executable;
pub mod file;
pub mod http;
pub(in crate::probe) mod resolv_conf;
pub(in crate::probe) mod resolve;
pub(in crate::probe) mod rights;
mod root;
pub mod run_as;
pub(in crate::probe) mod stat;
pub(crate) mod threads;
pub mod trusted;
pub mod view;

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{Error, Read, Result};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

pub use environ::environment;
pub use rights::{Ids, Rights, ids_of};
pub use root::Root;

/// Size limit of a file that is read completely, in bytes. The largest file read is `/proc/PID/maps` with 65530 mappings
/// (`vm.max_map_count`).
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Entry limit of one directory.
const MAX_DIRECTORY_ENTRIES: usize = 100_000;

/// Proof that the caller runs on a thread that can be abandoned. Can neither be created outside of this module nor sent to
/// another thread.
#[derive(Debug)]
pub struct Io {
    not_send: PhantomData<*const ()>,
}

impl Io {
    /// For [`blocking::run`], and for the main thread of tests.
    fn new() -> Self {
        Self { not_send: PhantomData }
    }

    /// For tests, which may block.
    #[cfg(any(test, feature = "fuzz"))]
    #[must_use]
    pub fn for_test() -> Self {
        Self::new()
    }

    /// Opens a file for reading. A FIFO does not block, and a terminal does not become the controlling terminal.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
    }

    /// Reads a regular file, at most 32 MiB.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// [`Io::read`] as text; returns an error if it is not UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<Path>) -> Result<String> {
        String::from_utf8(self.read(path)?).map_err(|e| Error::new(std::io::ErrorKind::InvalidData, e))
    }

    /// [`Io::read`] as text; invalid UTF-8 is replaced.
    pub fn read_lossy(&self, path: impl AsRef<Path>) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path)?).into_owned())
    }

    /// The entries of a directory, at most 100,000.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<std::iter::Take<fs::ReadDir>> {
        Ok(fs::read_dir(path)?.take(MAX_DIRECTORY_ENTRIES))
    }

    /// The names in a directory, unsorted.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        Ok(self.read_dir(path)?.filter_map(|e| Some(e.ok()?.file_name())).collect())
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        fs::read_link(path)
    }

    /// The working directory of a process, as a path below the root of that process.
    #[must_use]
    pub fn working_directory(&self, pid: i32) -> Option<String> {
        self.read_link(format!("/proc/{pid}/cwd")).ok()?.into_os_string().into_string().ok()
    }

    /// Metadata; follows symbolic links.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        fs::metadata(path)
    }

    /// Metadata of the path itself, without following a symbolic link.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        fs::symlink_metadata(path)
    }

    /// The absolute path with all symbolic links resolved.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        fs::canonicalize(path)
    }

    /// Whether a path exists; also false if it is not accessible.
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.metadata(path).is_ok()
    }

    /// Whether a path is a directory.
    #[must_use]
    pub fn is_dir(&self, path: impl AsRef<Path>) -> bool {
        self.metadata(path).is_ok_and(|m| m.is_dir())
    }

    /// Resolves a host name as the programs of this host do, without the C library: `/etc/hosts`, then the name service. At most
    /// 8 s. `NotFound` if there is no such name.
    pub fn look_up(&self, host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>> {
        resolve::resolve(self, host, port)
    }
}
