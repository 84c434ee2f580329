//! Opening a path below a directory without leaving it: by `openat2(2)`, and by the same walk in user space where the kernel has no
//! `openat2` (before Linux 5.6: 5.4 of Ubuntu 20.04, 4.18 of RHEL 8) or a seccomp filter denies it.
//!
//! The walk opens each component relative to the descriptor of the directory before it (`O_PATH | O_NOFOLLOW`), so a component
//! that is replaced meanwhile leads nowhere else. `..` returns to the descriptor through which the walk came, never to a parent that the
//! kernel reports, and therefore stays below the directory even if a directory is moved out of it meanwhile.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};
use rustix::process::geteuid;

/// Limit of symbolic links in one path, the same as the kernel's (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Limit of directories in a path, each of which takes a descriptor of this process (`RLIMIT_NOFILE` is 1024 by default).
const MAX_DEPTH: usize = 128;

/// Limit of components of a path with its resolved links.
const MAX_STEPS: usize = 4096;

/// Filesystems with links that lead to an object instead of a path (`nd_jump_link` in the kernel): procfs and that of `AppArmor`.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const AAFS_MAGIC: u64 = 0x5a3c_69f0;

/// Inode of the root of procfs (`PROC_ROOT_INO`). Its links (`/proc/self`, `/proc/mounts`) are text; links below are not.
const PROC_ROOT_INO: u64 = 1;

/// A sticky directory that every user can write to, such as `/tmp`.
const STICKY_AND_WRITABLE: u32 = 0o1002;

/// Handling of symbolic links and of paths that lead above the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) enum Links {
    /// The directory is the root: absolute links start there, and `..` stays there (`RESOLVE_IN_ROOT`).
    InRoot,
    /// Links, absolute paths and `..` of the directory itself are errors (`RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`). A link as the
    /// last component can be opened with `O_PATH | O_NOFOLLOW`.
    Refused,
}

/// Opens `path` below `directory`. Links of procfs to objects, such as `/proc/PID/root`, are errors.
pub(in crate::probe) fn open_below(directory: impl AsFd, path: &Path, flags: OFlags, links: Links) -> Result<OwnedFd> {
    let (directory, flags) = (directory.as_fd(), flags | OFlags::CLOEXEC);
    if has_openat2() {
        match by_kernel(directory, path, flags, links) {
            // `..` while anything on this host is renamed or mounted
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    walk(directory, path, flags, links)
}

fn by_kernel(directory: BorrowedFd<'_>, path: &Path, flags: OFlags, links: Links) -> Result<OwnedFd> {
    let resolve = match links {
        Links::InRoot => ResolveFlags::IN_ROOT,
        Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    };
    openat2(directory, path, flags, Mode::empty(), resolve | ResolveFlags::NO_MAGICLINKS)
}

/// Whether `openat2` exists and is permitted. A seccomp filter returns `ENOSYS` or, as profiles of Docker before 20.10, `EPERM`.
fn has_openat2() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    #[cfg(test)]
    if tests::WALKS.get() {
        return false;
    }
    *AVAILABLE.get_or_init(|| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
        !matches!(opened, Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS))
    })
}

fn walk(directory: BorrowedFd<'_>, path: &Path, flags: OFlags, links: Links) -> Result<OwnedFd> {
    let handle = OFlags::PATH | OFlags::CLOEXEC;
    let open = |at: &OwnedFd, name: &OsString, flags: OFlags| openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty());
    if path.as_os_str().is_empty() {
        return Err(Errno::NOENT);
    }
    if path.has_root() && links == Links::Refused {
        return Err(Errno::XDEV);
    }
    let mut pending = names_reversed(path.as_os_str().as_bytes());
    let mut here = openat(directory, ".", handle | OFlags::DIRECTORY, Mode::empty())?;
    let mut above = Vec::<OwnedFd>::new();
    let (mut followed, mut steps) = (0, 0);
    while let Some(name) = pending.pop() {
        steps += 1;
        if steps > MAX_STEPS || above.len() > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG);
        }
        if name == "." || name == ".." {
            // fails without the permission to search the directory
            openat(&here, ".", handle | OFlags::DIRECTORY, Mode::empty())?;
            if name == ".." {
                here = match above.pop() {
                    Some(parent) => parent,
                    None if links == Links::Refused => return Err(Errno::XDEV),
                    None => here,
                };
            }
            continue;
        }
        let found = open(&here, &name, handle)?;
        let stat = fstat(&found)?;
        let is_last = pending.is_empty();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if is_last && flags.contains(OFlags::NOFOLLOW) => {
                let is_handle = flags.contains(OFlags::PATH) && !flags.contains(OFlags::DIRECTORY);
                return if is_handle { Ok(found) } else { Err(Errno::LOOP) };
            }
            FileType::Symlink => {
                followed += 1;
                if links == Links::Refused || followed > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                may_follow(&here, &found, &stat)?;
                let target = readlinkat(&found, "", Vec::new())?.into_bytes();
                if target.is_empty() {
                    return Err(Errno::NOENT);
                }
                if target.starts_with(b"/") && !above.is_empty() {
                    above.truncate(1);
                    here = above.pop().unwrap_or(here);
                }
                pending.extend(names_reversed(&target));
            }
            kind if is_last => {
                if flags.contains(OFlags::DIRECTORY) && kind != FileType::Directory {
                    return Err(Errno::NOTDIR);
                }
                // a link that replaced it is not followed
                return if flags.contains(OFlags::PATH) { Ok(found) } else { open(&here, &name, flags) };
            }
            FileType::Directory => above.push(std::mem::replace(&mut here, found)),
            _ => return Err(Errno::NOTDIR),
        }
    }
    openat(&here, ".", flags, Mode::empty())
}

/// The kernel's rules for following a link: never one that leads to an object, and in a directory such as `/tmp` only links of
/// this user and of the owner of the directory (`fs.protected_symlinks`, `proc_sys_fs(5)`, here also where it is 0).
fn may_follow(directory: &OwnedFd, link: &OwnedFd, stat: &Stat) -> Result<()> {
    #[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "the width and sign of f_type depend on the architecture")]
    let filesystem = fstatfs(link)?.f_type as u64 & 0xffff_ffff;
    let parent = fstat(directory)?;
    if filesystem == AAFS_MAGIC || (filesystem == PROC_SUPER_MAGIC && parent.st_ino != PROC_ROOT_INO) {
        return Err(Errno::LOOP);
    }
    let is_shared = parent.st_mode & STICKY_AND_WRITABLE == STICKY_AND_WRITABLE;
    // the filesystem uid is the effective one, also under `Rights::assume`
    if is_shared && stat.st_uid != geteuid().as_raw() && stat.st_uid != parent.st_uid {
        return Err(Errno::ACCESS);
    }
    Ok(())
}

/// The components of a path, the last one first. A trailing slash is the component `.`: only a directory has it.
fn names_reversed(path: &[u8]) -> Vec<OsString> {
    let trailing = path.ends_with(b"/").then_some(&b"."[..]);
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).chain(trailing);
    let mut names: Vec<OsString> = names.map(|name| OsString::from_vec(name.to_vec())).collect();
    names.reverse();
    names
}

#[cfg(test)]
pub(in crate::probe) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::cell::Cell;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    thread_local! {
        /// This thread has no `openat2`.
        pub(super) static WALKS: Cell<bool> = const { Cell::new(false) };
    }

    /// Calls `f` with `openat2` and without.
    pub(in crate::probe) fn both_ways(f: impl Fn()) {
        f();
        WALKS.set(true);
        f();
        WALKS.set(false);
    }

    /// A root with links of every kind, and a directory `outside` beside it.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for directory in ["root/etc", "root/a/b", "outside"] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        for (file, text) in [("root/etc/file", "inside"), ("root/a/b/file", "deep"), ("outside/file", "outside")] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let secret = dir.path().join("outside/file").display().to_string();
        let links: &[(&str, &str)] = &[
            ("absolute", "/etc/file"),
            ("relative", "a/b/file"),
            ("chain", "a/up"),
            ("a/up", "../absolute"),
            ("climb", "../../../../etc/file"),
            ("leave", "../outside/file"),
            ("host", &secret),
            ("loop", "loop"),
            ("directory", "a/b/"),
            ("not-directory", "etc/file/"),
            ("dangling", "none"),
        ];
        for (link, target) in links {
            symlink(target, root.join(link)).unwrap();
        }
        dir
    }

    /// The text of a file, the name of a directory, or the error.
    fn read(root: &Path, path: &str, flags: OFlags, links: Links, way: Way) -> std::result::Result<String, Errno> {
        let base = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let fd = way(base.as_fd(), Path::new(path), flags | OFlags::CLOEXEC, links)?;
        let opened = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd))).unwrap();
        Ok(opened
            .strip_prefix(root.canonicalize().unwrap())
            .map_or_else(|_| opened.display().to_string(), |p| p.display().to_string()))
    }

    type Way = fn(BorrowedFd<'_>, &Path, OFlags, Links) -> Result<OwnedFd>;

    /// Separated by spaces.
    const PATHS: &str = ". .. / etc etc/ etc/file /etc/file etc/file/ etc/./file etc/../etc/file ../../etc/file a/b/../../etc/file \
        a/../../../outside/file absolute relative chain climb leave host loop directory directory/file directory/.. directory/ \
        not-directory dangling none none/.. etc/file/.. absolute/x a/up a/b loop/x dangling/";

    #[test]
    fn walk_and_openat2_agree() {
        let dir = tree();
        let root = dir.path().join("root");
        let handle = OFlags::PATH;
        let kinds =
            [handle, handle | OFlags::NOFOLLOW, handle | OFlags::DIRECTORY, OFlags::RDONLY, OFlags::RDONLY | OFlags::DIRECTORY];
        for links in [Links::InRoot, Links::Refused] {
            for (path, flags) in std::iter::once("").chain(PATHS.split(' ')).flat_map(|path| kinds.map(|flags| (path, flags))) {
                let own = read(&root, path, flags, links, walk);
                let kernel = std::iter::repeat_with(|| read(&root, path, flags, links, by_kernel));
                // renames of other programs
                let kernel = kernel.take(1000).find(|found| *found != Err(Errno::AGAIN)).unwrap();
                assert_eq!(own, kernel, "{path:?} {flags:?} {links:?}");
                assert!(!own.is_ok_and(|opened| opened.contains("outside")), "{path:?} {flags:?} {links:?}");
            }
        }
    }

    #[test]
    fn links_of_procfs_to_objects_are_refused() {
        for way in [by_kernel as Way, walk] {
            let read = |path: &str| read(Path::new("/proc"), path, OFlags::PATH, Links::InRoot, way);
            for path in ["self/root", "self/root/etc", "self/cwd", "self/exe", "self/fd/0", "self/ns/net", "1/root/etc/passwd"] {
                assert!(matches!(read(path), Err(Errno::LOOP | Errno::ACCESS)), "{path}: {:?}", read(path));
            }
            assert!(read("self/status").is_ok() && read("thread-self/stat").is_ok());
        }
    }

    #[test]
    fn link_swapped_for_a_directory_never_leaves_the_root() {
        let dir = tree();
        let root = dir.path().join("root");
        symlink(dir.path().join("outside"), root.join("attack")).unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/file"), "inside").unwrap();
        fs::rename(root.join("real"), root.join("swap")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(CWD, root.join("swap"), CWD, root.join("attack"), flags).unwrap();
                }
            });
            let mut opened = 0;
            for links in [Links::InRoot, Links::Refused].into_iter().cycle().take(4000) {
                for flags in [OFlags::PATH, OFlags::RDONLY] {
                    if let Ok(path) = read(&root, "swap/file", flags, links, walk) {
                        opened += 1;
                        assert!(!path.contains("outside"), "{path}");
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(opened > 0);
        });
    }

    #[test]
    fn directory_moved_out_of_the_root_does_not_open_the_way() {
        let dir = tree();
        let root = dir.path().join("root");
        fs::create_dir(root.join("moving")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    fs::rename(root.join("moving"), dir.path().join("moved")).unwrap();
                    fs::rename(dir.path().join("moved"), root.join("moving")).unwrap();
                }
            });
            for _ in 0..4000 {
                let found = read(&root, "moving/../outside/file", OFlags::RDONLY, Links::InRoot, walk);
                assert!(found.is_err(), "{found:?}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn link_of_another_user_in_a_shared_directory_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tree();
        let shared = dir.path().join("root/etc");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        for (name, uid, permitted) in [("own", 0, true), ("foreign", 4711, false)] {
            symlink("file", shared.join(name)).unwrap();
            std::os::unix::fs::lchown(shared.join(name), Some(uid), None).unwrap();
            let found = read(&dir.path().join("root"), &format!("etc/{name}"), OFlags::RDONLY, Links::InRoot, walk);
            assert_eq!(found.is_ok(), permitted, "{name}: {found:?}");
        }
        assert_eq!(fs::symlink_metadata(shared.join("foreign")).unwrap().uid(), 4711);
    }

    #[test]
    fn unsearchable_directory_is_denied_also_before_dots() {
        if !geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("closed")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        let user = super::super::Rights { uid: 4711, gid: 4711, groups: vec![], capabilities: 0 };
        for way in [by_kernel as Way, walk] {
            for path in ["closed/x", "closed/../file"] {
                let found = user.assume(|| Ok(read(dir.path(), path, OFlags::PATH, Links::InRoot, way)));
                assert!(matches!(found, Ok(Err(Errno::ACCESS | Errno::AGAIN))), "{path}: {found:?}");
            }
        }
    }

    #[test]
    fn deep_and_long_paths_are_bounded() {
        let dir = tree();
        let root = dir.path().join("root");
        let deep = "etc/../".repeat(MAX_STEPS);
        assert!(read(&root, &deep, OFlags::PATH, Links::InRoot, walk).is_err());
    }
}
