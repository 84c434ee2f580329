#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use jiff::SignedDuration;

use super::*;

fn sample(object: &str, metric: &str, seconds_ago: i64, value: f64) -> Sample {
    let at = clock::now() - SignedDuration::from_secs(seconds_ago);
    Sample { object: object.into(), metric: metric.into(), at, value }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

struct Fixture {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), runtime: runtime() }
    }
    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state")
    }
    fn open(&self) -> Store {
        self.runtime.block_on(Store::open(&self.state(), 14))
    }
    fn record(&self, store: &Store, samples: &[Sample]) {
        self.runtime.block_on(store.record(samples.to_vec()));
    }
    fn count(&self) -> i64 {
        let db = rusqlite::Connection::open(self.state().join(STATE_DB)).unwrap();
        db.query_row("SELECT count(*) FROM sample", [], |r| r.get(0)).unwrap()
    }
    fn corrupt_files(&self) -> usize {
        let names = std::fs::read_dir(self.state()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with("state.db.corrupt-")).count()
    }
}

#[test]
fn recorded_numbers_are_read_by_the_next_run() {
    let f = Fixture::new();
    let first = f.open();
    assert_eq!((first.oldest("disk", "used", 3600), first.note()), (None, None));
    f.record(&first, &[]);
    assert!(!f.state().exists(), "no file is created without data");
    f.record(&first, &[sample("disk", "used", 1800, 1.0), sample("disk", "used", 60, 2.0), sample("other", "used", 900, 9.0)]);
    assert_eq!(first.note(), None);
    for store in [first, f.open()] {
        assert_eq!(store.oldest("disk", "used", 3600).map(|s| s.value), Some(1.0));
        assert_eq!(store.oldest("disk", "used", 300).map(|s| s.value), Some(2.0));
        assert_eq!(store.oldest("disk", "inodes", 3600), None);
        assert_eq!(store.oldest("disk", "used", 10), None);
        assert_eq!(store.note(), None);
    }
}

#[test]
fn absent_history_has_a_reason_and_stores_nothing() {
    let f = Fixture::new();
    let store = Store::without("read-only");
    f.record(&store, &[sample("disk", "used", 60, 1.0)]);
    assert_eq!(store.oldest("disk", "used", 3600), None);
    assert_eq!(store.note().as_deref(), Some("no history between runs: read-only"));
    assert!(!f.state().exists());
}

#[test]
fn number_from_the_future_is_ignored() {
    let f = Fixture::new();
    let store = f.open();
    f.record(&store, &[sample("disk", "used", -600, 5.0)]);
    assert_eq!(store.oldest("disk", "used", 3600), None);
}

#[test]
fn old_numbers_are_deleted_and_recent_ones_thinned() {
    let f = Fixture::new();
    let store = f.open();
    let old: Vec<Sample> = (0..600).map(|i| sample("disk", "used", 7200 + i * 10, 1.0)).collect();
    f.record(&store, &old);
    // 6000 s in pieces of 600 s
    assert!((10..=11).contains(&f.count()), "{}", f.count());
    f.record(&store, &[sample("disk", "used", 15 * 86400, 1.0), sample("disk", "used", -2 * 86400, 1.0)]);
    assert!((10..=11).contains(&f.count()), "{}", f.count());
    f.record(&store, &[sample("disk", "used", 1, f64::NAN)]);
    assert_eq!(store.note(), None);
}

#[test]
fn corrupt_file_is_set_aside_and_replaced() {
    let f = Fixture::new();
    let store = f.open();
    f.record(&store, &[sample("disk", "used", 60, 1.0)]);
    drop(store);
    std::fs::write(f.state().join(STATE_DB), "this is no database, despite its name ".repeat(200)).unwrap();
    let store = f.open();
    assert_eq!(store.oldest("disk", "used", 3600), None);
    assert!(store.note().is_some_and(|n| n.contains("was corrupt and is now")), "{:?}", store.note());
    assert_eq!(f.corrupt_files(), 1);
    f.record(&store, &[sample("disk", "used", 30, 2.0)]);
    assert_eq!(f.open().oldest("disk", "used", 3600).map(|s| s.value), Some(2.0));
}

#[test]
fn corruption_inside_the_file_is_detected_on_reading() {
    let f = Fixture::new();
    let store = f.open();
    let many: Vec<Sample> = (0..2000).map(|i| sample(&format!("object {i}"), "used", 60, 1.0)).collect();
    f.record(&store, &many);
    drop(store);
    let path = f.state().join(STATE_DB);
    let mut bytes = std::fs::read(&path).unwrap();
    // the header is valid, every following page is noise
    bytes[4096..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let store = f.open();
    assert_eq!(store.oldest("object 7", "used", 3600), None);
    assert!(store.note().is_some_and(|n| n.contains("corrupt")), "{:?}", store.note());
    assert_eq!(f.corrupt_files(), 1);
}

#[test]
fn run_continues_with_an_unusable_history() {
    let f = Fixture::new();
    let store = f.open();
    f.record(&store, &[sample("disk", "used", 60, 1.0)]);

    // locked by a writer: reading works, writing reports the lock
    let other = rusqlite::Connection::open(f.state().join(STATE_DB)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    f.record(&store, &[sample("disk", "used", 30, 2.0)]);
    assert!(started.elapsed() < HISTORY_TIMEOUT);
    assert!(store.note().is_some_and(|n| n.contains("locked by another process")), "{:?}", store.note());
    assert_eq!(f.open().oldest("disk", "used", 3600).map(|s| s.value), Some(1.0));
    drop(other);

    // written by a newer opsctl
    let other = rusqlite::Connection::open(f.state().join(STATE_DB)).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    drop(other);
    let store = f.open();
    f.record(&store, &[sample("disk", "used", 1, 3.0)]);
    assert!(store.note().is_some_and(|n| n.contains("has version 99")), "{:?}", store.note());

    // a directory, a symbolic link, a world-writable state directory
    std::fs::remove_file(f.state().join(STATE_DB)).unwrap();
    std::fs::create_dir(f.state().join(STATE_DB)).unwrap();
    assert!(f.open().note().is_some_and(|n| n.contains("is not a file")));
    std::fs::remove_dir(f.state().join(STATE_DB)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", f.state().join(STATE_DB)).unwrap();
    assert!(f.open().note().is_some_and(|n| n.contains("is not a file")));
    std::fs::remove_file(f.state().join(STATE_DB)).unwrap();
    std::fs::set_permissions(f.state(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let store = f.open();
    f.record(&store, &[sample("disk", "used", 1, 3.0)]);
    assert!(store.note().is_some_and(|n| n.contains("others may write")), "{:?}", store.note());
}

#[test]
fn numbers_are_kept_for_the_configured_period() {
    let f = Fixture::new();
    let day = 24 * 3600;
    let long = f.open();
    f.record(&long, &[sample("disk", "used", 10 * day, 1.0), sample("disk", "used", 2 * day, 2.0)]);
    assert_eq!(long.oldest("disk", "used", 14 * day).map(|s| s.value), Some(1.0));
    let short = f.runtime.block_on(Store::open(&f.state(), 7));
    f.record(&short, &[sample("disk", "used", 0, 3.0)]);
    assert_eq!(short.oldest("disk", "used", 14 * day).map(|s| s.value), Some(2.0), "numbers older than a week are deleted");
}

/// A file created by an earlier version: `user_version` and its tables.
fn of_version(f: &Fixture, version: i64, tables: &str) {
    std::fs::create_dir(f.state()).unwrap();
    std::fs::set_permissions(f.state(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let old = rusqlite::Connection::open(f.state().join(STATE_DB)).unwrap();
    let sample = "CREATE TABLE sample (object TEXT NOT NULL, metric TEXT NOT NULL, at_ms INTEGER NOT NULL, value REAL NOT NULL,
                  PRIMARY KEY (object, metric, at_ms)) STRICT, WITHOUT ROWID;";
    old.execute_batch(&format!("PRAGMA journal_mode = WAL; {sample} {tables} PRAGMA user_version = {version};")).unwrap();
    let row = rusqlite::params!["disk", "used", (clock::now() - SignedDuration::from_mins(10)).as_millisecond()];
    old.execute("INSERT INTO sample VALUES (?1, ?2, ?3, 7.0)", row).unwrap();
}

fn version(f: &Fixture) -> i64 {
    let db = rusqlite::Connection::open(f.state().join(STATE_DB)).unwrap();
    db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

/// The tables of version 0.1.0.
const TABLES_OF_0_1_0: &str = "
  CREATE TABLE episode (
    id INTEGER PRIMARY KEY, code TEXT NOT NULL, subject TEXT NOT NULL, check_id TEXT NOT NULL, target TEXT NOT NULL,
    severity TEXT NOT NULL, message TEXT NOT NULL, owner TEXT, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    closed_ms INTEGER, runs INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, told_severity TEXT, told_end INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE TABLE told (what TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;
  INSERT INTO told VALUES ('change', 1000);";

#[test]
fn database_of_0_1_0_is_migrated_with_its_history() {
    let f = Fixture::new();
    of_version(&f, 2, TABLES_OF_0_1_0);
    assert_eq!(head::read(&f.state()).kept, head::Kept::Absent { database: true, set_aside: None });
    assert_eq!(version(&f), 2, "reading the head migrates nothing");
    let store = f.open();
    assert_eq!((store.note(), version(&f)), (None, 3));
    assert_eq!(store.oldest("disk", "used", 3600).map(|s| s.value), Some(7.0));
    assert_eq!(store.last_reported("change"), Some(Timestamp::from_second(1).unwrap()));
    assert_eq!(head::read(&f.state()).kept, head::Kept::Absent { database: true, set_aside: None });
}

#[test]
fn database_of_samples_only_is_migrated() {
    let f = Fixture::new();
    of_version(&f, 1, "");
    let store = f.open();
    assert_eq!((store.note(), version(&f)), (None, 3));
    assert_eq!(store.oldest("disk", "used", 3600).map(|s| s.value), Some(7.0));
}

#[test]
fn head_is_kept_beside_history() {
    let f = Fixture::new();
    of_version(&f, 2, TABLES_OF_0_1_0);
    let one = head::Head { entries: 1, hash: "a".repeat(64) };
    head::keep(&f.state(), &one, clock::now(), None).unwrap();
    let gap = head::Gap { at: Timestamp::from_second(7).unwrap(), tampering: true, why: "it differs".into() };
    let two = head::Head { entries: 2, hash: "b".repeat(64) };
    head::keep(&f.state(), &two, clock::now(), Some(&gap)).unwrap();
    assert_eq!(head::read(&f.state()), head::Record { kept: head::Kept::Head(two.clone()), gaps: vec![gap] });
    head::accept(&f.state(), &two, clock::now()).unwrap();
    assert_eq!(head::read(&f.state()), head::Record { kept: head::Kept::Head(two), gaps: vec![] });
    assert_eq!(f.open().oldest("disk", "used", 3600).map(|s| s.value), Some(7.0));
}

#[test]
fn database_symlink_is_not_followed_for_the_head() {
    let f = Fixture::new();
    std::fs::create_dir(f.state()).unwrap();
    std::fs::set_permissions(f.state(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let elsewhere = f.dir.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, f.state().join(STATE_DB)).unwrap();
    assert!(matches!(head::read(&f.state()).kept, head::Kept::Unreadable(why) if why.contains("is not a file")));
    assert!(head::keep(&f.state(), &head::Head::empty(), clock::now(), None).is_err());
    assert!(!elsewhere.exists());
}
