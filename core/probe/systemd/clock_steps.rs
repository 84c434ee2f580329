//! Steps of the wall clock in the last day, from the log lines of time services and of systemd.
//!
//! systemd logs each change of the clock without its size, also after a suspend; the size follows from the two clocks of the
//! journal. chronyd (`reference.c`, `sys_generic.c`) and ntpd (`ntp_loopfilter.c`) log the size.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::{JournalLine, Since, journal_with_monotonic};
use crate::probe::ProbeError;
use crate::probe::io::clock;

/// `SD_MESSAGE_TIME_CHANGE` and `SD_MESSAGE_SLEEP_STOP` (sd-messages.h), and the units of time services that log steps.
const MATCHES: &[&str] = &[
    "_SYSTEMD_UNIT=chrony.service",
    "+",
    "_SYSTEMD_UNIT=chronyd.service",
    "+",
    "_SYSTEMD_UNIT=ntpsec.service",
    "+",
    "_SYSTEMD_UNIT=ntpd.service",
    "+",
    "_SYSTEMD_UNIT=ntp.service",
    "+",
    "MESSAGE_ID=8811e6df2a8e40f58a94cea26f8ebf14",
    "+",
    "MESSAGE_ID=c7a787079b354eaaa9e77b371893cd27",
    "_PID=1",
];

/// Minutes of the journal that are searched.
const SEARCHED_MIN: u16 = 24 * 60;

/// Lines that are read: chronyd logs a few a day.
const MAX_LINES: usize = 200;

/// Changes with a size to be computed, each with a query of its own (judgement).
const MAX_COMPUTED: usize = 2;

/// Seconds between lines about one change.
const SAME_CHANGE_S: f64 = 5.0;

/// A change of the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClockStep {
    /// The time after the change.
    pub at: Timestamp,
    /// Seconds, positive forward; `None` if it is not known.
    pub by_s: Option<f64>,
    /// Seconds since boot, without suspend.
    pub since_boot_s: f64,
    /// The line that reports it.
    pub line: String,
    /// The system resumed from a suspend at that time.
    pub resumed: bool,
}

/// The steps of the last day in this boot, oldest first.
pub async fn clock_steps() -> Result<Vec<ClockStep>, ProbeError> {
    let boot_monotonic_s = clock::monotonic().as_secs_f64();
    let lines = journal_with_monotonic(MATCHES, Since::Minutes(SEARCHED_MIN), MAX_LINES).await?;
    let mut steps = steps(&of_this_boot(lines, boot_monotonic_s));
    let unknown = steps.iter_mut().rev().filter(|s| s.by_s.is_none() && !s.resumed).take(MAX_COMPUTED);
    for step in unknown {
        // any line of systemd before it, in the same boot
        let before = step.at.checked_sub(jiff::SignedDuration::from_secs(1)).unwrap_or(step.at);
        let lines = journal_with_monotonic(&["_PID=1"], Since::Between(Timestamp::UNIX_EPOCH, before), 1).await?;
        step.by_s = lines.last().and_then(|(line, monotonic)| size(step, line, *monotonic));
    }
    Ok(steps)
}

/// The size of a change, from a line before it in the same boot. Between both, the wall clock advanced as much as the other one.
fn size(step: &ClockStep, before: &JournalLine, monotonic_us: u64) -> Option<f64> {
    let passed = step.since_boot_s - monotonic_us as f64 / 1e6;
    (passed >= 0.0).then(|| step.at.duration_since(before.at).as_secs_f64() - passed)
}

/// The lines of this boot, which are the last ones with an increasing time since boot.
fn of_this_boot(lines: Vec<(JournalLine, u64)>, boot_monotonic_s: f64) -> Vec<(JournalLine, u64)> {
    let restart = lines.windows(2).rposition(|pair| pair[1].1 < pair[0].1).map_or(0, |at| at + 1);
    let now_us = boot_monotonic_s * 1e6;
    lines.into_iter().skip(restart).filter(|(_, monotonic)| *monotonic as f64 <= now_us).collect()
}

fn steps(lines: &[(JournalLine, u64)]) -> Vec<ClockStep> {
    let resumes: Vec<f64> = lines.iter().filter(|(l, _)| is_resume(&l.text)).map(|(_, us)| *us as f64 / 1e6).collect();
    let mut found: Vec<ClockStep> = Vec::new();
    for (line, monotonic) in lines {
        let since_boot_s = *monotonic as f64 / 1e6;
        let by_s = stepped_by(&line.text);
        if by_s.is_none() && !is_change(line) {
            continue;
        }
        let after_suspend = resumes.iter().any(|at| (at - since_boot_s).abs() < SAME_CHANGE_S);
        let step = ClockStep { at: line.at, by_s, since_boot_s, line: line.text.clone(), resumed: after_suspend };
        // chronyd and systemd report the same change
        match found.last_mut().filter(|last| since_boot_s - last.since_boot_s < SAME_CHANGE_S) {
            Some(last) if last.by_s.is_none() => *last = step,
            Some(_) if by_s.is_none() => {}
            _ => found.push(step),
        }
    }
    found
}

fn is_change(line: &JournalLine) -> bool {
    line.by_systemd && line.text.contains("Time has been changed")
}

/// `System returned from sleep state.`, `System returned from sleep operation 'suspend'.`
fn is_resume(text: &str) -> bool {
    text.contains("returned from sleep")
}

/// `System clock was stepped by -3600.123456 seconds`, `CLOCK: time stepped by 1.250000`, `time reset +1.250000 s`.
fn stepped_by(text: &str) -> Option<f64> {
    let after = ["clock was stepped by ", "time stepped by ", "time reset "].iter().find_map(|words| text.split_once(words))?.1;
    after.split_whitespace().next()?.trim_start_matches('+').parse().ok().filter(|by: &f64| by.is_finite())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn line(second: i64, text: &str) -> JournalLine {
        JournalLine { at: Timestamp::from_second(second).unwrap(), text: text.into(), by_systemd: text.starts_with("Time has") }
    }

    const CHANGED: &str = "Time has been changed";

    #[test]
    fn sizes_in_log_lines() {
        assert_eq!(stepped_by("System clock was stepped by -3600.25 seconds"), Some(-3600.25));
        assert_eq!(stepped_by("CLOCK: time stepped by 1.250000"), Some(1.25));
        assert_eq!(stepped_by("time reset +0.512345 s"), Some(0.512_345));
        for other in ["System clock wrong by 0.5 seconds", "Selected source 10.0.0.1", CHANGED, "time reset", "time stepped by x"]
        {
            assert_eq!(stepped_by(other), None, "{other}");
        }
    }

    #[test]
    fn lines_about_one_change_are_one_step() {
        let stepped = "System clock was stepped by 42.5 seconds";
        let both = [(line(1000, stepped), 5_000_000), (line(1000, CHANGED), 5_100_000), (line(2000, CHANGED), 900_000_000)];
        let found = steps(&both);
        assert_eq!(found.iter().map(|s| s.by_s).collect::<Vec<_>>(), [Some(42.5), None]);
        assert_eq!(steps(&[(line(1000, CHANGED), 5_000_000), (line(1000, stepped), 5_100_000)])[0].by_s, Some(42.5));
        assert!(steps(&[(line(1000, "Selected source 10.0.0.1"), 1)]).is_empty());
    }

    #[test]
    fn resume_from_suspend_is_marked() {
        let resumed = [(line(1000, "System returned from sleep state."), 5_000_000), (line(1000, CHANGED), 5_100_000)];
        assert!(steps(&resumed)[0].resumed && !steps(&[(line(1000, CHANGED), 5_000_000)])[0].resumed);
    }

    #[test]
    fn size_from_the_clocks_of_the_journal() {
        let step = &steps(&[(line(5000, CHANGED), 100_000_000)])[0];
        // 40 s passed, the clock advanced by 3640 s
        assert_eq!(size(step, &line(1360, "Started x"), 60_000_000), Some(3600.0));
        assert_eq!(size(step, &line(8560, "Started x"), 60_000_000), Some(-3600.0));
        assert_eq!(size(step, &line(4000, "Started x"), 900_000_000), None, "an earlier boot");
    }

    #[test]
    fn lines_of_earlier_boots_are_left_out() {
        let lines = vec![(line(10, CHANGED), 900_000_000), (line(500, CHANGED), 3_000_000), (line(600, CHANGED), 103_000_000)];
        assert_eq!(of_this_boot(lines, 200.0).len(), 2);
        assert!(of_this_boot(vec![(line(10, CHANGED), 900_000_000)], 200.0).is_empty());
    }
}
