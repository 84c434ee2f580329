#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use rustix::fs::{CWD, mkfifoat};

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn report() -> Access {
    Access::Report(FileMode::default())
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn mode_follows_access() {
    let dir = tempfile::tempdir().unwrap();
    let wide = FileMode::parse("0644").unwrap();
    for (access, expected) in [
        (report(), 0o600),
        (Access::Report(wide), 0o644),
        (Access::Report(FileMode::parse("640").unwrap()), 0o640),
        (Access::Private, 0o600),
        (Access::Metrics, 0o644),
        (Access::Public, 0o644),
    ] {
        let path = dir.path().join("file");
        write(&path, b"x".to_vec(), access).unwrap();
        assert_eq!(mode(&path), expected, "{access:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    for wrong in ["0666", "0700", "4600", "", "rw"] {
        assert!(FileMode::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn wide_mode_of_replaced_file_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "old").unwrap();
    chmod(&path, 0o666);
    write(&path, b"new".to_vec(), report()).unwrap();
    assert_eq!((mode(&path), std::fs::read_to_string(&path).unwrap().as_str()), (0o600, "new"));
}

#[test]
fn new_file_leaves_existing_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    assert!(write_new(&path, b"a".to_vec(), Access::Private).unwrap());
    assert!(!write_new(&path, b"b".to_vec(), Access::Private).unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn fifo_and_socket_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    let error = write(&fifo, b"x".to_vec(), report()).unwrap_err();
    assert!(error.to_string().contains("fifo is a FIFO"), "{error}");
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = write(&socket, b"x".to_vec(), report()).unwrap_err();
    assert!(error.to_string().contains("is a socket"), "{error}");
    let error = write(dir.path(), b"x".to_vec(), report()).unwrap_err();
    assert!(error.to_string().contains("directory"), "{error}");
}

#[test]
fn devices_are_refused_except_the_standard_ones() {
    for device in ["/dev/zero", "/dev/../dev/null", "/dev/tty"] {
        assert!(write(Path::new(device), b"x".to_vec(), report()).is_err(), "{device}");
    }
    write(Path::new("/dev/null"), b"x".to_vec(), report()).unwrap();
    write(Path::new("/dev/stderr"), Vec::new(), report()).unwrap();
    write(Path::new("/dev/stdout"), Vec::new(), report()).unwrap();
    assert!(!std::fs::symlink_metadata("/dev/null").unwrap().file_type().is_file(), "/dev/null still is a device");
}

#[test]
fn link_at_the_end_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (target, link) = (dir.path().join("target"), dir.path().join("link"));
    std::fs::write(&target, "mine").unwrap();
    symlink(&target, &link).unwrap();
    let written = write(&link, b"x".to_vec(), report());
    assert_eq!(written.is_err(), root(), "{written:?}");
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine");
}

#[test]
fn directories_of_others_are_refused() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("theirs");
    let below = foreign.join("root/x");
    std::fs::create_dir_all(&below).unwrap();
    std::os::unix::fs::chown(&foreign, Some(4242), None).unwrap();
    for path in [foreign.join("f"), below.join("f")] {
        let error = write(&path, b"x".to_vec(), report()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let expected = format!("{} belongs to user 4242 (mode 755): write to a directory owned by root", foreign.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(!path.exists());
    }
    std::os::unix::fs::chown(&foreign, Some(0), None).unwrap();
    write(&below.join("f"), b"x".to_vec(), report()).unwrap();
    chmod(&foreign, 0o775);
    let error = write(&below.join("f"), b"x".to_vec(), report()).unwrap_err();
    assert!(error.to_string().contains("can be written by others (mode 775)"), "{error}");
}

#[test]
fn shared_directory_accepts_new_and_own_files() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    chmod(dir.path(), 0o1777);
    let file = dir.path().join("report.json");
    write(&file, b"1".to_vec(), report()).unwrap();
    write(&file, b"2".to_vec(), report()).unwrap();
    std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
    let error = write(&file, b"3".to_vec(), report()).unwrap_err();
    assert!(error.to_string().contains("belongs to user 4242"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "2");
    // a link that another user created in place of a directory
    let (inner, link) = (dir.path().join("inner"), dir.path().join("link"));
    std::fs::create_dir(&inner).unwrap();
    symlink(&inner, &link).unwrap();
    write(&link.join("f"), b"x".to_vec(), report()).unwrap();
    std::os::unix::fs::lchown(&link, Some(4242), None).unwrap();
    let error = write(&link.join("f"), b"y".to_vec(), report()).unwrap_err();
    assert!(error.to_string().contains("is a symbolic link of user 4242"), "{error}");
}

#[test]
fn metrics_reach_directory_of_collector_and_no_link_in_it() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("prometheus");
    let collected = foreign.join("node-exporter");
    std::fs::create_dir_all(&collected).unwrap();
    std::os::unix::fs::chown(&foreign, Some(4242), None).unwrap();
    let file = collected.join("opsctl.prom");
    write(&file, b"1".to_vec(), Access::Metrics).unwrap();
    std::os::unix::fs::chown(&collected, Some(4242), None).unwrap();
    write(&file, b"2".to_vec(), Access::Metrics).unwrap();
    assert_eq!((mode(&file), file.metadata().unwrap().uid()), (0o644, 0));
    // the link is rejected, also in place of the directory
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(victim.join("f"), &file).unwrap();
    assert!(write(&file, b"3".to_vec(), Access::Metrics).is_err());
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_dir(&collected).unwrap();
    symlink(&victim, &collected).unwrap();
    let error = write(&file, b"4".to_vec(), Access::Metrics).unwrap_err();
    assert!(error.to_string().contains("is a symbolic link"), "{error}");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn missing_directories_are_created() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("a/b/c");
    create_directories(&below, 0o700).unwrap();
    create_directories(&below, 0o700).unwrap();
    assert!(below.is_dir());
    std::fs::write(dir.path().join("file"), "").unwrap();
    assert!(create_directories(&dir.path().join("file/x"), 0o700).is_err());
}
