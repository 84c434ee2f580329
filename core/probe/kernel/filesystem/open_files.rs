//! Open files: deleted ones, with space that `du` does not count, and the writers of large ones.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, major, makedev, minor, statx};
use serde::{Deserialize, Serialize};

use crate::model::FileIdentity;
use crate::probe::kernel::host;
use crate::probe::proc::home::Home;
use crate::probe::proc::owner::ordinary_user;
use crate::probe::proc::process;
use crate::probe::{Io, ProbeError, blocking};

/// A deleted file that is still open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedFile {
    /// Former path, without the kernel's ` (deleted)`.
    pub path: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// `major:minor` of its filesystem.
    pub dev: String,
    /// File identity.
    pub identity: FileIdentity,
    /// A process that has it open.
    pub pid: i32,
    /// Start of that process in clock ticks since boot.
    pub start_ticks: u64,
    /// Its command name.
    pub comm: String,
    /// File descriptor in that process.
    pub fd: i32,
    /// Opened for writing only, or for appending: truncating it is safe for the writer.
    pub append_or_write_only: bool,
}

/// Minimum size of a reported deleted file, in bytes.
const MIN_FILE_BYTES: u64 = 1 << 20;

/// Scans the descriptors of all processes. Without root only processes of this user are visible: returns [`ProbeError::Denied`].
pub async fn deleted_but_open() -> Result<Vec<DeletedFile>, ProbeError> {
    if !host::is_root() {
        return Err(ProbeError::Denied {
            subject: "open files of all processes".into(),
            from: "/proc/*/fd".into(),
            needs: crate::probe::needed_right().into(),
        });
    }
    blocking::run("open files of all processes", "/proc/*/fd", Duration::from_secs(4), scan).await
}

fn scan(io: &Io) -> Vec<DeletedFile> {
    let mut found: HashMap<(u64, u64), DeletedFile> = HashMap::new();
    for pid in process::all(io).into_iter().flatten() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        for fd in io.read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok) {
            // readlink first: it costs less than stat, and most descriptors are not deleted files
            let Ok(link) = io.read_link(fd.path()) else { continue };
            let Some(path) = link.to_str().and_then(deleted_path) else { continue };
            let Some(OpenFile { bytes, dev, ino, links: 0 }) = regular(io, &fd.path()) else { continue };
            if bytes < MIN_FILE_BYTES || found.contains_key(&(dev, ino)) {
                continue;
            }
            let number = fd.file_name().to_str().and_then(|n| n.parse().ok()).unwrap_or(-1);
            found.insert(
                (dev, ino),
                DeletedFile {
                    path: path.to_owned(),
                    bytes,
                    dev: format!("{}:{}", major(dev), minor(dev)),
                    identity: FileIdentity { dev, ino },
                    pid,
                    start_ticks: start_ticks(io, &process).unwrap_or(0),
                    comm: process::comm(io, pid).unwrap_or_default(),
                    fd: number,
                    append_or_write_only: flags(io, &process, number).is_some_and(append_or_write_only),
                },
            );
        }
    }
    let mut list: Vec<DeletedFile> = found.into_values().collect();
    list.sort_by_key(|f| std::cmp::Reverse(f.bytes));
    list
}

/// A regular file.
struct OpenFile {
    bytes: u64,
    dev: u64,
    ino: u64,
    links: u32,
}

/// The file of a descriptor, if it is regular. Uses cached attributes only (`AT_STATX_DONT_SYNC`): the file may be on a FUSE file
/// system of a user with a server that does not respond.
fn regular(_io: &Io, descriptor: &Path) -> Option<OpenFile> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = statx(CWD, descriptor, flags, StatxFlags::BASIC_STATS).ok()?;
    let is_file = FileType::from_raw_mode(stat.stx_mode.into()).is_file();
    let dev = makedev(stat.stx_dev_major, stat.stx_dev_minor);
    is_file.then(|| OpenFile { bytes: stat.stx_blocks * 512, dev, ino: stat.stx_ino, links: stat.stx_nlink })
}

/// A process that has a file open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Process id.
    pub pid: i32,
    /// Command name.
    pub comm: String,
    /// The container or unit it belongs to.
    pub home: Home,
}

/// Time limit of the search for writers.
const WRITERS_TIMEOUT: Duration = Duration::from_secs(2);

/// For each of these files a process that has it open for writing. Without root only processes of this user are visible.
pub async fn writers(files: Vec<(String, FileIdentity)>) -> Result<Vec<Option<Writer>>, ProbeError> {
    blocking::run("open files of all processes", "/proc/*/fd", WRITERS_TIMEOUT, move |io| writers_of(io, &files)).await
}

fn writers_of(io: &Io, files: &[(String, FileIdentity)]) -> Vec<Option<Writer>> {
    let mut found: Vec<Option<Writer>> = vec![None; files.len()];
    let mut by_name: HashMap<&OsStr, Vec<usize>> = HashMap::new();
    for (n, (path, _)) in files.iter().enumerate() {
        by_name.entry(Path::new(path).file_name().unwrap_or_default()).or_default().push(n);
    }
    for pid in process::all(io).into_iter().flatten() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        for fd in io.read_dir(process.join("fd")).into_iter().flatten().filter_map(Result::ok) {
            // readlink first: a container has another path of the file, with the same name
            let Ok(link) = io.read_link(fd.path()) else { continue };
            let Some(alike) = link.file_name().and_then(|name| by_name.get(name)) else { continue };
            let Some(open) = regular(io, &fd.path()) else { continue };
            for n in alike {
                let (Some((path, identity)), Some(writer)) = (files.get(*n), found.get_mut(*n)) else { continue };
                let number = fd.file_name().to_str().and_then(|n| n.parse().ok()).unwrap_or(-1);
                if writer.is_none()
                    && is_same(path, *identity, &link, &open)
                    && flags(io, &process, number).is_some_and(|flags| flags & ACCESS_MODE != 0)
                {
                    let groups = io.read_lossy(process.join("cgroup")).unwrap_or_default();
                    let comm = process::comm(io, pid).unwrap_or_default();
                    *writer = Some(Writer { pid, comm, home: Home::of_cgroups(&groups) });
                }
            }
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found
}

/// Whether a descriptor refers to this file. An overlay has a device of its own; its files keep the inode of the layer, and the end of
/// the path.
fn is_same(path: &str, identity: FileIdentity, link: &Path, open: &OpenFile) -> bool {
    let in_overlay = || major(open.dev) == 0 && link.strip_prefix("/").is_ok_and(|below| Path::new(path).ends_with(below));
    open.ino == identity.ino && (open.dev == identity.dev || in_overlay())
}

/// The path of a deleted regular file; `None` for shared memory, memfd, aio rings and graphics buffers.
pub(super) fn deleted_path(link: &str) -> Option<&str> {
    let path = link.strip_suffix(" (deleted)")?;
    let not_a_file = ["/memfd:", "/dev/shm/", "/SYSV", "/[aio]", "/i915", "/drm", "/dev/zero"];
    (path.starts_with('/') && !not_a_file.iter().any(|p| path.starts_with(p))).then_some(path)
}

/// Field 22 of `/proc/<pid>/stat`, counted after the command name, which may contain anything.
fn start_ticks(io: &Io, process: &Path) -> Option<u64> {
    let stat = io.read_lossy(process.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// `flags:` of fdinfo, octal (proc(5)).
fn flags(io: &Io, process: &Path, fd: i32) -> Option<u32> {
    let text = io.read_lossy(process.join(format!("fdinfo/{fd}"))).ok()?;
    u32::from_str_radix(text.lines().find_map(|l| l.strip_prefix("flags:"))?.trim(), 8).ok()
}

/// `O_ACCMODE`: 0 is read only.
const ACCESS_MODE: u32 = 3;

fn append_or_write_only(flags: u32) -> bool {
    let write_only = rustix::fs::OFlags::WRONLY.bits();
    let append = rustix::fs::OFlags::APPEND.bits();
    flags & ACCESS_MODE == write_only || (flags & ACCESS_MODE != 0 && flags & append != 0)
}

/// A process that has used most of its descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorUser {
    /// Process id.
    pub pid: i32,
    /// Command name.
    pub comm: String,
    /// Open descriptors.
    pub open: u64,
    /// Its soft limit.
    pub limit: u64,
    /// The container or unit it belongs to.
    #[serde(default)]
    pub home: Home,
    /// The ordinary user of this host that it belongs to: it can choose its limit itself.
    #[serde(default)]
    pub user: Option<String>,
}

/// Descriptors in use and their system-wide limit (`/proc/sys/fs/file-nr`), and every process above `percent` of its own limit.
pub async fn descriptors(percent: f64) -> Result<((u64, u64), Vec<DescriptorUser>), ProbeError> {
    blocking::run("file descriptors", "/proc", Duration::from_secs(4), move |io| {
        let text = io.read_lossy("/proc/sys/fs/file-nr").unwrap_or_default();
        let mut numbers = text.split_whitespace().filter_map(|n| n.parse().ok());
        let all = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
        (all, users(io, percent))
    })
    .await
}

fn users(io: &Io, percent: f64) -> Vec<DescriptorUser> {
    let mut list = Vec::new();
    for pid in process::all(io).into_iter().flatten() {
        let file = |name: &str| format!("/proc/{pid}/{name}");
        // since Linux 6.2 the size of the directory is the number of descriptors; before it is 0
        let Ok(meta) = io.metadata(file("fd")) else { continue };
        let open = if meta.size() > 0 { meta.size() } else { io.read_dir(file("fd")).map_or(0, |d| d.count() as u64) };
        // most processes have fewer; so few are no problem even at a tiny limit
        if open < 32 {
            continue;
        }
        let Some(limit) = soft_limit(&io.read_lossy(file("limits")).unwrap_or_default()) else { continue };
        if open as f64 * 100.0 >= limit as f64 * percent {
            let comm = process::comm(io, pid).unwrap_or_default();
            let groups = io.read_lossy(file("cgroup")).unwrap_or_default();
            let home = Home::of_cgroups(&groups);
            let user = if matches!(home, Home::Container(_)) { None } else { ordinary_user(io, pid) };
            list.push(DescriptorUser { pid, comm, open, limit, home, user });
        }
    }
    list
}

/// `Max open files            1024                 524288               files`
pub(super) fn soft_limit(limits: &str) -> Option<u64> {
    limits.lines().find_map(|l| l.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use std::io::Write;

    use super::*;

    #[test]
    fn deleted_file_open_for_appending_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        file.write_all(&vec![1; 2 << 20]).unwrap();
        file.sync_all().unwrap();
        let scanned = |path: &Path| scan(&Io::for_test()).into_iter().find(|f| Path::new(&f.path) == path);
        assert_eq!(scanned(&path), None);
        std::fs::remove_file(&path).unwrap();
        let found = scanned(&path).unwrap();
        assert_eq!(found.pid, i32::try_from(std::process::id()).unwrap());
        assert!(found.bytes >= 2 << 20 && found.append_or_write_only && found.start_ticks > 0);
        let meta = file.metadata().unwrap();
        assert_eq!(found.identity, FileIdentity { dev: meta.dev(), ino: meta.ino() });
    }

    #[test]
    fn writer_of_a_file_is_found_and_its_reader_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "x").unwrap();
            let meta = std::fs::metadata(&path).unwrap();
            (path.display().to_string(), FileIdentity { dev: meta.dev(), ino: meta.ino() })
        };
        let files = [file("written-by-this-test"), file("read-by-this-test"), file("closed-by-this-test")];
        let _written = std::fs::OpenOptions::new().append(true).open(&files[0].0).unwrap();
        let _read = std::fs::File::open(&files[1].0).unwrap();
        let pids: Vec<Option<i32>> = writers_of(&Io::for_test(), &files).iter().map(|w| w.as_ref().map(|w| w.pid)).collect();
        assert_eq!(pids, [i32::try_from(std::process::id()).ok(), None, None]);
    }

    #[test]
    fn file_of_an_overlay_is_recognized_by_inode_and_path() {
        let open = |dev, ino| OpenFile { bytes: 0, dev, ino, links: 1 };
        let identity = FileIdentity { dev: makedev(8, 1), ino: 7 };
        let path = "/var/lib/docker/overlay2/ab/diff/tmp/cache";
        let same = |link: &str, dev, ino| is_same(path, identity, Path::new(link), &open(dev, ino));
        assert!(same("/tmp/cache", makedev(0, 52), 7) && same("/other/cache", makedev(8, 1), 7));
        assert!(!same("/other/cache", makedev(0, 52), 7) && !same("/tmp/cache", makedev(0, 52), 8));
        assert!(!same("/tmp/cache", makedev(8, 2), 7));
    }

    #[test]
    fn only_regular_deleted_files_are_reported() {
        assert_eq!(deleted_path("/var/log/app.log (deleted)"), Some("/var/log/app.log"));
        for other in
            ["/var/log/app.log", "/memfd:x (deleted)", "/dev/shm/y (deleted)", "/SYSV0000 (deleted)", "pipe:[1]", " (deleted)"]
        {
            assert_eq!(deleted_path(other), None, "{other}");
        }
    }

    #[test]
    fn descriptor_flags_and_limits_are_parsed() {
        assert!(append_or_write_only(0o2001) && append_or_write_only(0o1) && append_or_write_only(0o2002));
        assert!(!append_or_write_only(0o2) && !append_or_write_only(0o0) && !append_or_write_only(0o2000));
        assert_eq!(
            soft_limit("Limit Soft\nMax open files            1024                 524288               files\n"),
            Some(1024)
        );
        assert_eq!(soft_limit("garbage"), None);
    }
}
