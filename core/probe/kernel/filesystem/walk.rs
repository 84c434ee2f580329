//! Disk usage by directory: a walk that is limited in time and stays on its filesystem.

#![allow(clippy::disallowed_methods, reason = "the threads of a walk end with blocking::run, which starts it")]

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, lstat, openat, statat};
use serde::{Deserialize, Serialize};

use crate::probe::kernel::filesystem::mounts::parse_mountinfo;
use crate::probe::{Io, ProbeError, blocking};

/// Depth of the reported directories, for example `/var/lib/docker/containers`; also limits the memory of the walk.
const MAX_DEPTH: usize = 4;

/// Limit of listed directories.
const MAX_LISTED: usize = 12;

/// Result of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Starting directory.
    pub root: String,
    /// Allocated bytes below it (blocks, not file lengths; hard links once).
    pub bytes: u64,
    /// Files and directories below it.
    pub entries: u64,
    /// The largest directories, largest first; a directory with nearly all of its bytes in one child is omitted in favour of the
    /// child.
    pub largest: Vec<DirectoryUsage>,
    /// The directories with the most entries, likewise.
    pub most_entries: Vec<DirectoryUsage>,
    /// Directories that could not be read.
    pub unreadable: u64,
    /// The time budget was exhausted: all numbers are lower bounds.
    pub partial: bool,
}

/// A directory including everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryUsage {
    /// Absolute path.
    pub path: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// Files and directories.
    pub entries: u64,
}

/// Walks everything below `root` for at most `budget`.
pub async fn usage(root: &str, budget: Duration) -> Result<Usage, ProbeError> {
    let path = PathBuf::from(root);
    // the walk observes its budget itself; the extra second is for a directory that hangs
    blocking::run("disk usage", root, budget + Duration::from_secs(1), move |io| walk(io, &path, budget)).await
}

/// State shared by the threads of a walk.
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when directories were queued or the last one is done.
    changed: Condvar,
    hard_links: Mutex<HashSet<(u64, u64)>>,
    unreadable: AtomicU64,
    stopped: AtomicBool,
    /// Names of mountpoints by directory: even `stat` hangs on a mount with a server that does not respond.
    mountpoints: HashMap<PathBuf, HashSet<OsString>>,
}

/// The mountpoints below `root`.
fn mountpoints(io: &Io, root: &Path) -> HashMap<PathBuf, HashSet<OsString>> {
    let mut found: HashMap<PathBuf, HashSet<OsString>> = HashMap::new();
    for (_, mount) in parse_mountinfo(&io.read_lossy("/proc/self/mountinfo").unwrap_or_default()) {
        let path = Path::new(&mount.mountpoint);
        if let (true, Some(parent), Some(name)) = (path.starts_with(root), path.parent(), path.file_name()) {
            found.entry(parent.to_owned()).or_default().insert(name.to_owned());
        }
    }
    found
}

/// Directories to be read, and the number of directories being read.
struct Queue {
    waiting: Vec<PathBuf>,
    in_progress: usize,
}

fn walk(io: &Io, root: &Path, budget: Duration) -> Usage {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4);
    let deadline = Instant::now() + budget;
    let device = lstat(root).map(|s| s.st_dev);
    let shared = Shared {
        queue: Mutex::new(Queue { waiting: vec![root.to_owned()], in_progress: 0 }),
        changed: Condvar::new(),
        hard_links: Mutex::new(HashSet::new()),
        unreadable: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        mountpoints: mountpoints(io, root),
    };
    let mut directories: HashMap<PathBuf, (u64, u64)> = HashMap::new();
    if let Ok(device) = device {
        std::thread::scope(|scope| {
            let walkers: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| Walker { shared: &shared, root, device, deadline, sums: HashMap::new(), seen: 0 }.run()))
                .collect();
            for walker in walkers {
                // if a walker panics only its share is lost; the walk is then partial
                match walker.join() {
                    Ok(sums) => sums.iter().for_each(|(path, (bytes, entries))| add(&mut directories, path, *bytes, *entries)),
                    Err(_) => shared.stopped.store(true, Ordering::Relaxed),
                }
            }
        });
    }
    let (bytes, entries) = directories.get(root).copied().unwrap_or_default();
    Usage {
        root: root.display().to_string(),
        bytes,
        entries,
        largest: top(&directories, root, |f| f.0),
        most_entries: top(&directories, root, |f| f.1),
        unreadable: shared.unreadable.load(Ordering::Relaxed),
        partial: shared.stopped.load(Ordering::Relaxed),
    }
}

/// The most significant directories: each at least 2 % of the total, and without those that are nearly all one of their children.
fn top(directories: &HashMap<PathBuf, (u64, u64)>, root: &Path, of: impl Fn(&(u64, u64)) -> u64) -> Vec<DirectoryUsage> {
    let whole = directories.get(root).map_or(0, &of);
    let mut biggest_child: HashMap<&Path, u64> = HashMap::new();
    for (path, numbers) in directories {
        if let Some(parent) = path.parent().filter(|_| path != root) {
            let child = biggest_child.entry(parent).or_default();
            *child = (*child).max(of(numbers));
        }
    }
    let mut list: Vec<(&PathBuf, &(u64, u64))> = directories
        .iter()
        .filter(|(path, n)| {
            let total = of(n);
            let child = biggest_child.get(path.as_path()).copied().unwrap_or(0);
            path.as_path() != root && total > 0 && total >= whole / 50 && child < total / 10 * 8
        })
        .collect();
    list.sort_by(|a, b| of(b.1).cmp(&of(a.1)).then_with(|| a.0.cmp(b.0)));
    list.truncate(MAX_LISTED);
    list.into_iter().map(|(path, n)| DirectoryUsage { path: path.display().to_string(), bytes: n.0, entries: n.1 }).collect()
}

/// One thread. Entries are examined relative to their open directory, so that the kernel does not resolve the full path for each
/// of them. This makes the walk as fast as `du`, which a library that uses full paths is not.
struct Walker<'a> {
    shared: &'a Shared,
    root: &'a Path,
    device: u64,
    deadline: Instant,
    sums: HashMap<PathBuf, (u64, u64)>,
    seen: u32,
}

impl Walker<'_> {
    fn run(mut self) -> HashMap<PathBuf, (u64, u64)> {
        while let Some(directory) = self.next() {
            let below = self.read(&directory);
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.waiting.extend(below);
            queue.in_progress -= 1;
            drop(queue);
            self.shared.changed.notify_all();
        }
        self.sums
    }

    /// The next directory; `None` when all have been read or the budget is exhausted.
    fn next(&self) -> Option<PathBuf> {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.shared.stopped.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(directory) = queue.waiting.pop() {
                queue.in_progress += 1;
                return Some(directory);
            }
            if queue.in_progress == 0 {
                return None;
            }
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sums up one directory; returns its subdirectories on the same filesystem.
    fn read(&mut self, directory: &Path) -> Vec<PathBuf> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, directory, flags, Mode::empty()).and_then(|fd| Ok((Dir::read_from(&fd)?, fd)));
        let Ok((entries, fd)) = opened else {
            self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        };
        let mut below = Vec::new();
        let mounted = self.shared.mountpoints.get(directory);
        let (mut bytes, mut count) = (0, 0);
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.budget_is_exhausted() {
                break;
            }
            if mounted.is_some_and(|names| names.contains(OsStr::from_bytes(name.to_bytes()))) {
                continue;
            }
            // an entry that was removed meanwhile takes no space
            let Ok(stat) = statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) else { continue };
            if stat.st_dev != self.device {
                continue;
            }
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            if is_directory {
                below.push(directory.join(OsStr::from_bytes(name.to_bytes())));
            } else if stat.st_nlink > 1 {
                let mut known = self.shared.hard_links.lock().unwrap_or_else(PoisonError::into_inner);
                if !known.insert((stat.st_dev, stat.st_ino)) {
                    continue;
                }
            }
            bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            count += 1;
        }
        self.add_to_parents(directory, bytes, count);
        below
    }

    /// Adds the totals of a directory to it and to every parent, down to [`MAX_DEPTH`].
    fn add_to_parents(&mut self, directory: &Path, bytes: u64, entries: u64) {
        let below = directory.strip_prefix(self.root).unwrap_or(Path::new(""));
        let mut path = self.root.to_owned();
        add(&mut self.sums, &path, bytes, entries);
        for part in below.components().take(MAX_DEPTH) {
            path.push(part);
            add(&mut self.sums, &path, bytes, entries);
        }
    }

    fn budget_is_exhausted(&mut self) -> bool {
        self.seen = self.seen.wrapping_add(1);
        // reading the clock costs as much as an entry
        if self.seen % 64 == 1 && Instant::now() > self.deadline {
            self.shared.stopped.store(true, Ordering::Relaxed);
            self.shared.changed.notify_all();
        }
        self.shared.stopped.load(Ordering::Relaxed)
    }
}

fn add(sums: &mut HashMap<PathBuf, (u64, u64)>, path: &Path, bytes: u64, entries: u64) {
    if let Some(sum) = sums.get_mut(path) {
        sum.0 += bytes;
        sum.1 += entries;
    } else {
        sums.insert(path.to_owned(), (bytes, entries));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn largest_directory_is_listed_and_hard_links_count_once() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("lib/app/cache");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir_all(root.path().join("log")).unwrap();
        std::fs::write(deep.join("big"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(deep.join("big"), root.path().join("log/link")).unwrap();
        for i in 0..50 {
            std::fs::write(root.path().join(format!("log/{i}")), b"").unwrap();
        }
        let usage = walk(&Io::for_test(), root.path(), Duration::from_secs(5));
        assert!((1 << 20..2 << 20).contains(&usage.bytes), "{usage:?}");
        assert_eq!(usage.most_entries[0].path, root.path().join("log").display().to_string());
        assert!(!usage.partial && usage.unreadable == 0);
        let first = Path::new(&usage.largest[0].path);
        assert!(first == deep || first == root.path().join("log"), "{usage:?}");
    }

    #[test]
    fn mountpoints_are_grouped_by_directory() {
        assert!(mountpoints(&Io::for_test(), Path::new("/"))[Path::new("/")].contains(OsStr::new("proc")));
        assert!(mountpoints(&Io::for_test(), Path::new("/no/such/directory")).is_empty());
    }

    #[test]
    fn walk_ends_when_budget_is_exhausted() {
        let usage = walk(&Io::for_test(), Path::new("/usr"), Duration::ZERO);
        assert!(usage.partial, "{usage:?}");
    }
}
