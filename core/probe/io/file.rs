//! Metadata, content search and tail of a single file, for configured expectations.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::probe::io::Root;
use crate::probe::io::accounts::name_of;
use crate::probe::io::clock::{moment, zone};
use crate::probe::{Io, ProbeError, blocking};

/// Size limit in bytes of the content that is searched for a text.
const MAX_SEARCH_BYTES: u64 = 4 << 20;

/// Metadata of a file and the result of a content search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileInfo {
    /// Its path.
    pub path: String,
    /// A regular file.
    pub is_file: bool,
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub modified: Option<Timestamp>,
    /// Its owner, by name if there is one.
    pub owner: String,
    /// The searched texts that it contains.
    pub holds: Vec<String>,
    /// The file is larger than the searched part.
    pub cut: bool,
}

/// The file at `path`, or the newest file that matches it as a pattern; `None` if no file exists. `texts` are searched in its
/// content.
pub async fn inspect(path: &str, texts: &[String], timeout: Duration) -> Result<Option<FileInfo>, ProbeError> {
    let (path, texts) = (path.to_owned(), texts.to_vec());
    let from = path.clone();
    blocking::run("a file", &from, timeout, move |io| read(io, &path, &texts)).await?
}

fn read(io: &Io, path: &str, texts: &[String]) -> Result<Option<FileInfo>, ProbeError> {
    let Some((path, meta)) = newest(io, path)? else { return Ok(None) };
    let seconds = Timestamp::new(meta.mtime(), i32::try_from(meta.mtime_nsec()).unwrap_or(0));
    let mut facts = FileInfo {
        is_file: meta.is_file(),
        size: meta.len(),
        modified: seconds.ok(),
        owner: user_name(io, meta.uid()),
        path,
        ..FileInfo::default()
    };
    if !texts.is_empty() && facts.is_file {
        let denied = |e: &std::io::Error| ProbeError::io("a file", facts.path.clone(), e);
        let mut bytes = Vec::new();
        let file = Root::own(io).and_then(|root| root.file(&facts.path)).map_err(|e| denied(&e))?;
        file.take(MAX_SEARCH_BYTES).read_to_end(&mut bytes).map_err(|e| denied(&e))?;
        let held = texts.iter().filter(|t| memchr::memmem::find(&bytes, t.as_bytes()).is_some()).cloned().collect();
        facts.holds = held;
        facts.cut = facts.size > MAX_SEARCH_BYTES;
    }
    Ok(Some(facts))
}

/// Whether a path is a pattern.
fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

fn newest(io: &Io, path: &str) -> Result<Option<(String, Metadata)>, ProbeError> {
    let error = |path: &str, e: &std::io::Error| ProbeError::io("a file", path, e);
    let of = |path: String| match io.metadata(&path) {
        Ok(meta) => Ok(Some((path, meta))),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(error(&path, &e)),
    };
    if !is_pattern(path) {
        return of(path.to_owned());
    }
    // glob treats an unreadable directory as empty
    let directory = Path::new(path).ancestors().skip(1).find(|p| p.to_str().is_some_and(|p| !is_pattern(p)));
    if let Some(directory) = directory
        && let Err(e) = io.read_dir(directory)
        && e.kind() == ErrorKind::PermissionDenied
    {
        return Err(error(&directory.display().to_string(), &e));
    }
    let found = Root::own(io).map_err(|e| error(path, &e))?.glob(path);
    let mut best: Option<(String, Metadata)> = None;
    for path in found {
        let Some((path, meta)) = of(path)? else { continue };
        let age = |m: &Metadata| (m.mtime(), m.mtime_nsec());
        if best.as_ref().is_none_or(|(_, b)| age(b) < age(&meta)) {
            best = Some((path, meta));
        }
    }
    Ok(best)
}

/// The end of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its lines, oldest first, each with its timestamp, or the one of the preceding line; `None` if unknown.
    pub lines: Vec<(Option<Timestamp>, String)>,
    /// Earlier lines were omitted.
    pub cut: bool,
}

/// The last lines of a file, from at most `bytes` of it; `None` if the file does not exist.
pub async fn tail(path: &str, bytes: u64, timeout: Duration) -> Result<Option<Tail>, ProbeError> {
    let path = path.to_owned();
    let from = path.clone();
    blocking::run("log lines", &from, timeout, move |io| {
        let error = |e: &std::io::Error| ProbeError::io("log lines", path.clone(), e);
        let mut file: File = match Root::own(io).and_then(|root| root.file(&path)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(error(&e)),
        };
        let length = file.metadata().map_err(|e| error(&e))?.len();
        let start = length.saturating_sub(bytes);
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(start)).and_then(|_| file.take(bytes).read_to_end(&mut end)).map_err(|e| error(&e))?;
        let text = String::from_utf8_lossy(&end);
        // the first line may be incomplete
        let whole = text.lines().skip(usize::from(start > 0));
        let zone = zone(io, Path::new("/"));
        let mut last = None;
        let lines = whole.map(|line| {
            last = written(line, &zone).or(last);
            (last, line.chars().take(1000).collect())
        });
        Ok(Some(Tail { lines: lines.collect(), cut: start > 0 }))
    })
    .await?
}

/// The timestamp at the beginning of a line: RFC 3339, or `2026-11-21 20:05:45` (also with `/`, `T` and brackets) in local time.
pub(in crate::probe) fn written(line: &str, zone: &TimeZone) -> Option<Timestamp> {
    let line = line.trim_start_matches(['[', ' ']);
    let date = line.get(..10)?;
    if !date.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let end = line.get(11..)?.find([' ', ']', '\t', ',']).map_or(line.len(), |at| at + 11);
    let zoned = format!("{}T{}", date.replace('/', "-"), &line[11..end]);
    zoned.parse().ok().or_else(|| moment(&format!("{} {}", date.replace('/', "-"), line.get(11..19)?), zone))
}

/// The name of a user, or the uid if there is none.
pub(in crate::probe) fn user_name(io: &Io, uid: u32) -> String {
    let users = io.read_lossy("/etc/passwd").unwrap_or_default();
    name_of(users.as_bytes(), uid).unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "current_thread")]
    async fn newest_file_of_a_pattern() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(inspect(&path("none"), &[], TIMEOUT).await, Ok(None));
        assert_eq!(inspect(&path("*.gz"), &[], TIMEOUT).await, Ok(None));
        for (name, age) in [("a.gz", 3000), ("b.gz", 1000), ("c.gz", 2000)] {
            let file = File::create(path(name)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(10_000 - age)).unwrap();
        }
        std::fs::write(path("d.txt"), "it is well").unwrap();
        let facts = inspect(&path("*.gz"), &[], TIMEOUT).await.unwrap().unwrap();
        assert_eq!((facts.path, facts.size, facts.modified), (path("b.gz"), 0, Timestamp::from_second(9000).ok()));
        let texts = ["well".to_owned(), "ill".to_owned()];
        let facts = inspect(&path("d.txt"), &texts, TIMEOUT).await.unwrap().unwrap();
        assert_eq!((facts.holds, facts.cut, facts.is_file), (vec!["well".to_owned()], false, true));
        assert!(!inspect(&dir.path().display().to_string(), &texts, TIMEOUT).await.unwrap().unwrap().is_file);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn tail_begins_with_a_complete_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log").display().to_string();
        assert_eq!(tail(&path, 10, TIMEOUT).await, Ok(None));
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let end = tail(&path, 9, TIMEOUT).await.unwrap().unwrap();
        assert_eq!((end.lines, end.cut), (vec![(None, "three".to_owned())], true));
        let all = tail(&path, 100, TIMEOUT).await.unwrap().unwrap();
        assert_eq!((all.lines.len(), all.cut), (3, false));
    }

    #[test]
    fn timestamp_formats_of_log_lines() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let at = |line: &str| written(line, &zone).map(|t| t.to_string()).unwrap_or_default();
        for line in [
            "2026-11-21T05:53:36Z it",
            "2026-11-21T06:53:36+01:00 it",
            "2026-11-21 07:53:36,123 ERROR it",
            "2026/11/21 07:53:36 [error] it",
            "[2026-11-21 07:53:36] it",
            "[2026-11-21T05:53:36Z]",
            "2026-11-21 07:53:36",
        ] {
            assert!(at(line).starts_with("2026-11-21T05:53:36"), "{line}: {}", at(line));
        }
        assert_eq!((at("  at main.py"), at("2026-11-21"), at("2026-99-21 07:53:36 x"), at("")), Default::default());
    }
}
