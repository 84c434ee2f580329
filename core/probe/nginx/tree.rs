//! The files of a configuration, as nginx itself sees them: its own root, its includes.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, open, openat2, statat};
use serde::{Deserialize, Serialize};

use super::syntax::{Directive, parse};

/// More files than a configuration has.
const MOST_FILES: usize = 5000;

/// A larger file is no configuration, in bytes.
const LARGEST: u64 = 8 << 20;

/// Includes within includes.
const DEEPEST: usize = 16;

/// A file and when what nginx reads there changed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    /// Path as nginx sees it.
    pub path: String,
    /// The later of its own and its link's modification.
    pub modified: Option<Timestamp>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) directives: Vec<Directive>,
    pub(super) files: Vec<SeenFile>,
    /// What could not be read or understood.
    pub(super) problems: Vec<String>,
}

/// The root directory of a process. Links in it lead to where they lead for that process.
pub(super) struct Root(File);

impl Root {
    pub(super) fn of(pid: i32) -> std::io::Result<Self> {
        let root = open(format!("/proc/{pid}/root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self(root.into()))
    }

    fn open(&self, path: &Path, flags: OFlags) -> std::io::Result<File> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        // a fifo in the place of a file must not hold us; what is not opened for reading cannot
        let wait = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
        Ok(openat2(&self.0, relative, flags | OFlags::CLOEXEC | wait, Mode::empty(), ResolveFlags::IN_ROOT)?.into())
    }

    /// A regular file, not followed out of this root.
    pub(super) fn file(&self, path: &str) -> std::io::Result<File> {
        let file = self.open(Path::new(path), OFlags::RDONLY)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("not a file")) }
    }

    /// At most `largest` bytes of a regular file; more is an error.
    pub(super) fn bytes(&self, path: &str, largest: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(largest + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > largest {
            return Err(std::io::Error::other(format!("larger than {}", crate::model::quantity::bytes(largest))));
        }
        Ok(bytes)
    }

    /// What a link at `path` holds; none when it is no link.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let path = Path::new(path);
        let folder = self.open(path.parent()?, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let target = rustix::fs::readlinkat(&folder, path.file_name()?, Vec::new()).ok()?;
        target.into_string().ok()
    }

    /// When what is read at `path` changed last: the file, or the link that leads to it.
    pub(super) fn modified(&self, path: &str) -> Option<Timestamp> {
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

    /// The names in a folder, sorted as glob(3) sorts them.
    pub(super) fn names(&self, folder: &Path) -> Vec<String> {
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

    pub(super) fn exists(&self, path: &str) -> bool {
        self.open(Path::new(path), OFlags::PATH).is_ok()
    }

    /// The paths that a pattern stands for.
    pub(super) fn glob(&self, pattern: &str) -> Vec<String> {
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

/// Reads the configuration that begins in `main`.
pub(super) fn read(root: &Root, main: &str) -> Tree {
    let mut tree = Tree::default();
    tree.directives = file(root, main, main, 0, &mut tree.files, &mut tree.problems);
    tree
}

fn file(
    root: &Root,
    path: &str,
    main: &str,
    depth: usize,
    files: &mut Vec<SeenFile>,
    problems: &mut Vec<String>,
) -> Vec<Directive> {
    if files.len() >= MOST_FILES || depth > DEEPEST {
        problems.push(format!("{path}: not read: more than {MOST_FILES} files or includes nested deeper than {DEEPEST}"));
        return Vec::new();
    }
    let bytes = match root.bytes(path, LARGEST) {
        Ok(bytes) => bytes,
        Err(e) => {
            problems.push(format!("{path}: {e}"));
            return Vec::new();
        }
    };
    if !files.iter().any(|f| f.path == path) {
        files.push(SeenFile { path: path.to_owned(), modified: root.modified(path) });
    }
    match parse(&String::from_utf8_lossy(&bytes), &Arc::from(path)) {
        Ok(directives) => included(root, directives, main, depth, files, problems),
        Err(why) => {
            problems.push(why);
            Vec::new()
        }
    }
}

fn included(
    root: &Root,
    directives: Vec<Directive>,
    main: &str,
    depth: usize,
    files: &mut Vec<SeenFile>,
    problems: &mut Vec<String>,
) -> Vec<Directive> {
    let mut all = Vec::new();
    for mut d in directives {
        match (d.name.as_str(), d.args.first()) {
            ("include", Some(pattern)) => {
                // relative to the folder of the main file (ngx_conf_full_name)
                let pattern = absolute(pattern, main);
                for path in root.glob(&pattern) {
                    all.extend(file(root, &path, main, depth + 1, files, problems));
                }
            }
            // tables of thousands of lines that no check looks at
            ("types" | "map" | "geo", _) => all.push(d),
            _ => {
                d.block = included(root, d.block, main, depth, files, problems);
                all.push(d);
            }
        }
    }
    all
}

/// A path relative to the folder of the main file.
pub(super) fn absolute(path: &str, main: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let folder = main.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{path}")
}

/// Where packages and images keep the main file.
const MAIN_FILES: &[&str] = &[
    "/etc/nginx/nginx.conf",
    "/usr/local/nginx/conf/nginx.conf",
    "/usr/local/openresty/nginx/conf/nginx.conf",
    "/usr/local/etc/nginx/nginx.conf",
    "/opt/nginx/conf/nginx.conf",
];

/// The main file of an nginx that was not told where it is.
pub(super) fn usual_main(root: &Root) -> Option<&'static str> {
    MAIN_FILES.iter().copied().find(|p| root.exists(p))
}

/// The folder a process was started in, as it sees it.
pub(super) fn working_folder(pid: i32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()?.into_os_string().into_string().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn includes_are_followed_and_a_missing_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("nginx.conf"), "http { include conf.d/*.conf; include gone.conf; types { text/html html; } }").unwrap();
        fs::write(at("conf.d/b.conf"), "server { listen 2; }").unwrap();
        fs::write(at("conf.d/a.conf"), "server { listen 1; }").unwrap();
        fs::write(at("conf.d/.hidden.conf"), "x").unwrap();
        fs::write(at("conf.d/broken.conf"), "server {").unwrap();
        let root = Root::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let tree = read(&root, &at("nginx.conf"));
        let http = &tree.directives[0];
        let listens: Vec<&str> = http.block.iter().filter(|d| d.name == "server").flat_map(|s| &s.block).filter_map(|d| d.args.first()).map(String::as_str).collect();
        assert_eq!(listens, ["1", "2"]);
        assert_eq!(tree.files.len(), 4);
        assert!(tree.files.iter().all(|f| f.modified.is_some()));
        let problems = tree.problems.join("\n");
        assert!(problems.contains("broken.conf:1: the file ends inside a block") && problems.contains("gone.conf: No such file"), "{problems}");
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("nginx.conf").display().to_string();
        fs::write(&main, "include nginx.conf;").unwrap();
        let root = Root::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(read(&root, &main).problems[0].contains("nested deeper"));
    }
}
