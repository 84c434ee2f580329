#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;

use super::*;

fn identity(path: &Path) -> FileIdentity {
    let meta = std::fs::metadata(path).unwrap();
    FileIdentity { dev: meta.dev(), ino: meta.ino() }
}

struct Fixture {
    dir: tempfile::TempDir,
    log: PathBuf,
    saved: PathBuf,
}

impl Fixture {
    fn new(content: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("app.log");
        std::fs::write(&log, content).unwrap();
        let saved = dir.path().join("backups/7-app.log");
        Self { dir, log, saved }
    }
}

#[test]
fn tail_of_a_log_is_saved_and_its_writer_continues() {
    let f = Fixture::new(b"old line\nnew line\n");
    let mut writer = OpenOptions::new().append(true).open(&f.log).unwrap();
    let before = identity(&f.log);
    truncate_file(&f.log, before, 9, &f.saved).unwrap();
    assert_eq!(std::fs::read(&f.saved).unwrap(), b"new line\n");
    assert_eq!(std::fs::metadata(&f.saved).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(f.saved.parent().unwrap()).unwrap().count(), 1);
    writer.write_all(b"next\n").unwrap();
    assert_eq!((std::fs::read(&f.log).unwrap(), identity(&f.log)), (b"next\n".to_vec(), before));
}

#[test]
fn file_shorter_than_the_kept_tail_is_saved_whole() {
    let f = Fixture::new(b"short");
    truncate_file(&f.log, identity(&f.log), 1 << 20, &f.saved).unwrap();
    assert_eq!(std::fs::read(&f.saved).unwrap(), b"short");
}

#[test]
fn another_file_at_the_path_is_not_truncated() {
    let f = Fixture::new(b"precious");
    let seen = identity(&f.log);
    let other = f.dir.path().join("other");
    std::fs::write(&other, b"precious too").unwrap();
    std::fs::rename(&other, &f.log).unwrap();
    assert!(truncate_file(&f.log, seen, 4, &f.saved).is_err_and(|e| e.to_string().contains("another file")));
    assert_eq!(std::fs::read(&f.log).unwrap(), b"precious too");

    // a link to the right file, a FIFO, a directory
    let link = f.dir.path().join("link");
    std::os::unix::fs::symlink(&f.log, &link).unwrap();
    assert!(truncate_file(&link, identity(&f.log), 4, &f.saved).is_err());
    let pipe = f.dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(truncate_file(&pipe, identity(&pipe), 4, &f.saved).is_err());
    assert!(truncate_file(f.dir.path(), identity(f.dir.path()), 4, &f.saved).is_err());
    assert!(!f.saved.exists());
}

#[test]
fn file_is_not_truncated_without_a_saved_tail() {
    let f = Fixture::new(b"precious");
    std::fs::write(f.dir.path().join("backups"), b"in the way").unwrap();
    assert!(truncate_file(&f.log, identity(&f.log), 4, &f.saved).is_err());
    assert_eq!(std::fs::read(&f.log).unwrap(), b"precious");
    std::fs::remove_file(f.dir.path().join("backups")).unwrap();
    std::fs::create_dir(f.dir.path().join("backups")).unwrap();
    std::fs::write(&f.saved, b"an earlier one").unwrap();
    assert!(truncate_file(&f.log, identity(&f.log), 4, &f.saved).is_err());
    assert_eq!(
        (std::fs::read(&f.log).unwrap(), std::fs::read(&f.saved).unwrap()),
        (b"precious".to_vec(), b"an earlier one".to_vec())
    );
}

/// A small filesystem for one test.
struct Full(PathBuf);

impl Full {
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", at, "tmpfs", flags, Some(c"size=1m,mode=700")).ok()?;
        Some(Self(at.to_owned()))
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn saved_tail_fits_on_a_full_filesystem() {
    let dir = tempfile::tempdir().unwrap();
    let Some(full) = Full::mount(&dir.path().join("full")) else {
        eprintln!("skipped: mounting requires root");
        return;
    };
    let log = full.0.join("app.log");
    let mut writer = File::create(&log).unwrap();
    while writer.write_all(&[b'x'; 4096]).is_ok() {}
    let length = writer.metadata().unwrap().len();
    assert!(length > 500_000);
    truncate_file(&log, identity(&log), 100_000, &full.0.join("backups/1-app.log")).unwrap();
    assert_eq!(std::fs::read(full.0.join("backups/1-app.log")).unwrap(), vec![b'x'; 100_000]);
    assert_eq!(std::fs::metadata(&log).unwrap().len(), 0);
}

#[test]
fn deleted_file_is_truncated_only_if_its_identity_matches() {
    use std::os::fd::AsRawFd;
    let f = Fixture::new(b"0123456789");
    let held = OpenOptions::new().append(true).open(&f.log).unwrap();
    let pid = i32::try_from(std::process::id()).unwrap();
    let ticks = start_time(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
    let (fd, seen, proc) = (held.as_raw_fd(), identity(&f.log), Path::new("/proc"));
    // still linked
    assert!(truncate_deleted(proc, pid, ticks, fd, seen).is_err());
    std::fs::remove_file(&f.log).unwrap();
    // another process with that pid, another file
    assert!(truncate_deleted(proc, pid, ticks + 1, fd, seen).is_err_and(|e| e.to_string().contains("another process")));
    assert!(truncate_deleted(proc, pid, ticks, fd, FileIdentity { ino: seen.ino + 1, ..seen }).is_err());
    assert!(truncate_deleted(proc, pid, ticks, 9999, seen).is_err());
    assert_eq!(held.metadata().unwrap().len(), 10);
    truncate_deleted(proc, pid, ticks, fd, seen).unwrap();
    assert_eq!(held.metadata().unwrap().len(), 0);
}

#[test]
fn start_time_is_found_after_any_process_name() {
    let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2 3";
    assert_eq!(start_time(stat), Some(987_654));
    assert_eq!(start_time("42 (x) S 1"), None);
}
