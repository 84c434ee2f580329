//! Log files including rotated ones, and the local time in them.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::probe::io::clock;
use crate::probe::systemd::{JournalLine, Since, journal};
use crate::probe::{Io, ProbeError, blocking};

/// Bytes read from the end of a log.
const MAX_LOG_BYTES: u64 = 4 << 20;

/// Bytes decompressed from a compressed log.
const MAX_DECOMPRESSED_BYTES: u64 = 16 << 20;

/// Limit of journal lines; a busy day has fewer.
const MAX_LINES: usize = 2000;

/// Timeout of the check for a journal.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit of rotated files: a year of monthly rotations, the default of dpkg and apt.
const MAX_ROTATIONS: usize = 12;

/// Contents of a log and its rotated files, oldest first, as far back as they may contain `since`. Errors refer to the log
/// itself; rotated files may be removed at any time.
pub(super) fn texts(io: &Io, log: &Path, since: Timestamp) -> io::Result<Vec<String>> {
    let suffixed = |suffix: String| {
        let mut name = log.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut texts = vec![text(io, log)?];
    for n in 1..=MAX_ROTATIONS {
        let plain = suffixed(format!(".{n}"));
        let file = if io.exists(&plain) { plain } else { suffixed(format!(".{n}.gz")) };
        // a file last modified before `since` has no later lines
        if written(io, &file).is_none_or(|at| at < since) {
            break;
        }
        texts.extend(text(io, &file).ok());
    }
    texts.reverse();
    Ok(texts)
}

/// Journal lines since then, oldest first; `None` on a host without a journal.
pub(super) async fn in_journal(matches: &[&str], since: Timestamp) -> Result<Option<Vec<JournalLine>>, ProbeError> {
    let kept = |io: &Io| ["/var/log/journal", "/run/log/journal"].iter().any(|p| io.is_dir(p));
    if !blocking::run("the journal", "/var/log/journal", CHECK_TIMEOUT, kept).await? {
        return Ok(None);
    }
    let minutes = clock::now().duration_since(since).as_mins() + 1;
    let back = Since::Minutes(u16::try_from(minutes).unwrap_or(u16::MAX));
    journal(matches, back, MAX_LINES).await.map(Some)
}

/// Modification time of a file.
pub(super) fn written(io: &Io, path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(io.symlink_metadata(path).ok()?.modified().ok()?).ok()
}

fn text(io: &Io, path: &Path) -> io::Result<String> {
    let mut file = io.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|e| e == "gz") {
        flate2::read::MultiGzDecoder::new(file).take(MAX_DECOMPRESSED_BYTES).read_to_end(&mut bytes)?;
    } else {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(MAX_LOG_BYTES)))?;
        file.take(MAX_LOG_BYTES).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn rotated_logs_are_read_back_to_since() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("dpkg.log");
        assert!(texts(&Io::for_test(), &log, Timestamp::UNIX_EPOCH).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
        std::fs::write(&log, "new").unwrap();
        std::fs::write(dir.path().join("dpkg.log.1"), "older").unwrap();
        let packed = std::fs::File::create(dir.path().join("dpkg.log.2.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        packed.write_all(b"oldest").unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(texts(&Io::for_test(), &log, Timestamp::UNIX_EPOCH).unwrap(), ["oldest", "older", "new"]);
        packed.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(texts(&Io::for_test(), &log, Timestamp::from_second(100).unwrap()).unwrap(), ["older", "new"]);
        // a truncated file, or one that is not gzip
        std::fs::write(dir.path().join("dpkg.log.2.gz"), "not packed").unwrap();
        assert_eq!(texts(&Io::for_test(), &log, Timestamp::UNIX_EPOCH).unwrap(), ["older", "new"]);
    }
}
