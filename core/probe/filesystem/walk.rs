//! What uses the space of a filesystem: a walk that is bounded in time and never leaves the filesystem.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ignore::{DirEntry, ParallelVisitor, ParallelVisitorBuilder, WalkBuilder, WalkState};
use serde::{Deserialize, Serialize};

use crate::probe::{ProbeError, blocking};

/// How deep folders are told apart: `/var/lib/docker/containers` and no deeper, which also bounds the memory of the walk.
const DEPTH: usize = 4;

/// Folders listed at most.
const LISTED: usize = 12;

/// What a walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Where it began.
    pub root: String,
    /// Allocated bytes below it (blocks, not file lengths; hard links once).
    pub bytes: u64,
    /// Files and folders below it.
    pub entries: u64,
    /// The folders that use most, largest first; a folder that is nearly all one of its children is left out in favour of the child.
    pub largest: Vec<Folder>,
    /// The same by number of entries.
    pub most_entries: Vec<Folder>,
    /// Folders that could not be read.
    pub unreadable: u64,
    /// Time ran out before everything was seen: all numbers are "at least".
    pub partial: bool,
}

/// A folder with everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Absolute path.
    pub path: String,
    /// Allocated bytes.
    pub bytes: u64,
    /// Files and folders.
    pub entries: u64,
}

/// Walks everything below `root` for at most `budget`.
pub async fn usage(root: &str, budget: Duration) -> Result<Usage, ProbeError> {
    let path = PathBuf::from(root);
    // the walk keeps its own time; the rest is for a directory that hangs
    blocking::run("what uses the space", root, budget + Duration::from_secs(1), move || walk(&path, budget)).await
}

#[derive(Default)]
struct Shared {
    folders: Mutex<HashMap<PathBuf, (u64, u64)>>,
    hard_links: Mutex<HashSet<(u64, u64)>>,
    unreadable: AtomicU64,
    stopped: AtomicBool,
}

fn walk(root: &Path, budget: Duration) -> Usage {
    let shared = Arc::new(Shared::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 4);
    let deadline = Instant::now() + budget;
    WalkBuilder::new(root)
        .standard_filters(false)
        .same_file_system(true)
        .follow_links(false)
        .threads(threads)
        .build_parallel()
        .visit(&mut Visitors { shared: shared.clone(), root: root.to_owned(), deadline });
    let folders = std::mem::take(&mut *shared.folders.lock().unwrap_or_else(PoisonError::into_inner));
    let (bytes, entries) = folders.get(root).copied().unwrap_or_default();
    Usage {
        root: root.display().to_string(),
        bytes,
        entries,
        largest: top(&folders, root, |f| f.0),
        most_entries: top(&folders, root, |f| f.1),
        unreadable: shared.unreadable.load(Ordering::Relaxed),
        partial: shared.stopped.load(Ordering::Relaxed),
    }
}

/// The folders that say most: each at least a fiftieth of the whole, and none that is nearly all one of its children.
fn top(folders: &HashMap<PathBuf, (u64, u64)>, root: &Path, of: impl Fn(&(u64, u64)) -> u64) -> Vec<Folder> {
    let whole = folders.get(root).map_or(0, &of);
    let mut biggest_child: HashMap<&Path, u64> = HashMap::new();
    for (path, numbers) in folders {
        if let Some(parent) = path.parent().filter(|_| path != root) {
            let child = biggest_child.entry(parent).or_default();
            *child = (*child).max(of(numbers));
        }
    }
    let mut list: Vec<(&PathBuf, &(u64, u64))> = folders
        .iter()
        .filter(|(path, n)| {
            let mine = of(n);
            let child = biggest_child.get(path.as_path()).copied().unwrap_or(0);
            path.as_path() != root && mine > 0 && mine >= whole / 50 && child < mine / 10 * 8
        })
        .collect();
    list.sort_by(|a, b| of(b.1).cmp(&of(a.1)).then_with(|| a.0.cmp(b.0)));
    list.truncate(LISTED);
    list.into_iter().map(|(path, n)| Folder { path: path.display().to_string(), bytes: n.0, entries: n.1 }).collect()
}

struct Visitors {
    shared: Arc<Shared>,
    root: PathBuf,
    deadline: Instant,
}

impl<'s> ParallelVisitorBuilder<'s> for Visitors {
    fn build(&mut self) -> Box<dyn ParallelVisitor + 's> {
        Box::new(Visitor {
            shared: self.shared.clone(),
            root: self.root.clone(),
            deadline: self.deadline,
            folder: PathBuf::new(),
            pending: (0, 0),
            sums: HashMap::new(),
            seen: 0,
        })
    }
}

/// One thread's share. Entries come folder by folder, so sums are kept per folder and added up only when it changes.
struct Visitor {
    shared: Arc<Shared>,
    root: PathBuf,
    deadline: Instant,
    folder: PathBuf,
    pending: (u64, u64),
    sums: HashMap<PathBuf, (u64, u64)>,
    seen: u32,
}

impl Visitor {
    fn add(&mut self, entry: &DirEntry) {
        let Ok(meta) = entry.metadata() else { return };
        if !meta.is_dir() && meta.nlink() > 1 {
            let mut known = self.shared.hard_links.lock().unwrap_or_else(PoisonError::into_inner);
            if !known.insert((meta.dev(), meta.ino())) {
                return;
            }
        }
        let folder = if meta.is_dir() { entry.path() } else { entry.path().parent().unwrap_or(Path::new("/")) };
        if folder != self.folder {
            self.settle();
            folder.clone_into(&mut self.folder);
        }
        self.pending.0 += meta.blocks() * 512;
        self.pending.1 += 1;
    }

    /// Adds what the last folder held to it and to every folder above it, down to the depth that is told apart.
    fn settle(&mut self) {
        let (bytes, entries) = std::mem::take(&mut self.pending);
        if entries == 0 {
            return;
        }
        let below = self.folder.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let mut path = self.root.clone();
        add(&mut self.sums, &path, bytes, entries);
        for part in below.components().take(DEPTH) {
            path.push(part);
            add(&mut self.sums, &path, bytes, entries);
        }
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

impl ParallelVisitor for Visitor {
    fn visit(&mut self, entry: Result<DirEntry, ignore::Error>) -> WalkState {
        match entry {
            Ok(entry) => self.add(&entry),
            Err(_) => {
                self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.seen = self.seen.wrapping_add(1);
        // asking the clock costs as much as an entry
        if self.seen.is_multiple_of(64) && Instant::now() > self.deadline {
            self.shared.stopped.store(true, Ordering::Relaxed);
            return WalkState::Quit;
        }
        WalkState::Continue
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.settle();
        let mut all = self.shared.folders.lock().unwrap_or_else(PoisonError::into_inner);
        for (path, (bytes, entries)) in self.sums.drain() {
            add(&mut all, &path, bytes, entries);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_folder_that_matters_is_named_and_hard_links_count_once() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("lib/app/cache");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir_all(root.path().join("log")).unwrap();
        std::fs::write(deep.join("big"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(deep.join("big"), root.path().join("log/link")).unwrap();
        for i in 0..50 {
            std::fs::write(root.path().join(format!("log/{i}")), b"").unwrap();
        }
        let usage = walk(root.path(), Duration::from_secs(5));
        assert!((1 << 20..2 << 20).contains(&usage.bytes), "{usage:?}");
        assert_eq!(usage.most_entries[0].path, root.path().join("log").display().to_string());
        assert!(!usage.partial && usage.unreadable == 0);
        let first = Path::new(&usage.largest[0].path);
        assert!(first == deep || first == root.path().join("log"), "{usage:?}");
    }

    #[test]
    fn a_walk_ends_when_its_time_is_up() {
        let usage = walk(Path::new("/usr"), Duration::ZERO);
        assert!(usage.partial, "{usage:?}");
    }
}
