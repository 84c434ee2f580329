//! Small files, as a process sees them.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use serde::{Deserialize, Serialize};

use crate::probe::Io;
use crate::probe::io::Root;

/// Size limit of a file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Text of a small file as process `pid` sees it, or `None` if it does not exist or is not readable.
#[must_use]
pub fn file_of(io: &Io, pid: i32, path: &str) -> Option<String> {
    text(open_of(io, pid, path)?)
}

/// Time of the last change of a file as process `pid` sees it, or `None` if it does not exist or is not accessible.
#[must_use]
pub fn modified_of(io: &Io, pid: i32, path: &str) -> Option<jiff::Timestamp> {
    Root::of(io, pid).ok()?.modified(path)
}

/// Files that match a pattern as process `pid` sees them.
#[must_use]
pub fn files_of(io: &Io, pid: i32, pattern: &str) -> Vec<String> {
    Root::of(io, pid).map(|root| root.glob(pattern)).unwrap_or_default()
}

/// Whether process `pid` may write to a socket file, by its owner, its groups and the permissions, or `None` if that is unknown
/// or the file does not exist.
#[must_use]
pub fn may_write(io: &Io, pid: i32, path: &str) -> Option<bool> {
    let meta = Root::of(io, pid).ok()?.metadata(path).ok()?;
    Some(Effective::of(io, pid)?.may(&meta, 0o2))
}

/// Effective ids of a process.
struct Effective {
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl Effective {
    fn of(io: &Io, pid: i32) -> Option<Self> {
        let status = io.read_lossy(format!("/proc/{pid}/status")).ok()?;
        let ids = |key: &str| -> Vec<u32> {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().filter_map(|w| w.parse().ok()).collect()
        };
        // the second of four is the effective id
        Some(Self { user: *ids("Uid:").get(1)?, group: *ids("Gid:").get(1)?, groups: ids("Groups:") })
    }

    /// Whether the owner, the groups and the permissions grant `access`, three bits of a mode.
    fn may(&self, meta: &Metadata, access: u32) -> bool {
        let shift = match () {
            () if self.user == 0 => return true,
            () if self.user == meta.uid() => 6,
            () if self.group == meta.gid() || self.groups.contains(&meta.gid()) => 3,
            () => 0,
        };
        (meta.mode() >> shift) & access == access
    }
}

/// A directory as a process uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DirectoryState {
    /// Its owner.
    pub owner: u32,
    /// Effective user of the process.
    pub user: u32,
    /// Its owner, the groups of the process and the permissions permit the process to create files in it.
    pub writable: bool,
    /// Its filesystem is mounted read-only for the process.
    pub read_only: bool,
}

/// A directory as process `pid` uses it, or `None` if it does not exist or is not accessible.
#[must_use]
pub fn directory_of(io: &Io, pid: i32, path: &str) -> Option<DirectoryState> {
    let directory = Root::of(io, pid).ok()?.open_path(path.as_ref()).ok()?;
    let meta = directory.metadata().ok().filter(Metadata::is_dir)?;
    let process = Effective::of(io, pid)?;
    let read_only = fstatvfs(&directory).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    Some(DirectoryState { owner: meta.uid(), user: process.user, writable: process.may(&meta, 0o3), read_only })
}

/// Whether two paths are one directory or file as process `pid` sees them, or `None` if one of them is not accessible.
#[must_use]
pub fn is_same_file(io: &Io, pid: i32, a: &str, b: &str) -> Option<bool> {
    let root = Root::of(io, pid).ok()?;
    let (a, b) = (root.metadata(a).ok()?, root.metadata(b).ok()?);
    Some((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Last lines of a file as process `pid` sees it, from at most its last `bytes`; the first line may be incomplete.
#[must_use]
pub fn file_tail(io: &Io, pid: i32, path: &str, bytes: u64) -> Vec<String> {
    let Some(mut file) = open_of(io, pid, path) else { return Vec::new() };
    let Ok(length) = file.metadata().map(|m| m.len()) else { return Vec::new() };
    let mut end = Vec::new();
    let read = file.seek(SeekFrom::Start(length.saturating_sub(bytes))).and_then(|_| file.take(bytes).read_to_end(&mut end));
    if read.is_err() {
        return Vec::new();
    }
    String::from_utf8_lossy(&end).lines().map(|l| l.chars().take(500).collect()).collect()
}

/// Open files of a process with names that end in `ending`, by their paths as the process sees them.
#[must_use]
pub fn open_files(io: &Io, pid: i32, ending: &str) -> Vec<String> {
    let descriptors = io.read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut paths: Vec<String> = descriptors
        .filter_map(|fd| io.read_link(fd.path()).ok()?.into_os_string().into_string().ok())
        .filter(|path| path.starts_with('/') && path.ends_with(ending))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// Paths of the entries of a directory as process `pid` sees it, at most `limit`.
#[must_use]
pub fn entries_of(io: &Io, pid: i32, directory: &str, limit: usize) -> Vec<String> {
    let names = Root::of(io, pid).map(|root| root.names(directory.as_ref())).unwrap_or_default();
    names.into_iter().take(limit).map(|name| format!("{directory}/{name}")).collect()
}

fn open_of(io: &Io, pid: i32, path: &str) -> Option<File> {
    Root::of(io, pid).and_then(|root| root.file(path)).ok()
}

fn text(file: File) -> Option<String> {
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn file_tail_is_read_and_a_directory_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(file_tail(&Io::for_test(), me, path.to_str().unwrap(), 9), ["wo", "three"].map(str::to_owned)[..].to_vec());
        assert_eq!(file_of(&Io::for_test(), me, path.to_str().unwrap()).as_deref(), Some("one\ntwo\nthree\n"));
        assert_eq!(file_of(&Io::for_test(), me, dir.path().to_str().unwrap()), None);
    }

    #[test]
    fn directory_of_process_and_its_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let found = directory_of(&Io::for_test(), me, path).unwrap();
        assert!(found.writable && !found.read_only && found.owner == found.user, "{found:?}");
        assert_eq!(directory_of(&Io::for_test(), me, "/no/such"), None);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert_eq!(is_same_file(&Io::for_test(), me, path, link.to_str().unwrap()), Some(true));
        assert_eq!(is_same_file(&Io::for_test(), me, path, "/"), Some(false));
        let meta = Root::own(&Io::for_test()).unwrap().metadata(path).unwrap();
        let other = Effective { user: meta.uid() + 1, group: meta.gid() + 1, groups: vec![] };
        assert!(!other.may(&meta, 0o3), "a temporary directory belongs to its owner only");
    }
}
