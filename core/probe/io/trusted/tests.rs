#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};

use crate::probe::io::trusted::*;

const MAX: u64 = 1 << 20;

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory that is this user's, with `etc/config` in it.
fn test_directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    let file = dir.path().join("etc/config");
    std::fs::write(&file, "text").unwrap();
    chmod(&file, 0o644);
    chmod(&dir.path().join("etc"), 0o755);
    (dir, file)
}

fn refused(path: &Path) -> String {
    match read(path, MAX) {
        Err(e @ TrustError::Refused { .. }) => e.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn own_file_is_read() {
    let (dir, file) = test_directory();
    assert_eq!(read(&file, MAX).unwrap(), b"text");
    assert_eq!(read_to_string(&file, 4).unwrap(), "text");
    assert!(read(&file, 3).is_err_and(|e| e.to_string().contains("larger than 3 B")));
    assert!(read(&dir.path().join("etc"), MAX).is_err());
    assert!(read(&dir.path().join("none/x"), MAX).is_err_and(|e| e.is_absent()));
    assert!(read(&file.join("x"), MAX).is_err_and(|e| e.is_absent()));
    assert_eq!(directory(&dir.path().join("etc")).unwrap().names().unwrap(), ["config"]);
    // links and `..` of directories that are trusted
    symlink("etc", dir.path().join("link")).unwrap();
    symlink(&file, dir.path().join("etc/absolute")).unwrap();
    symlink("../etc/../link/config", dir.path().join("etc/relative")).unwrap();
    for name in ["link/config", "etc/../etc/config", "etc/absolute", "link/relative"] {
        assert_eq!(read(&dir.path().join(name), MAX).unwrap(), b"text", "{name}");
    }
    symlink("loop", dir.path().join("loop")).unwrap();
    assert!(read(&dir.path().join("loop"), MAX).is_err());
}

#[test]
fn fifo_does_not_block() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
    assert!(read(&fifo, MAX).is_err_and(|e| e.to_string().contains("not a regular file")));
    assert!(read_untrusted(&fifo, MAX).is_err_and(|e| e.to_string().contains("not a regular file")));
    assert!(read(Path::new("/dev/zero"), MAX).is_err());
    assert!(read_untrusted(Path::new("/dev/zero"), MAX).is_err());
}

#[test]
fn file_that_others_can_write_is_refused() {
    let (_dir, file) = test_directory();
    chmod(&file, 0o646);
    assert!(refused(&file).contains(&format!("{} can be written by others (mode 646)", file.display())), "{}", refused(&file));
    if rustix::process::geteuid().is_root() {
        chmod(&file, 0o664);
        assert!(refused(&file).contains("chown root and chmod go-w"), "{}", refused(&file));
        chmod(&file, 0o644);
        chown(&file, Some(4242), None).unwrap();
        assert!(refused(&file).contains("belongs to user 4242 (mode 644)"), "{}", refused(&file));
        assert_eq!(read_untrusted(&file, MAX).unwrap(), b"text");
    }
}

#[test]
fn directory_that_others_can_change_is_refused_at_every_level() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, file) = test_directory();
    let etc = dir.path().join("etc");
    for (path, mode) in [(&etc, 0o775), (&etc, 0o757), (&etc, 0o1777), (&dir.path().to_owned(), 0o777)] {
        chmod(path, mode);
        let expected = format!("{} can be written by others (mode {mode:o})", path.display());
        assert!(refused(&file).starts_with(&expected), "{}", refused(&file));
        chmod(path, 0o755);
    }
    for path in [&etc, &dir.path().to_owned()] {
        chown(path, Some(4242), None).unwrap();
        assert!(refused(&file).starts_with(&format!("{} belongs to user 4242", path.display())), "{}", refused(&file));
        chown(path, Some(0), None).unwrap();
    }
    assert_eq!(read(&file, MAX).unwrap(), b"text");
    // in a directory owned by root the kernel prevents other users from exchanging it
    chmod(dir.path(), 0o1777);
    assert_eq!(read(&file, MAX).unwrap(), b"text");
}

#[test]
fn directories_of_a_link_are_checked() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, file) = test_directory();
    let foreign = dir.path().join("theirs");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("config"), "evil").unwrap();
    symlink(&file, foreign.join("link")).unwrap();
    chown(&foreign, Some(4242), None).unwrap();
    let into = dir.path().join("etc/into");
    symlink("../theirs/config", &into).unwrap();
    let through = dir.path().join("etc/through");
    symlink(foreign.join("link"), &through).unwrap();
    for link in [into, through] {
        assert!(refused(&link).contains("theirs belongs to user 4242"), "{}", refused(&link));
    }
    // a link of another user in a shared directory
    chmod(dir.path(), 0o1777);
    let link = dir.path().join("link");
    symlink("etc", &link).unwrap();
    assert_eq!(read(&link.join("config"), MAX).unwrap(), b"text");
    lchown(&link, Some(4242), None).unwrap();
    assert!(refused(&link.join("config")).contains("is a symbolic link of user 4242"), "{}", refused(&link));
}

#[test]
fn mount_belongs_to_its_user() {
    let mountinfo = "22 1 0:20 / /proc rw - proc proc rw\n\
        40 22 0:35 / /home/u/m rw,nosuid - fuse.evil evil rw,user_id=1000,group_id=1000,allow_other\n\
        41 22 0:36 / /srv/ntfs rw - fuseblk /dev/sdb1 rw,user_id=0,group_id=0\n42 22 0:37 / /srv/v rw - virtiofs tag rw\n";
    assert_eq!(["40", "41", "42", "4"].map(|id| mount_user(mountinfo, id)), [Some(1000), Some(0), Some(0), None]);
}

#[test]
fn hung_filesystem_times_out() {
    let (_keep, never) = mpsc::channel::<()>();
    assert!(within(Duration::from_millis(20), move || never.recv()).is_none());
    assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
}
