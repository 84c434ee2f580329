//! Timings of a run, for `--timings`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use opsctl_core::model::{printable, quantity};

use crate::engine::Progress;

/// Number of slowest probes shown.
const MAX_PROBES: usize = 8;

/// Records the steps of a run.
#[derive(Debug)]
pub(super) struct Timings {
    started: Instant,
    seen: RefCell<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Start of this run relative to the process, if it is not the first.
    began: Duration,
    /// The steps and their start times.
    steps: Vec<(&'static str, Duration)>,
    /// The probes and the times of their results.
    probes: Vec<(String, Duration)>,
}

impl Default for Timings {
    fn default() -> Self {
        Self { started: Instant::now(), seen: RefCell::default() }
    }
}

impl Timings {
    /// Records a step.
    pub(super) fn record(&self, event: &Progress) {
        self.seen.borrow_mut().take(event, self.started.elapsed());
    }

    /// The table at the end of the run.
    pub(super) fn text(&self) -> String {
        self.seen.borrow().text(self.started.elapsed())
    }
}

impl Seen {
    fn take(&mut self, event: &Progress, at: Duration) {
        // a process that waits for a host runs more than once: the last run counts
        if matches!(event, Progress::Discovering) && !self.steps.is_empty() {
            *self = Self { began: at, ..Self::default() };
        }
        let at = at.saturating_sub(self.began);
        match event {
            Progress::Discovering => self.steps.push(("discovery", at)),
            Progress::Discovered { .. } => self.steps.push((PROBE, at)),
            Progress::Finished { check, target } => self.probes.push((format!("{check} {target}"), at)),
            Progress::Judging => self.steps.push(("evaluation", at)),
            Progress::ReadingChanges => self.steps.push(("recent changes", at)),
            Progress::Storing => self.steps.push(("history", at)),
        }
    }

    fn text(&self, all: Duration) -> String {
        let all = all.saturating_sub(self.began);
        let mut out = String::from("timings\n");
        let mut line = |indent: usize, step: &str, time: Duration, more: &str| {
            // writing to a String cannot fail
            let _ = writeln!(out, "{:indent$}{step:<width$} {:>6} ms{more}", "", time.as_millis(), width = 60 - indent);
        };
        let first = self.steps.first().map_or(all, |(_, at)| *at);
        line(2, "start", first, "");
        let mut slowest = Duration::ZERO;
        for (n, (step, at)) in self.steps.iter().enumerate() {
            let end = self.steps.get(n + 1).map_or(all, |(_, next)| *next);
            if *step != PROBE {
                line(2, step, end.saturating_sub(*at), "");
                continue;
            }
            line(2, &format!("{}, in parallel", quantity::count(self.probes.len(), PROBE)), end.saturating_sub(*at), "");
            // all probes started together, and the slowest result came last
            for (probe, answered) in self.probes.iter().rev().take(MAX_PROBES) {
                let took = answered.saturating_sub(*at);
                slowest = slowest.max(took);
                line(4, &printable(probe), took, "");
            }
        }
        let ratio = all.as_secs_f64() / slowest.as_secs_f64();
        let more = if slowest.is_zero() { String::new() } else { format!(", {ratio:.2} times the slowest probe") };
        line(2, "all", all, &more);
        out.truncate(out.trim_end().len());
        out
    }
}

/// Name of the steps between discovery and evaluation.
const PROBE: &str = "probe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_list_every_step_and_the_slowest_probe_first() {
        let mut seen = Seen::default();
        let mut at = |ms, event| seen.take(&event, Duration::from_millis(ms));
        let finished = |check| Progress::Finished { check, target: "host:web-1".to_owned() };
        at(3, Progress::Discovering);
        at(33, Progress::Discovered { probes: Vec::new() });
        at(40, finished("disk.space"));
        at(283, finished("cpu.load"));
        at(283, Progress::Judging);
        at(285, Progress::Storing);
        insta::assert_snapshot!(seen.text(Duration::from_millis(300)), @r"
        timings
          start                                                           3 ms
          discovery                                                      30 ms
          2 probes, in parallel                                         250 ms
            cpu.load host:web-1                                         250 ms
            disk.space host:web-1                                         7 ms
          evaluation                                                      2 ms
          history                                                        15 ms
          all                                                           300 ms, 1.20 times the slowest probe
        ");
        // a second run on the same host
        seen.take(&Progress::Discovering, Duration::from_secs(5));
        let text = seen.text(Duration::from_millis(5010));
        let last: Vec<&str> = text.lines().last().into_iter().flat_map(str::split_whitespace).collect();
        assert_eq!(last, ["all", "10", "ms"]);
        assert!(!Seen::default().text(Duration::ZERO).contains("times"), "nothing was probed");
    }
}
