//! Log lines of site checks.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::probe::io::{clock, file};
use opsctl_core::probe::systemd::{Since, journal};
use opsctl_core::probe::{ProbeCx, ProbeError};
use regex::Regex;

use super::probe::{Seen, within};
use crate::config::site::Source;

/// Maximum number of lines read.
const MAX_LINES: u32 = 50_000;

/// Bytes read from the end of a file.
const TAIL_BYTES: u64 = 1 << 20;

/// Number of matching lines kept: the last ones.
const MAX_KEPT_LINES: usize = 3;

/// Counts the lines that match a pattern.
pub(super) async fn log(
    cx: &ProbeCx,
    source: &Source,
    pattern: &str,
    back: Option<SignedDuration>,
    timeout: Duration,
) -> Result<Seen, ProbeError> {
    let failed = |from: &str, why: &str| ProbeError::failed("log lines", from, why);
    let pattern = Regex::new(pattern).map_err(|e| failed("the pattern", &e.to_string()))?;
    let since = back.map(|b| clock::now().checked_sub(b).unwrap_or(Timestamp::UNIX_EPOCH));
    match source {
        Source::Container(name) => {
            let known = cx.inventory.containers.iter().find(|c| c.name == *name);
            let docker = cx.docker()?;
            let id = &known.ok_or_else(|| failed(name, "there is no container of this name"))?.id;
            let from = since.unwrap_or(Timestamp::UNIX_EPOCH);
            let read = within(timeout, docker.log_since_now(id, from, MAX_LINES)).await;
            let log = read.ok_or_else(|| late(name, timeout))??;
            let text = [String::from_utf8_lossy(&log.stdout), String::from_utf8_lossy(&log.stderr)].concat();
            Ok(counted(&pattern, text.lines(), log.cut))
        }
        Source::Unit(name) => {
            cx.systemd()?;
            let units = cx.inventory.systemd.iter().flat_map(|s| &s.units);
            if !units.into_iter().any(|u| u.name == *name) {
                return Err(failed(name, "no active or enabled unit has this name"));
            }
            let minutes = back.map_or(i64::MAX, |b| (b.as_secs() + 59) / 60);
            let back = Since::Minutes(u16::try_from(minutes).unwrap_or(u16::MAX));
            let matches = format!("_SYSTEMD_UNIT={name}");
            let lines = within(timeout, Box::pin(journal(&[&matches], back, MAX_LINES as usize)))
                .await
                .ok_or_else(|| late(name, timeout))??;
            let recent = lines.iter().filter(|l| since.is_none_or(|s| l.at >= s)).map(|l| l.text.as_str());
            Ok(counted(&pattern, recent, lines.len() >= MAX_LINES as usize))
        }
        Source::File(path) => {
            let tail = file::tail(path, TAIL_BYTES, timeout).await?.ok_or_else(|| failed(path, "there is no such file"))?;
            if since.is_some() && !tail.lines.is_empty() && tail.lines.iter().all(|(at, _)| at.is_none()) {
                let why = "its lines have no timestamps; without `within` the end of the file is read";
                return Err(failed(path, why));
            }
            // lines before the first timestamp belong to an entry that was not read
            let recent = tail.lines.iter().filter(|(at, _)| since.is_none_or(|s| at.is_some_and(|at| at >= s)));
            // unread lines before the window are irrelevant
            let reaches = since.is_some_and(|s| tail.lines.iter().find_map(|(at, _)| *at).is_some_and(|first| first < s));
            Ok(counted(&pattern, recent.map(|(_, line)| line.as_str()), tail.cut && since.is_some() && !reaches))
        }
    }
}

fn late(from: &str, after: Duration) -> ProbeError {
    ProbeError::Timeout { subject: "log lines".to_owned(), from: from.to_owned(), after }
}

fn counted<'l>(pattern: &Regex, lines: impl Iterator<Item = &'l str>, cut: bool) -> Seen {
    let (mut count, mut read) = (0, 0);
    let mut last: Vec<String> = Vec::new();
    for line in lines {
        read += 1;
        if pattern.is_match(line) {
            count += 1;
            if last.len() == MAX_KEPT_LINES {
                last.remove(0);
            }
            last.push(line.trim().chars().take(300).collect());
        }
    }
    Seen::Lines { count, last, read, cut: cut || read >= u64::from(MAX_LINES) }
}
