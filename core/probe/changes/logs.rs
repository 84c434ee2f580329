//! Log files with what logrotate has put aside, and the local time in them.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::{Timestamp, tz::TimeZone};

use crate::probe::systemd::{JournalLine, Since, journal};
use crate::probe::{Io, ProbeError, blocking, clock};

/// How much of a log is read, from its end, in bytes.
const WINDOW: u64 = 4 << 20;

/// How much is unpacked of one that was packed, in bytes.
const UNPACKED: u64 = 16 << 20;

/// More lines than a busy day has.
const LINES: usize = 2000;

/// How long looking for the journal may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// A year of monthly rotations, which is what dpkg and apt have.
const ROTATED: usize = 12;

/// The texts of a log, oldest first, as far back as `since` may be in them. An error is about the log itself; the ones put aside may be
/// gone at any moment.
pub(super) fn texts(io: &Io, log: &Path, since: Timestamp) -> io::Result<Vec<String>> {
    let suffixed = |suffix: String| {
        let mut name = log.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut texts = vec![text(io, log)?];
    for n in 1..=ROTATED {
        let plain = suffixed(format!(".{n}"));
        let file = if io.exists(&plain) { plain } else { suffixed(format!(".{n}.gz")) };
        // what was last written before then says nothing about later
        if written(io, &file).is_none_or(|at| at < since) {
            break;
        }
        texts.extend(text(io, &file).ok());
    }
    texts.reverse();
    Ok(texts)
}

/// Lines of the journal since then, oldest first; none of it on a host without a journal.
pub(super) async fn in_journal(matches: &[&str], since: Timestamp) -> Result<Option<Vec<JournalLine>>, ProbeError> {
    let kept = |io: &Io| ["/var/log/journal", "/run/log/journal"].iter().any(|p| io.is_dir(p));
    if !blocking::run("the journal", "/var/log/journal", LOOK_TIMEOUT, kept).await? {
        return Ok(None);
    }
    let minutes = clock::now().duration_since(since).as_mins() + 1;
    let back = Since::Minutes(u16::try_from(minutes).unwrap_or(u16::MAX));
    journal(matches, back, LINES).await.map(Some)
}

/// When a file was written last.
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
        flate2::read::MultiGzDecoder::new(file).take(UNPACKED).read_to_end(&mut bytes)?;
    } else {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(WINDOW)))?;
        file.take(WINDOW).read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The time zone that the logs of this host are written in.
pub(in crate::probe) fn zone(io: &Io, root: &Path) -> TimeZone {
    let mut bytes = Vec::new();
    let read = io.open(root.join("etc/localtime")).and_then(|f| f.take(1 << 20).read_to_end(&mut bytes));
    read.ok().and_then(|_| TimeZone::tzif("local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

/// `2026-11-21 20:05:45` in local time.
pub(in crate::probe) fn moment(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let local = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_put_aside_is_read_as_far_back_as_asked() {
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
        // half a file, and something that is none
        std::fs::write(dir.path().join("dpkg.log.2.gz"), "not packed").unwrap();
        assert_eq!(texts(&Io::for_test(), &log, Timestamp::UNIX_EPOCH).unwrap(), ["older", "new"]);
    }

    proptest::proptest! {
        #[test]
        fn any_time_is_survived(text in ".*") {
            let _ = moment(&text, &TimeZone::UTC);
        }
    }
}
