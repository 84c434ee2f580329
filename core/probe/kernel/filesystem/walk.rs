//! Disk usage by directory and file: a walk that is limited in time and stays on its filesystem.

#![allow(clippy::disallowed_methods, reason = "the threads of a walk end with blocking::run, which starts it")]

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, lstat, openat, statat};
use serde::{Deserialize, Serialize};

use crate::model::FileIdentity;
use crate::probe::io::clock;
use crate::probe::kernel::filesystem::mounts::parse_mountinfo;
use crate::probe::{Io, ProbeError, blocking};

/// Depth of the reported directories, for example `/var/lib/docker/containers`; also limits the memory of the walk.
const MAX_DEPTH: usize = 4;

/// Limit of listed directories, and of listed files.
const MAX_LISTED: usize = 12;

/// Files below this size are never listed (judgement: 1 MiB).
const MIN_FILE_BYTES: u64 = 1 << 20;

/// Number of largest files that are listed also with less than 1 % of the total.
const MIN_LISTED_FILES: usize = 3;

/// Limit of remembered files of one thread, by size and by time of the last write.
const MAX_CANDIDATES: usize = 32;

/// Maximum age of the last write to a file that may be growing, in seconds.
const MAX_WRITE_AGE_S: i64 = 60;

/// Growth in bytes per second below which a file does not count as growing (judgement: 4 KiB, 340 MiB a day).
const MIN_GROWTH: u64 = 4 << 10;

/// Minimum time between the two sizes of a growing file (judgement: most logs are written more often).
const GROWTH_SPAN: Duration = Duration::from_millis(500);

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
    /// The largest files and the one that grows fastest, largest first.
    #[serde(default)]
    pub files: Vec<FileUsage>,
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

/// A large or growing file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUsage {
    /// Absolute path.
    pub path: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// File identity.
    pub identity: FileIdentity,
    /// Growth during the walk, in bytes per second; 0 if it is small or was not measured.
    #[serde(default)]
    pub growth: u64,
}

/// Walks everything below `root` for at most `budget`.
pub async fn usage(root: &str, budget: Duration) -> Result<Usage, ProbeError> {
    start(root, budget, Duration::ZERO).await
}

/// [`usage`] with the growth of files, which takes up to half a second longer.
pub async fn usage_with_growth(root: &str, budget: Duration) -> Result<Usage, ProbeError> {
    start(root, budget, GROWTH_SPAN).await
}

async fn start(root: &str, budget: Duration, span: Duration) -> Result<Usage, ProbeError> {
    let path = PathBuf::from(root);
    // the walk observes its budget itself; the extra second is for a directory that hangs
    let timeout = budget + span + Duration::from_secs(1);
    blocking::run("disk usage", root, timeout, move |io| walk(io, &path, budget, span)).await
}

/// A file as the walk found it.
#[derive(Debug)]
struct Candidate {
    path: PathBuf,
    bytes: u64,
    /// Its length, and the time at which it was read.
    length: u64,
    read_at: Instant,
    identity: FileIdentity,
}

impl Candidate {
    /// Bytes per second since then; 0 for a file that was replaced or does not grow.
    fn growth(&self) -> u64 {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let Some(stat) = statat(CWD, &self.path, flags).ok().filter(|s| identity(s) == self.identity) else { return 0 };
        let millis = u64::try_from(self.read_at.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        length(&stat).saturating_sub(self.length).saturating_mul(1000) / millis
    }
}

fn identity(stat: &Stat) -> FileIdentity {
    FileIdentity { dev: stat.st_dev, ino: stat.st_ino }
}

fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// The files with the largest keys, in bounded memory.
#[derive(Debug)]
struct Highest<K> {
    files: Vec<(K, Candidate)>,
    /// Keys up to this one are not among them.
    floor: K,
}

impl<K: Ord + Copy> Highest<K> {
    fn above(floor: K) -> Self {
        Self { files: Vec::new(), floor }
    }

    fn push(&mut self, key: K, candidate: Candidate) {
        self.files.push((key, candidate));
        if self.files.len() >= 2 * MAX_CANDIDATES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.files.sort_by_key(|(key, _)| Reverse(*key));
        self.files.truncate(MAX_CANDIDATES);
        if let Some((least, _)) = self.files.last().filter(|_| self.files.len() == MAX_CANDIDATES) {
            self.floor = *least;
        }
    }
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

fn walk(io: &Io, root: &Path, budget: Duration, span: Duration) -> Usage {
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
    let mut candidates: Vec<Candidate> = Vec::new();
    let written_after = clock::now().as_second() - MAX_WRITE_AGE_S;
    if let Ok(device) = device {
        std::thread::scope(|scope| {
            let walkers: Vec<_> = (0..threads)
                .map(|_| {
                    let walker = Walker {
                        shared: &shared,
                        root,
                        device,
                        deadline,
                        sums: HashMap::new(),
                        largest: Highest::above(MIN_FILE_BYTES),
                        written: Highest::above(written_after),
                        seen: 0,
                    };
                    scope.spawn(|| walker.run())
                })
                .collect();
            for walker in walkers {
                // if a walker panics only its share is lost; the walk is then partial
                match walker.join() {
                    Ok((sums, files)) => {
                        for (path, (bytes, entries)) in &sums {
                            add(&mut directories, path, *bytes, *entries);
                        }
                        candidates.extend(files);
                    }
                    Err(_) => shared.stopped.store(true, Ordering::Relaxed),
                }
            }
        });
    }
    let (bytes, entries) = directories.get(root).copied().unwrap_or_default();
    let files = listed_files(candidates, bytes, span);
    Usage {
        root: root.display().to_string(),
        bytes,
        entries,
        largest: top(&directories, root, |f| f.0),
        most_entries: top(&directories, root, |f| f.1),
        files,
        unreadable: shared.unreadable.load(Ordering::Relaxed),
        partial: shared.stopped.load(Ordering::Relaxed),
    }
}

/// The files with at least 1 % of the total, some of the largest in any case, and the one that grows fastest.
fn listed_files(mut candidates: Vec<Candidate>, whole: u64, span: Duration) -> Vec<FileUsage> {
    candidates.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    // a file may be both large and written recently
    let mut known = HashSet::new();
    candidates.retain(|c| known.insert((c.identity.dev, c.identity.ino)));
    if !span.is_zero()
        && let Some(last) = candidates.iter().map(|c| c.read_at).max()
    {
        std::thread::sleep(span.saturating_sub(last.elapsed()));
    }
    let growth = |c: &Candidate| if span.is_zero() { 0 } else { c.growth() };
    let grown: Vec<u64> = candidates.iter().map(growth).map(|g| if g < MIN_GROWTH { 0 } else { g }).collect();
    let fastest = grown.iter().copied().max().unwrap_or(0);
    let file = |(n, (c, growth)): (usize, (Candidate, u64))| {
        let large = c.bytes >= MIN_FILE_BYTES && (n < MIN_LISTED_FILES || c.bytes >= whole / 100) && n < MAX_LISTED;
        let path = c.path.display().to_string();
        let listed = large || (growth > 0 && growth == fastest);
        listed.then_some(FileUsage { path, bytes: c.bytes, identity: c.identity, growth })
    };
    candidates.into_iter().zip(grown).enumerate().filter_map(file).collect()
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
    /// By allocated bytes.
    largest: Highest<u64>,
    /// By the time of the last write, in seconds.
    written: Highest<i64>,
    seen: u32,
}

impl Walker<'_> {
    fn run(mut self) -> (HashMap<PathBuf, (u64, u64)>, Vec<Candidate>) {
        while let Some(directory) = self.next() {
            let below = self.read(&directory);
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.waiting.extend(below);
            queue.in_progress -= 1;
            drop(queue);
            self.shared.changed.notify_all();
        }
        self.largest.cut();
        self.written.cut();
        let files = self.largest.files.into_iter().map(|(_, file)| file);
        (self.sums, files.chain(self.written.files.into_iter().map(|(_, file)| file)).collect())
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
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind.is_dir() {
                below.push(directory.join(OsStr::from_bytes(name.to_bytes())));
            } else if stat.st_nlink > 1 {
                let mut known = self.shared.hard_links.lock().unwrap_or_else(PoisonError::into_inner);
                if !known.insert((stat.st_dev, stat.st_ino)) {
                    continue;
                }
            }
            if kind.is_file() {
                self.remember(directory, OsStr::from_bytes(name.to_bytes()), &stat);
            }
            bytes += allocated(&stat);
            count += 1;
        }
        self.add_to_parents(directory, bytes, count);
        below
    }

    /// Remembers a file if it is among the largest or the most recently written.
    fn remember(&mut self, directory: &Path, name: &OsStr, stat: &Stat) {
        let (bytes, written_at) = (allocated(stat), stat.st_mtime);
        let candidate = || Candidate {
            path: directory.join(name),
            bytes,
            length: length(stat),
            read_at: Instant::now(),
            identity: identity(stat),
        };
        if bytes > self.largest.floor {
            self.largest.push(bytes, candidate());
        }
        if written_at > self.written.floor {
            self.written.push(written_at, candidate());
        }
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
        let usage = walk(&Io::for_test(), root.path(), Duration::from_secs(5), Duration::ZERO);
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
        let usage = walk(&Io::for_test(), Path::new("/usr"), Duration::ZERO, Duration::ZERO);
        assert!(usage.partial, "{usage:?}");
    }

    #[test]
    fn large_files_are_listed_from_the_root_on() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c/d/e");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(root.path().join("swapfile"), vec![1; 3 << 20]).unwrap();
        std::fs::write(deep.join("dump"), vec![1; 2 << 20]).unwrap();
        std::fs::write(deep.join("small"), vec![1; 1 << 19]).unwrap();
        // neither followed nor opened
        std::os::unix::fs::symlink(deep.join("dump"), root.path().join("link")).unwrap();
        rustix::fs::mkfifoat(CWD, root.path().join("fifo"), Mode::RWXU).unwrap();
        let usage = walk(&Io::for_test(), root.path(), Duration::from_secs(5), Duration::ZERO);
        let listed: Vec<&str> = usage.files.iter().map(|f| f.path.as_str()).collect();
        let expected = [root.path().join("swapfile"), deep.join("dump")].map(|path| path.display().to_string());
        assert_eq!(listed, expected, "{usage:?}");
        assert!(usage.files.iter().all(|f| f.growth == 0 && f.bytes >= 2 << 20));
    }

    #[test]
    fn fastest_growing_file_is_listed_also_while_small() {
        use std::io::Write;

        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("large"), vec![1; 2 << 20]).unwrap();
        let mut log = std::fs::File::create(root.path().join("app.log")).unwrap();
        let ended = AtomicBool::new(false);
        let usage = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    log.write_all(&[b'x'; 4096]).unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let usage = walk(&Io::for_test(), root.path(), Duration::from_secs(5), GROWTH_SPAN);
            ended.store(true, Ordering::Relaxed);
            usage
        });
        let fastest = usage.files.iter().max_by_key(|f| f.growth).unwrap();
        assert!(fastest.path.ends_with("/app.log") && fastest.growth > 0, "{usage:?}");
        assert_eq!(usage.files.len(), 2, "{usage:?}");
    }

    #[test]
    fn remembered_files_are_bounded() {
        let file = |bytes: u64| Candidate {
            path: PathBuf::from("/x"),
            bytes,
            length: bytes,
            read_at: Instant::now(),
            identity: FileIdentity { dev: 1, ino: bytes },
        };
        let mut highest = Highest::above(10);
        for bytes in 11..1011 {
            if bytes > highest.floor {
                highest.push(bytes, file(bytes));
            }
        }
        highest.cut();
        assert_eq!(highest.files.len(), MAX_CANDIDATES);
        assert_eq!((highest.files[0].0, highest.floor), (1010, 979));
    }
}
