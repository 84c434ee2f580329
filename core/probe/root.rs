//! Files as another process sees them: below its own root, links included.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, open, openat2, statat};

/// More names than a folder of configuration has.
const MOST_FILES: usize = 5000;

/// The root directory of a process. Links in it lead to where they lead for that process.
pub(in crate::probe) struct Root(File);

impl Root {
    /// The root of this process.
    pub(in crate::probe) fn own() -> std::io::Result<Self> {
        Self::at("/")
    }

    pub(in crate::probe) fn of(pid: i32) -> std::io::Result<Self> {
        Self::at(&format!("/proc/{pid}/root"))
    }

    /// The root of `pid`, or this one's.
    pub(in crate::probe) fn of_or_own(pid: Option<i32>) -> std::io::Result<Self> {
        pid.map_or_else(Self::own, Self::of)
    }

    fn at(path: &str) -> std::io::Result<Self> {
        Ok(Self(open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into()))
    }

    fn open(&self, path: &Path, flags: OFlags) -> std::io::Result<File> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        // a fifo in the place of a file must not hold us; what is not opened for reading cannot
        let wait = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        Ok(openat2(&self.0, relative, flags | OFlags::CLOEXEC | wait, Mode::empty(), ResolveFlags::IN_ROOT)?.into())
    }

    /// A regular file, not followed out of this root.
    pub(in crate::probe) fn file(&self, path: &str) -> std::io::Result<File> {
        let file = self.open(Path::new(path), OFlags::RDONLY)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("not a file")) }
    }

    /// At most `largest` bytes of a regular file; more is an error.
    pub(in crate::probe) fn bytes(&self, path: &str, largest: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(largest + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > largest {
            return Err(std::io::Error::other(format!("larger than {}", crate::model::quantity::bytes(largest))));
        }
        Ok(bytes)
    }

    /// What a link at `path` holds; none when it is no link.
    pub(in crate::probe) fn link(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        let folder = self.open(path.parent()?, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let target = rustix::fs::readlinkat(&folder, path.file_name()?, Vec::new()).ok()?;
        target.into_string().ok()
    }

    /// When what is read at `path` changed last: the file, or the link that leads to it.
    pub(in crate::probe) fn modified(&self, path: &str) -> Option<Timestamp> {
        let of = |seconds: i64, nanos: i64| Timestamp::new(seconds, i32::try_from(nanos).unwrap_or(0)).ok();
        let meta = self.open(Path::new(path), OFlags::PATH).ok()?.metadata().ok()?;
        let target = of(meta.mtime(), meta.mtime_nsec());
        let path = Path::new(path);
        let link = self.open(path.parent()?, OFlags::PATH | OFlags::DIRECTORY).ok().and_then(|folder| {
            let stat = statat(&folder, path.file_name()?, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            of(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0))
        });
        target.max(link)
    }

    /// The permissions of a file that not everybody may read.
    pub(in crate::probe) fn hidden_mode(&self, path: &str) -> Option<u32> {
        let mode = self.open(Path::new(path), OFlags::PATH).ok()?.metadata().ok()?.mode() & 0o7777;
        (mode & 0o004 == 0).then_some(mode)
    }

    /// The names in a folder, sorted as glob(3) sorts them.
    pub(in crate::probe) fn names(&self, folder: &Path) -> Vec<String> {
        let Ok(folder) = self.open(folder, OFlags::RDONLY | OFlags::DIRECTORY) else { return Vec::new() };
        let Ok(entries) = rustix::fs::Dir::read_from(&folder) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(|e| e.ok()?.file_name().to_str().ok().map(str::to_owned))
            .filter(|n| n != "." && n != "..")
            .take(MOST_FILES)
            .collect();
        names.sort();
        names
    }

    pub(in crate::probe) fn exists(&self, path: &str) -> bool {
        self.open(Path::new(path), OFlags::PATH).is_ok()
    }

    /// The paths that a pattern stands for.
    pub(in crate::probe) fn glob(&self, pattern: &str) -> Vec<String> {
        let mut found = vec![PathBuf::from("/")];
        for part in pattern.split('/').filter(|p| !p.is_empty()) {
            let wild = part.contains(['*', '?', '[']);
            let matcher = glob::Pattern::new(part).ok().filter(|_| wild);
            found = found
                .into_iter()
                .flat_map(|folder| match &matcher {
                    None => vec![folder.join(part)],
                    // a star does not stand for a leading dot
                    Some(m) => {
                        let hidden = part.starts_with('.');
                        let names = self.names(&folder).into_iter().filter(|n| m.matches(n) && (hidden || !n.starts_with('.')));
                        names.map(|n| folder.join(n)).collect()
                    }
                })
                .take(MOST_FILES)
                .collect();
        }
        found.into_iter().filter_map(|p| p.into_os_string().into_string().ok()).collect()
    }
}
