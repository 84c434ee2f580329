//! Replays of a day: logs of healthy programs (`tests/logs/noise`) raise nothing at any time, and a fault (`tests/logs/faults`)
//! is found as soon as there is evidence, stays until it ends, and no longer.
//!
//! A file begins with comments: `# started:` (seconds of the day, negative for days before), `# about:`, and for a fault `#
//! fault:` (its begin and its end) and `# line:` (a part of its line). Lines are `SECONDS<TAB>TEXT`, or `@every SECONDSs from
//! BEGIN to END<TAB>TEXT`.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "the corpus is read by tests only")]

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

const DAY: i64 = 86_400;

/// Midnight.
const BEGIN: i64 = 1_800_057_600;

/// Bytes that the driver json-file adds to a line.
const FRAME_BYTES: usize = 75;

/// Bytes that are read from the end of a container's log, and those of a log with errors (`core/probe/logs.rs`).
const RECENT_BYTES: usize = 64 << 10;
const HISTORY_BYTES: usize = 4 << 20;

/// Time after a start within which a program logs its first line (`core/probe/docker/logs.rs`).
const FIRST_LINE_S: i64 = 300;

/// Time from the third error until it is reported.
const MAX_DELAY_S: i64 = 120;

struct Replay {
    name: String,
    comments: BTreeMap<String, String>,
    started: i64,
    lines: Vec<LogLine>,
    /// Sum of the bytes before each line, and of all.
    sizes: Vec<usize>,
    kinds: Vec<Kind>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(BEGIN + second).unwrap()
}

fn second(at: Timestamp) -> i64 {
    at.as_second() - BEGIN
}

fn clock(second: i64) -> String {
    format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// The times of a line: its second, or `@every 30s from 0 to 86400`.
fn times(head: &str) -> Vec<i64> {
    let Some(every) = head.strip_prefix("@every ") else { return vec![head.parse().unwrap()] };
    let (interval, rest) = every.split_once("s from ").unwrap();
    let (from, to) = rest.split_once(" to ").unwrap();
    let (from, to, interval): (i64, i64, usize) = (from.parse().unwrap(), to.parse().unwrap(), interval.parse().unwrap());
    (from..to).step_by(interval).collect()
}

impl Replay {
    fn read(path: &Path) -> Self {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let (mut comments, mut timed) = (BTreeMap::new(), Vec::new());
        for line in std::fs::read_to_string(path).unwrap().lines() {
            if let Some((key, value)) = line.strip_prefix("# ").and_then(|comment| comment.split_once(": ")) {
                comments.insert(key.to_owned(), value.to_owned());
                continue;
            }
            let (head, text) = line.split_once('\t').unwrap();
            timed.extend(times(head).into_iter().map(|second| (second, text.to_owned())));
        }
        timed.sort_by_key(|(second, _)| *second);
        let mut sizes = vec![0];
        for (_, text) in &timed {
            sizes.push(sizes.last().unwrap() + text.len() + FRAME_BYTES);
        }
        let lines: Vec<LogLine> = timed.into_iter().map(|(second, text)| LogLine { at: Some(at(second)), text }).collect();
        let (kinds, started) = (kinds(&lines), comments["started"].parse().unwrap());
        Self { name, comments, started, lines, sizes, kinds }
    }

    fn all(directory: &str) -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/logs").join(directory);
        let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// The log as it was at a time: at most so many bytes of its end.
    fn log(&self, now: i64, bytes: usize) -> (RunningLog<'_>, bool) {
        let end = self.lines.partition_point(|line| line.at <= Some(at(now)));
        let begin = self.sizes.partition_point(|size| *size + bytes < self.sizes[end]);
        let lines = &self.lines[begin.min(end)..end];
        let first = lines.first().and_then(|line| line.at);
        let is_rotated = first.is_some_and(|first| second(first) > self.started + FIRST_LINE_S);
        let cut = begin > 0 || is_rotated;
        let started = Some(at(self.started));
        (RunningLog { lines, from: started.filter(|_| !cut), started, now: at(now) }, begin > 0)
    }

    /// The result of [`new_errors`] for this log, without reading its lines again.
    fn found(&self, log: RunningLog<'_>, recorded: impl Fn(&str) -> Option<Timestamp>) -> Option<NewErrors> {
        let begin = log.lines.first()?.at?;
        let of_log = |kind: &Kind| {
            let from = kind.times.partition_point(|time| *time < begin);
            from..kind.times.partition_point(|time| *time <= log.now).max(from)
        };
        judge(self.kinds.iter().map(|kind| (kind, &kind.times[of_log(kind)])), Window::of(log)?, recorded)
    }
}

#[test]
fn a_day_of_healthy_programs_raises_nothing() {
    let replays = Replay::all("noise");
    assert!(replays.len() >= 14, "{} programs", replays.len());
    let mut alarms: BTreeMap<(String, bool, String), (i64, usize, String)> = BTreeMap::new();
    for replay in &replays {
        // every ten minutes, and after every error
        let errors = replay.kinds.iter().flat_map(|kind| &kind.times).map(|time| second(*time) + 1);
        let mut times: Vec<i64> = (0..=DAY).step_by(600).chain(errors).filter(|s| (0..=DAY).contains(s)).collect();
        times.sort_unstable();
        times.dedup();
        for now in times.into_iter().filter(|now| *now >= replay.started) {
            for bytes in [usize::MAX / 2, RECENT_BYTES] {
                let (log, is_cut) = replay.log(now, bytes);
                if let Some(found) = replay.found(log, |_| None) {
                    let key = (replay.name.clone(), is_cut, found.kind);
                    alarms.entry(key).or_insert_with(|| (now, 0, found.entry.text)).1 += 1;
                }
            }
        }
    }
    let shown = alarms.iter().map(|((name, is_cut, _), (now, count, text))| {
        format!("{name}{}: {count} times from {}: {text}", if *is_cut { " (cut)" } else { "" }, clock(*now))
    });
    assert!(alarms.is_empty(), "{}", shown.collect::<Vec<_>>().join("\n"));
}

/// The times at which a fault is reported, every `step` seconds; each read is followed by that of a longer history, as in a
/// run.
fn reported(
    replay: &Replay,
    times: impl IntoIterator<Item = i64>,
    recorded: &mut BTreeMap<String, Timestamp>,
) -> Vec<(i64, Option<String>)> {
    let mut results = Vec::new();
    for now in times {
        let (mut log, is_cut) = replay.log(now, RECENT_BYTES);
        if is_cut {
            log = replay.log(now, HISTORY_BYTES).0;
        }
        let found = replay.found(log, |kind| recorded.get(kind).copied());
        if let Some(found) = &found {
            recorded.entry(found.kind.clone()).or_insert_with(|| at(now));
        }
        results.push((now, found.map(|found| found.entry.text)));
    }
    results
}

fn shortcomings(replay: &Replay) -> Vec<String> {
    let line = replay.comments["line"].as_str();
    let (begin, end) = replay.comments["fault"].split_once(' ').unwrap();
    let (begin, end): (i64, i64) = (begin.parse().unwrap(), end.parse().unwrap());
    let is_fault = |text: Option<&String>| text.is_some_and(|text| text.contains(line));
    let kinds: Vec<&Kind> = replay.kinds.iter().filter(|kind| kind.entry.text.contains(line)).collect();
    let mut errors: Vec<i64> =
        kinds.iter().flat_map(|kind| &kind.times).map(|time| second(*time)).filter(|s| *s >= begin).collect();
    errors.sort_unstable();
    let Some(third) = errors.get(2).copied() else { return vec![format!("no error contains {line:?}")] };
    let mut wrong = Vec::new();
    let mut recorded = BTreeMap::new();
    let before = reported(replay, (replay.started.max(0)..begin).step_by(600), &mut recorded);
    wrong.extend(before.iter().filter_map(|(now, text)| Some(format!("{} before it: {}", clock(*now), text.as_ref()?))));
    let first = reported(replay, (begin..=third + MAX_DELAY_S).step_by(5), &mut recorded);
    let Some(found) = first.iter().position(|(_, text)| is_fault(text.as_ref())) else {
        wrong.push(format!("not found until {}, the third error was at {}", clock(third + MAX_DELAY_S), clock(third)));
        return wrong;
    };
    let continued = reported(replay, (first[found].0..end).step_by(60), &mut recorded);
    let lost = continued.iter().filter(|(_, text)| !is_fault(text.as_ref()));
    wrong.extend(lost.map(|(now, _)| format!("{} not reported", clock(*now))));
    assert!(continued.len() > 60, "{}: the fault lasts an hour", replay.name);
    let after = reported(replay, (end + LONGEST_PAUSE.as_secs()..DAY).step_by(600), &mut recorded);
    wrong.extend(after.iter().filter_map(|(now, text)| Some(format!("{} after it: {}", clock(*now), text.as_ref()?))));
    wrong
}

#[test]
fn faults_are_reported_while_they_last() {
    let replays = Replay::all("faults");
    assert!(replays.len() >= 14, "{} faults", replays.len());
    let mut wrong = Vec::new();
    for replay in &replays {
        wrong.extend(shortcomings(replay).into_iter().map(|text| format!("{}: {text}", replay.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The replay judges the same as a read of the lines.
#[test]
fn replay_of_a_log_and_its_lines() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/logs/faults/disk-full.log");
    let replay = Replay::read(&path);
    let begin: i64 = replay.comments["fault"].split_once(' ').unwrap().0.parse().unwrap();
    for now in [begin, begin + 600] {
        let (log, _) = replay.log(now, HISTORY_BYTES);
        let expected = replay.found(log, |_| None);
        assert_eq!(new_errors(log, |_| None), expected);
        assert_eq!(expected.is_some(), now > begin);
    }
}
