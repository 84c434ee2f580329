//! The files of an object that does not run: of a container through its mounts and the layers of its image, of a unit on this
//! host. Only metadata are read, and symbolic links resolve within the view.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use super::Io;
use super::confined::{Links, open_below};

/// Limit of symbolic links in one path (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Limit of components of a path with its resolved links.
const MAX_COMPONENTS: usize = 512;

/// A tree of files, composed of layers and mounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileView {
    /// Directories of this host that are merged, the upper one first, as in overlayfs. Empty if unknown.
    pub layers: Vec<String>,
    /// Mountpoints in the view, and their directories or files on this host.
    pub mounts: Vec<(String, String)>,
    /// Directories with contents that this host does not show, for example a tmpfs of a container.
    pub hidden: Vec<String>,
}

/// Metadata of a file that decide about access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Its path on this host.
    pub host: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The last change of its contents.
    pub modified: Option<Timestamp>,
    /// The last change of its contents, owner, mode or name.
    pub changed: Option<Timestamp>,
    /// It is a directory.
    pub is_directory: bool,
    /// It is a regular file.
    pub is_file: bool,
    /// Its device and inode.
    identity: (u64, u64),
}

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It exists.
    Exists(PathInfo),
    /// It does not exist.
    Missing,
    /// Unknown: a part of the path cannot be read from this host.
    Unknown,
}

/// A path, looked up component by component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathLookup {
    /// The existing directories above it.
    pub above: Vec<PathInfo>,
    /// All directories that were searched for it, also those before a symbolic link.
    pub passed: Vec<PathInfo>,
    /// The path itself.
    pub state: Presence,
}

/// One component.
enum Part {
    Found {
        info: PathInfo,
        /// The target of a symbolic link.
        link: Option<PathBuf>,
    },
    /// A directory that exists in the view only because a mountpoint is below it.
    AboveMount,
    Missing,
}

impl PathInfo {
    fn of(host: PathBuf, meta: &Metadata) -> Self {
        let time = |seconds: i64, nanos: i64| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).ok();
        Self {
            host,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            modified: time(meta.mtime(), meta.mtime_nsec()),
            changed: time(meta.ctime(), meta.ctime_nsec()),
            is_directory: meta.is_dir(),
            is_file: meta.is_file(),
            identity: (meta.dev(), meta.ino()),
        }
    }

    /// The first `limit` bytes of a regular file; invalid UTF-8 is replaced.
    ///
    /// # Errors
    /// If it cannot be read, or if another file is at the path since the lookup: a container may replace it by a link or a device.
    pub fn read_lossy(&self, io: &Io, limit: u64) -> Result<String> {
        let found: File = rustix::fs::open(&self.host, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?.into();
        let meta = found.metadata()?;
        if !meta.is_file() || (meta.dev(), meta.ino()) != self.identity {
            return Err(Error::other("it was replaced"));
        }
        let mut bytes = Vec::new();
        io.open(format!("/proc/self/fd/{}", found.as_raw_fd()))?.take(limit).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A path of this host with its metadata, and the target of a symbolic link.
type Seen = (PathBuf, Metadata, Option<PathBuf>);

/// The object at `path` below `base`. No symbolic link is followed below `base`, also not one that replaced a directory since it was
/// examined. `None` if it does not exist.
fn below(base: &Path, path: &Path) -> Result<Option<Seen>> {
    let handle = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open(base, handle, Mode::empty())
        .and_then(|base| open_below(&base, path, handle | OFlags::NOFOLLOW, Links::Refused));
    let file: File = match opened.map_err(Error::from) {
        Ok(found) => found.into(),
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let meta = file.metadata()?;
    let link = if meta.is_symlink() {
        let target = rustix::fs::readlinkat(&file, "", Vec::new())?;
        Some(PathBuf::from(OsString::from_vec(target.into_bytes())))
    } else {
        None
    };
    Ok(Some((base.join(path), meta, link)))
}

fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl FileView {
    /// The files of this host.
    #[must_use]
    pub fn host() -> Self {
        Self { layers: vec!["/".to_owned()], ..Self::default() }
    }

    /// Looks up an absolute path.
    ///
    /// A directory that was deleted and created again in an upper layer (`trusted.overlay.opaque`) still shows the files of lower
    /// layers: such a file counts as existing.
    #[must_use]
    pub fn look_up(&self, io: &Io, path: &str) -> PathLookup {
        let mut passed = Vec::<PathInfo>::new();
        let (above, state) = self.walk(io, path, &mut passed);
        if matches!(state, Presence::Exists(_)) {
            // the path itself is not searched
            passed.pop();
        }
        PathLookup { above, passed, state }
    }

    /// The directories above a path, and its state. All directories on the way are added to `passed`.
    fn walk(&self, io: &Io, path: &str, passed: &mut Vec<PathInfo>) -> (Vec<PathInfo>, Presence) {
        let unknown = |above| (above, Presence::Unknown);
        if !path.starts_with('/') {
            return unknown(Vec::new());
        }
        let mut pending = parts(Path::new(path));
        let (mut at, mut above, mut links, mut steps) = (PathBuf::from("/"), Vec::<PathInfo>::new(), 0, 0);
        while let Some(part) = pending.pop() {
            steps += 1;
            if steps > MAX_COMPONENTS {
                return unknown(above);
            }
            if part == ".." {
                at.pop();
                above.pop();
                continue;
            }
            let next = at.join(&part);
            match self.part(io, &next) {
                Err(_) => return unknown(above),
                Ok(Part::Missing) => return (above, Presence::Missing),
                Ok(Part::AboveMount) => at = next,
                Ok(Part::Found { link: Some(target), .. }) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return unknown(above);
                    }
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                        above.clear();
                    }
                    pending.extend(parts(&target));
                }
                Ok(Part::Found { info, link: None }) => {
                    passed.push(info.clone());
                    above.push(info);
                    at = next;
                }
            }
        }
        match above.pop() {
            Some(info) => (above, Presence::Exists(info)),
            None => unknown(above),
        }
    }

    /// A path with parents that are no symbolic links.
    fn part(&self, io: &Io, path: &Path) -> Result<Part> {
        // the engine resolves links in the source of a mount
        let source_of_mount = |source: &str| match io.metadata(source) {
            Ok(meta) => Ok(Some((PathBuf::from(source), meta, None))),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        };
        let found = |(host, meta, link): Seen| Part::Found { info: PathInfo::of(host, &meta), link };
        let depth = |directory: &str| Path::new(directory).components().count();
        let hidden = self.hidden.iter().filter(|d| path.starts_with(d)).map(|d| depth(d)).max();
        let mount = self.mounts.iter().filter(|(d, _)| path.starts_with(d)).max_by_key(|(d, _)| depth(d));
        if let Some(hidden) = hidden
            && mount.is_none_or(|(d, _)| depth(d) < hidden)
        {
            return Err(Error::other("not shown by this host"));
        }
        if let Some((destination, source)) = mount {
            let rest = path.strip_prefix(destination).unwrap_or(Path::new(""));
            let is_mountpoint = rest.as_os_str().is_empty();
            let seen = if is_mountpoint { source_of_mount(source)? } else { below(Path::new(source), rest)? };
            return Ok(seen.map_or(Part::Missing, found));
        }
        let relative = path.strip_prefix("/").unwrap_or(path);
        for layer in &self.layers {
            let Some(seen) = below(Path::new(layer), relative)? else { continue };
            // a character device 0/0 marks a removed file (kernel documentation, overlayfs, "whiteouts and opaque directories")
            if seen.1.file_type().is_char_device() && seen.1.rdev() == 0 {
                break;
            }
            return Ok(found(seen));
        }
        if self.mounts.iter().map(|(d, _)| d).chain(&self.hidden).any(|d| Path::new(d).starts_with(path)) {
            return Ok(Part::AboveMount);
        }
        if self.layers.is_empty() { Err(Error::other("unknown layers")) } else { Ok(Part::Missing) }
    }
}

/// The components of a path, the last one first.
fn parts(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            Component::ParentDir => Some("..".to_owned()),
            _ => None,
        })
        .collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use super::super::confined::tests::both_ways;
    use super::*;

    /// Directories `upper`, `lower` and `volume` of a container with the volume at `/data`.
    fn container() -> (tempfile::TempDir, FileView) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for directory in ["upper/etc", "lower/etc", "lower/usr/bin", "volume/sub"] {
            std::fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        for file in ["upper/etc/new", "lower/etc/old", "lower/usr/bin/app", "volume/sub/file"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        symlink("usr/bin", dir.path().join("lower/bin")).unwrap();
        let view = FileView {
            layers: vec![path("upper"), path("lower")],
            mounts: vec![("/data".to_owned(), path("volume"))],
            hidden: vec!["/run/secret".to_owned()],
        };
        (dir, view)
    }

    fn exists(view: &FileView, path: &str) -> Option<bool> {
        match view.look_up(&Io::for_test(), path).state {
            Presence::Exists(_) => Some(true),
            Presence::Missing => Some(false),
            Presence::Unknown => None,
        }
    }

    #[test]
    fn layers_are_merged() {
        let (_dir, view) = container();
        both_ways(|| {
            for path in ["/etc/new", "/etc/old", "/bin/app", "/usr/bin/../bin/app", "/etc/../data/sub/file"] {
                assert_eq!(exists(&view, path), Some(true), "{path}");
            }
            assert_eq!(exists(&view, "/etc/other"), Some(false));
        });
    }

    #[test]
    fn mount_hides_the_layers() {
        let (dir, view) = container();
        std::fs::create_dir_all(dir.path().join("lower/data")).unwrap();
        std::fs::write(dir.path().join("lower/data/below"), "x").unwrap();
        assert_eq!(exists(&view, "/data/below"), Some(false));
        assert_eq!(exists(&view, "/data/sub/file"), Some(true));
    }

    #[test]
    fn absolute_link_of_a_volume_stays_in_the_container() {
        let (dir, view) = container();
        symlink("/etc/passwd", dir.path().join("volume/link")).unwrap();
        assert_eq!(exists(&view, "/data/link"), Some(false));
        symlink("/etc/old", dir.path().join("volume/own")).unwrap();
        assert_eq!(exists(&view, "/data/own"), Some(true));
    }

    #[test]
    fn directory_that_became_a_link_is_not_followed() {
        let (dir, _view) = container();
        symlink("/etc", dir.path().join("volume/swapped")).unwrap();
        both_ways(|| {
            let found = below(&dir.path().join("volume"), Path::new("swapped/passwd"));
            assert!(found.is_err(), "{:?}", found.map(|seen| seen.map(|seen| seen.0)));
        });
    }

    #[test]
    fn file_that_was_replaced_is_not_read() {
        let (dir, view) = container();
        let io = Io::for_test();
        let Presence::Exists(info) = view.look_up(&io, "/data/sub/file").state else { panic!("it exists") };
        assert_eq!(info.read_lossy(&io, 10).unwrap(), "x");
        // both exist at the same time, so that their inodes differ
        std::fs::rename(dir.path().join("volume/sub/file"), dir.path().join("volume/sub/old")).unwrap();
        symlink("/etc/passwd", dir.path().join("volume/sub/file")).unwrap();
        assert!(info.read_lossy(&io, 10).is_err());
    }

    #[test]
    fn directories_before_a_link_are_passed() {
        let (dir, view) = container();
        symlink("/etc/old", dir.path().join("volume/sub/link")).unwrap();
        let found = view.look_up(&Io::for_test(), "/data/sub/link");
        let passed: Vec<&str> = found.passed.iter().filter_map(|info| info.host.file_name()?.to_str()).collect();
        assert!(matches!(found.state, Presence::Exists(_)));
        assert_eq!(passed, ["volume", "sub", "etc"]);
    }

    #[test]
    fn link_loop_is_unknown() {
        let (dir, view) = container();
        symlink("loop", dir.path().join("volume/loop")).unwrap();
        assert_eq!(exists(&view, "/data/loop"), None);
    }

    #[test]
    fn tmpfs_and_unknown_layers_are_unknown() {
        let (_dir, mut view) = container();
        assert_eq!(exists(&view, "/run/secret/token"), None);
        view.layers.clear();
        assert_eq!(exists(&view, "/etc/old"), None);
        assert_eq!(exists(&view, "/data/sub/file"), Some(true));
        assert_eq!(exists(&view, "relative"), None);
    }

    #[test]
    fn missing_file_has_the_directory_above_it() {
        let (dir, view) = container();
        let found = view.look_up(&Io::for_test(), "/data/sub/none/file");
        assert_eq!(found.state, Presence::Missing);
        assert_eq!(found.above.last().unwrap().host, dir.path().join("volume/sub"));
    }

    #[test]
    fn files_of_this_host() {
        assert_eq!(exists(&FileView::host(), "/etc/passwd"), Some(true));
        assert_eq!(exists(&FileView::host(), "/nonexistent/x"), Some(false));
    }
}
