//! Reading of logs: the last minutes backwards from the end, or on request the complete log with all rotated files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::log_scan::{Requests, Scanner};
use crate::probe::io::Root;

/// Limit of the end of a log that is read, in bytes: a thousand requests a second for five minutes.
const MAX_TAIL_BYTES: u64 = 64 << 20;

/// Size of one read, in bytes.
const CHUNK_BYTES: u64 = 1 << 20;

/// Part of a complete log per task, in bytes.
const TASK_BYTES: u64 = 4 << 20;

/// Size of a buffer that is searched at once: it is passed over three times and should still be in the second-level cache.
const BUFFER_BYTES: usize = 128 << 10;

/// Consecutive chunks without a line that has a time, after which a file is not considered a log.
const MAX_UNTIMED_CHUNKS: usize = 4;

/// Limit of a line, in bytes; a longer one is cut.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// End of a log, from `since` on.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Complete lines.
    pub(super) bytes: Vec<u8>,
    /// Whether the period has more lines than were read.
    pub(super) cut: bool,
}

/// Reads the lines of `file` that are not older than `since`, by the time that `time` finds in a line.
pub(super) fn tail(file: &File, since: Timestamp, time: &dyn Fn(&[u8]) -> Option<Timestamp>) -> std::io::Result<Tail> {
    let mut start = file.metadata()?.len();
    let mut tail = Tail::default();
    // newest first; joined once at the end
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut untimed = 0;
    while start > 0 {
        if pieces.len() as u64 * CHUNK_BYTES >= MAX_TAIL_BYTES || untimed == MAX_UNTIMED_CHUNKS {
            tail.cut = true;
            break;
        }
        let size = CHUNK_BYTES.min(start);
        start -= size;
        let mut piece = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut piece, start)?;
        let begins = first_time(&piece, start > 0, time);
        untimed = if begins.is_some() { 0 } else { untimed + 1 };
        let old_enough = begins.is_some_and(|t| t < since);
        pieces.push(piece);
        if old_enough {
            break;
        }
    }
    tail.bytes.reserve_exact(pieces.iter().map(Vec::len).sum());
    while let Some(piece) = pieces.pop() {
        // freed one by one: both together would take twice the memory
        tail.bytes.extend_from_slice(&piece);
    }
    if start > 0 {
        drop_first_line(&mut tail.bytes);
    }
    let begin = lower_bound(&tail.bytes, since, time);
    tail.bytes.drain(..begin);
    Ok(tail)
}

fn drop_first_line(bytes: &mut Vec<u8>) {
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |n| n + 1);
    bytes.drain(..end);
}

/// Time of the first line that has one, among the first few.
fn first_time(bytes: &[u8], torn: bool, time: &dyn Fn(&[u8]) -> Option<Timestamp>) -> Option<Timestamp> {
    bytes.split(|b| *b == b'\n').skip(usize::from(torn)).take(20).find_map(time)
}

/// Position of the first line that is not older than `since`; lines of a log are in order.
pub(super) fn lower_bound(bytes: &[u8], since: Timestamp, time: &dyn Fn(&[u8]) -> Option<Timestamp>) -> usize {
    let (mut low, mut high) = (0, bytes.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let start = memchr::memrchr(b'\n', &bytes[..middle]).map_or(0, |n| n + 1).max(low);
        let mut at = start;
        // a line without a time (garbage) belongs to the next one
        let (found, next) = loop {
            let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n + 1);
            match time(bytes[at..end].trim_ascii_end()) {
                Some(t) => break (Some(t), end),
                None if end >= high => break (None, high),
                None => at = end,
            }
        };
        if found.is_none_or(|t| t >= since) {
            high = start;
        } else {
            low = next;
        }
    }
    low
}

/// Rotated files of a log, newest first: `access.log.1`, `access.log.2.gz`, `access.log-20261121`.
pub(super) fn rotated(root: &Root, path: &str) -> Vec<String> {
    let Some((directory, name)) = path.rsplit_once('/') else { return Vec::new() };
    let stem = name.strip_suffix(".log").unwrap_or(name);
    let is = |n: &String| {
        let rest = n.strip_prefix(name).or_else(|| n.strip_prefix(stem));
        let plain = rest.map(|r| r.strip_suffix(".gz").unwrap_or(r)).map(|r| r.strip_suffix(".log").unwrap_or(r));
        n != name
            && plain.is_some_and(|r| {
                r.len() > 1 && r.starts_with(['.', '-']) && r[1..].bytes().all(|b| b.is_ascii_digit() || b == b'-')
            })
    };
    let directory = if directory.is_empty() { "/" } else { directory };
    let mut found: Vec<(Option<Timestamp>, String)> = root
        .names(std::path::Path::new(directory))
        .into_iter()
        .filter(is)
        .map(|n| format!("{}/{n}", directory.trim_end_matches('/')))
        .map(|p| (root.modified(&p), p))
        .collect();
    found.sort_by_key(|(modified, _)| std::cmp::Reverse(*modified));
    found.into_iter().map(|(_, p)| p).collect()
}

fn is_packed(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|e| e == "gz")
}

/// The last minutes of a log and, after a rotation within them, of the file before it. `None` if it is not readable.
pub(super) fn window(
    root: &Root,
    path: &str,
    now: Timestamp,
    window: SignedDuration,
    time: &dyn Fn(&[u8]) -> Option<Timestamp>,
) -> std::io::Result<Tail> {
    let since = now.saturating_sub(window).unwrap_or(now);
    let mut log = tail(&root.file(path)?, since, time)?;
    // the file covers the window unless its first line is within it
    let began_before = log.cut || {
        let mut head = vec![0; 4096];
        let n = root.file(path)?.read_at(&mut head, 0)?;
        first_time(&head[..n], false, time).is_some_and(|t| t < since)
    };
    if !began_before
        && let Some(before) = rotated(root, path).into_iter().next()
        && root.modified(&before).is_some_and(|t| t >= since)
    {
        let mut earlier = if is_packed(&before) {
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(root.file(&before)?).take(MAX_TAIL_BYTES).read_to_end(&mut text)?;
            let begin = lower_bound(&text, since, time);
            text.drain(..begin);
            text
        } else {
            tail(&root.file(&before)?, since, time)?.bytes
        };
        earlier.append(&mut log.bytes);
        log.bytes = earlier;
    }
    Ok(log)
}

/// Counts all of these files, on all processors, for at most `time_limit`. Unreadable files are named in the list of errors.
pub(super) fn whole(root: &Root, paths: &[String], scanner: &Scanner, time_limit: Duration) -> (Requests, u64, Vec<String>) {
    let until = Instant::now() + time_limit;
    let mut problems = Vec::new();
    let mut tasks = Vec::new();
    let mut size = 0;
    for path in paths {
        match root.file(path).and_then(|f| Ok((f.metadata()?.len(), f))) {
            Ok((length, file)) => {
                size += length;
                let file = std::sync::Arc::new(file);
                if is_packed(path) {
                    tasks.push((file, path, None));
                } else {
                    tasks.extend((0..length.div_ceil(TASK_BYTES)).map(|i| (file.clone(), path, Some(i * TASK_BYTES))));
                }
            }
            Err(e) => problems.push(format!("{path}: {e}")),
        }
    }
    let next = AtomicUsize::new(0);
    let result = Mutex::new((Requests::default(), problems));
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(tasks.len().max(1));
        for _ in 0..threads {
            scope.spawn(|| {
                let mut counted = Requests::default();
                let mut failed = Vec::new();
                let mut buffer = Vec::new();
                while let Some((file, path, part)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if Instant::now() > until {
                        failed.push(format!("{path}: incomplete, timed out"));
                        continue;
                    }
                    let read = match part {
                        Some(start) => part_of(file, *start, scanner, &mut buffer, &mut counted),
                        None => packed(file, scanner, &mut counted),
                    };
                    if let Err(e) = read {
                        failed.push(format!("{path}: {e}"));
                    }
                }
                if let Ok(mut result) = result.lock() {
                    result.0.add(&counted);
                    result.1.append(&mut failed);
                }
            });
        }
    });
    let (requests, mut problems) = result.into_inner().unwrap_or_default();
    problems.sort();
    problems.dedup();
    (requests, size, problems)
}

/// Counts the lines that begin in one part of a file. A buffer stays in the processor's cache while it is searched.
fn part_of(file: &File, start: u64, scanner: &Scanner, buffer: &mut Vec<u8>, into: &mut Requests) -> std::io::Result<()> {
    let end = start + TASK_BYTES;
    // the byte before shows whether a line begins here
    let mut next = start.saturating_sub(1);
    let mut begun = start == 0;
    // bytes kept from the last buffer: the beginning of a line
    let mut kept = 0;
    loop {
        if buffer.len() < kept + BUFFER_BYTES {
            buffer.resize(kept + BUFFER_BYTES, 0);
        }
        let n = file.read_at(&mut buffer[kept..kept + BUFFER_BYTES], next)?;
        next += n as u64;
        let filled = kept + n;
        let bytes = &buffer[..filled];
        let base = next - filled as u64;
        let from = match (begun, memchr::memchr(b'\n', bytes)) {
            (true, _) => 0,
            (false, Some(at)) => at + 1,
            // a line of the previous part continues
            (false, None) if n > 0 && next < end => {
                kept = 0;
                continue;
            }
            (false, None) => return Ok(()),
        };
        if base + from as u64 >= end {
            return Ok(());
        }
        begun = true;
        if n == 0 {
            if from < filled {
                scanner.scan(&bytes[from..], into);
            }
            return Ok(());
        }
        // the last line of this part ends at the first line break from its last byte on
        if next >= end {
            let last = usize::try_from(end - 1 - base).unwrap_or(0).max(from);
            if let Some(at) = memchr::memchr(b'\n', &bytes[last.min(filled)..]) {
                scanner.scan(&bytes[from..=last + at], into);
                return Ok(());
            }
        }
        let whole = memchr::memrchr(b'\n', &bytes[from..]).map_or(from, |at| from + at + 1);
        if whole > from {
            scanner.scan(&bytes[from..whole], into);
        }
        kept = filled - whole;
        if kept as u64 > MAX_LINE_BYTES {
            // a line of no part
            return Ok(());
        }
        buffer.copy_within(whole..filled, 0);
    }
}

fn packed(file: &File, scanner: &Scanner, into: &mut Requests) -> std::io::Result<()> {
    let mut unpacked = flate2::read::MultiGzDecoder::new(file);
    let mut buffer = Vec::new();
    loop {
        let had = buffer.len();
        let n = unpacked.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut buffer)?;
        if n == 0 {
            scanner.scan(&buffer, into);
            return Ok(());
        }
        let Some(end) = memchr::memrchr(b'\n', &buffer).map(|at| at + 1) else {
            if had as u64 > MAX_LINE_BYTES {
                buffer.clear();
            }
            continue;
        };
        scanner.scan(&buffer[..end], into);
        buffer.drain(..end);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::Write;

    use super::super::{COMBINED, LogFormat};
    use super::*;

    fn scanner() -> Scanner {
        Scanner::new(LogFormat::new(COMBINED).unwrap())
    }

    fn line(second: i64, status: u16) -> String {
        let t = Timestamp::from_second(1_795_264_000 + second).unwrap();
        let at = t.strftime("%d/%b/%Y:%H:%M:%S +0000");
        format!("10.0.0.1 - - [{at}] \"GET /a HTTP/1.1\" {status} 5 \"-\" \"x\"\n")
    }

    fn root() -> Root {
        Root::of(&crate::probe::Io::for_test(), i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_264_000 + 100_000).unwrap()
    }

    #[test]
    fn file_without_times_is_abandoned_after_some_chunks() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        let scanner = scanner();
        let got = tail(&file, now(), &|l| scanner.format().time(l)).unwrap();
        // one incomplete line
        assert!(got.cut && got.bytes.is_empty() && got.bytes.capacity() <= MAX_UNTIMED_CHUNKS << 20);
    }

    #[test]
    fn only_the_last_minutes_of_a_long_log_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = File::create(&path).unwrap();
        // 8 MB, with garbage in between
        for i in 0..100_000 {
            file.write_all(line(i, if i % 100 == 0 { 502 } else { 200 }).as_bytes()).unwrap();
            if i % 1000 == 7 {
                file.write_all(b"garbage\n").unwrap();
            }
        }
        let s = scanner();
        let got =
            window(&root(), path.to_str().unwrap(), now(), SignedDuration::from_secs(300), &|l| s.format().time(l)).unwrap();
        let mut r = Requests::default();
        s.scan(&got.bytes, &mut r);
        assert_eq!((r.failures(), got.cut), (3, false));
        assert!((300..=301).contains(&r.all), "{}", r.all);
    }

    #[test]
    fn window_after_a_rotation_includes_the_previous_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        std::fs::write(&path, line(99_990, 500)).unwrap();
        let before: String = (99_000..99_990).map(|i| line(i, 502)).collect();
        let old = dir.path().join("access.log.1");
        std::fs::write(&old, &before).unwrap();
        std::fs::write(dir.path().join("access.log.bak"), &before).unwrap();
        let s = scanner();
        // the test's files are of today, its lines are not: they have to be newer than the window
        let read = || {
            let got =
                window(&root(), path.to_str().unwrap(), now(), SignedDuration::from_secs(300), &|l| s.format().time(l)).unwrap();
            let mut r = Requests::default();
            s.scan(&got.bytes, &mut r);
            r.all
        };
        let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_264_000 + 99_990);
        File::options().write(true).open(&old).unwrap().set_modified(then).unwrap();
        assert_eq!(read(), 291);
        let mut gz =
            flate2::write::GzEncoder::new(File::create(dir.path().join("access.log.1.gz")).unwrap(), flate2::Compression::fast());
        gz.write_all(before.as_bytes()).unwrap();
        gz.finish().unwrap().set_modified(then).unwrap();
        std::fs::remove_file(&old).unwrap();
        assert_eq!(read(), 291);
    }

    #[test]
    fn complete_log_is_counted_once_for_any_part_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log").display().to_string();
        let lines = 120_000_u32;
        let text: String = (0..lines).map(|i| line(i.into(), if i % 10 == 0 { 503 } else { 200 })).collect();
        assert!(text.len() as u64 > 2 * TASK_BYTES);
        std::fs::write(&path, text.trim_end()).unwrap();
        let gz = format!("{path}.2.gz");
        let mut encoder = flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        let (r, _, problems) =
            whole(&root(), &[path.clone(), gz.clone(), "/no/such".to_owned()], &scanner(), Duration::from_secs(60));
        let none = whole(&root(), std::slice::from_ref(&path), &scanner(), Duration::ZERO);
        assert!(none.0.all == 0 && none.2[0].ends_with("timed out"), "{none:?}");
        assert_eq!((r.all, r.failures()), (2 * u64::from(lines), 2 * u64::from(lines) / 10));
        assert!(problems.len() == 1 && problems[0].starts_with("/no/such: No such file"), "{problems:?}");
        assert_eq!(rotated(&root(), &path), [gz]);
    }
}
