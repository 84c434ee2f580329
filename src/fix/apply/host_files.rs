//! Small configuration files and kernel settings.

#![allow(clippy::disallowed_methods, reason = "a fix acts on files and processes that were proven, under the watchdog")]

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::state::dir;

/// Adds a line unless it is present.
pub(super) fn add_line(path: &Path, line: &str) -> io::Result<()> {
    let text = existing(path)?;
    if text.lines().any(|l| l == line) {
        return Ok(());
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    replace(path, &format!("{text}{gap}{line}\n"))
}

/// Removes a line, and the file if it is empty afterwards.
pub(super) fn remove_line(path: &Path, line: &str) -> io::Result<()> {
    let text = existing(path)?;
    let kept: String = text.split_inclusive('\n').filter(|l| l.trim_end_matches('\n') != line).collect();
    if kept == text {
        return Ok(());
    }
    if kept.trim().is_empty() { fs::remove_file(path) } else { replace(path, &kept) }
}

/// Marks files written by opsctl, in the first two lines.
const MARKER: &str = "written by opsctl";

/// Writes a file owned by opsctl. A file that opsctl did not write is an error.
pub(super) fn write_file(path: &Path, text: &str, executable: bool) -> io::Result<()> {
    let before = existing(path)?;
    if !before.is_empty() && !before.lines().take(2).any(|l| l.contains(MARKER)) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and was not written by opsctl"));
    }
    replace(path, text)?;
    let mode = if executable { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Removes the file if it is unchanged.
pub(super) fn remove_file(path: &Path, text: &str) -> io::Result<()> {
    let now = existing(path)?;
    if now.is_empty() {
        return Ok(());
    }
    if now != text {
        return Err(io::Error::other("the file was changed since; it is kept"));
    }
    fs::remove_file(path)
}

/// Renames the file if it is unchanged.
pub(super) fn retire_file(path: &Path, text: &str, to: &Path) -> io::Result<()> {
    let now = existing(path)?;
    if now.is_empty() {
        return Ok(());
    }
    if now != text {
        return Err(io::Error::other("the file was changed since; it is kept"));
    }
    // two in one second: the earlier file is kept
    if to.exists() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} already exists", to.display())));
    }
    fs::rename(path, to)?;
    dir::sync(path.parent().unwrap_or(Path::new("/")))
}

fn existing(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
}

/// Replaces a file atomically and keeps its owner and mode. A file that is a mount point (`/etc/hosts` in a container) cannot be
/// replaced and is written in place.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".opsctl-").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    let before = fs::metadata(path).ok();
    let mode = before.as_ref().map_or(0o644, |m| m.permissions().mode() & 0o7777);
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    if let Some(before) = before {
        std::os::unix::fs::fchown(file.as_file(), Some(before.uid()), Some(before.gid()))?;
    }
    file.as_file().sync_all()?;
    match file.persist(path) {
        Ok(_) => dir::sync(directory),
        Err(e) if e.error.kind() == io::ErrorKind::ResourceBusy => {
            let mut in_place = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
            in_place.write_all(text.as_bytes())?;
            in_place.sync_all()
        }
        Err(e) => Err(e.error),
    }
}

/// Sets a kernel setting such as `net.core.somaxconn`.
pub(super) fn set_sysctl(root: &Path, key: &str, value: &str) -> io::Result<()> {
    if key.contains('/') || key.split('.').any(|part| part.is_empty() || part == "..") {
        return Err(io::Error::other(format!("`{key}` is not a kernel setting")));
    }
    // never creates: a setting that this kernel does not have is an error
    let mut file = fs::OpenOptions::new().write(true).open(root.join(key.replace('.', "/")))?;
    file.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn line_is_added_once_and_removed_completely() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        for _ in 0..2 {
            add_line(&path, "127.0.1.1 web").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n127.0.1.1 web\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        for _ in 0..2 {
            remove_line(&path, "127.0.1.1 web").unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n");
        let own = dir.path().join("60-opsctl.conf");
        add_line(&own, "a = 1").unwrap();
        remove_line(&own, "a = 1").unwrap();
        assert!(!own.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn changed_file_is_neither_replaced_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sh");
        let text = "#!/bin/sh\n# written by opsctl\n";
        for _ in 0..2 {
            write_file(&path, text, true).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        fs::write(&path, "# written by opsctl, changed\n").unwrap();
        assert!(remove_file(&path, text).is_err());
        write_file(&path, text, false).unwrap();
        for _ in 0..2 {
            remove_file(&path, text).unwrap();
        }
        assert!(!path.exists());
        fs::write(&path, "mine\n").unwrap();
        assert!(write_file(&path, text, false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine\n");
    }

    #[test]
    fn retired_file_is_kept_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("web.json"), dir.path().join("web.json.deleted.1"));
        fs::write(&path, "[]\n").unwrap();
        assert!(retire_file(&path, "[ ]\n", &to).is_err());
        for _ in 0..2 {
            retire_file(&path, "[]\n", &to).unwrap();
        }
        assert!(!path.exists());
        assert_eq!(fs::read_to_string(&to).unwrap(), "[]\n");
        fs::write(&path, "[]\n").unwrap();
        assert!(retire_file(&path, "[]\n", &to).is_err());
    }

    #[test]
    fn only_kernel_settings_that_exist_are_set() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("net/core")).unwrap();
        fs::write(dir.path().join("net/core/somaxconn"), "").unwrap();
        set_sysctl(dir.path(), "net.core.somaxconn", "4096").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("net/core/somaxconn")).unwrap(), "4096");
        for bad in ["net.core.none", "../x", "net..core", "", "a/b"] {
            assert!(set_sysctl(dir.path(), bad, "1").is_err(), "{bad}");
        }
    }
}
