//! What the time of a run went into, for `--timings`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use opsctl_core::model::{printable, quantity};

use crate::engine::Progress;

/// Probes shown: what is fast is of no interest.
const SLOWEST: usize = 8;

/// Watches a run.
#[derive(Debug)]
pub(super) struct Timings {
    started: Instant,
    seen: RefCell<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How long after the start this look began, when it is not the first.
    began: Duration,
    /// What is going on, and since when.
    steps: Vec<(&'static str, Duration)>,
    /// What was probed, and how long after the start it had answered.
    probes: Vec<(String, Duration)>,
}

impl Default for Timings {
    fn default() -> Self {
        Self { started: Instant::now(), seen: RefCell::default() }
    }
}

impl Timings {
    /// Takes down a step.
    pub(super) fn see(&self, event: &Progress) {
        self.seen.borrow_mut().take(event, self.started.elapsed());
    }

    /// The table, now that the run is over.
    pub(super) fn text(&self) -> String {
        self.seen.borrow().text(self.started.elapsed())
    }
}

impl Seen {
    fn take(&mut self, event: &Progress, at: Duration) {
        // who waits for a host looks more than once: the last time counts
        if matches!(event, Progress::Discovering) && !self.steps.is_empty() {
            *self = Self { began: at, ..Self::default() };
        }
        let at = at.saturating_sub(self.began);
        match event {
            Progress::Discovering => self.steps.push(("look what is there", at)),
            Progress::Discovered { .. } => self.steps.push((PROBE, at)),
            Progress::Finished { check, target } => self.probes.push((format!("{check} {target}"), at)),
            Progress::Judging => self.steps.push(("judge", at)),
            Progress::LookingBack => self.steps.push(("look what was changed before", at)),
            Progress::Remembering => self.steps.push(("remember", at)),
        }
    }

    fn text(&self, all: Duration) -> String {
        let all = all.saturating_sub(self.began);
        let mut out = String::from("what the time went into\n");
        let mut line = |indent: usize, what: &str, time: Duration, more: &str| {
            // writing to a String cannot fail
            let _ = writeln!(out, "{:indent$}{what:<width$} {:>6} ms{more}", "", time.as_millis(), width = 60 - indent);
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
            line(2, &format!("{}, side by side", quantity::count(self.probes.len(), PROBE)), end.saturating_sub(*at), "");
            // all of them began together, and the slowest answered last
            for (probe, answered) in self.probes.iter().rev().take(SLOWEST) {
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

/// What the steps between discovery and judgement are called.
const PROBE: &str = "probe";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_share_and_the_slowest_probe_stands_first() {
        let mut seen = Seen::default();
        let mut at = |ms, event| seen.take(&event, Duration::from_millis(ms));
        let finished = |check| Progress::Finished { check, target: "host:web-1".to_owned() };
        at(3, Progress::Discovering);
        at(33, Progress::Discovered { probes: Vec::new() });
        at(40, finished("disk.space"));
        at(283, finished("cpu.load"));
        at(283, Progress::Judging);
        at(285, Progress::Remembering);
        insta::assert_snapshot!(seen.text(Duration::from_millis(300)), @r"
        what the time went into
          start                                                           3 ms
          look what is there                                             30 ms
          2 probes, side by side                                        250 ms
            cpu.load host:web-1                                         250 ms
            disk.space host:web-1                                         7 ms
          judge                                                           2 ms
          remember                                                       15 ms
          all                                                           300 ms, 1.20 times the slowest probe
        ");
        // a second look at the same host
        seen.take(&Progress::Discovering, Duration::from_secs(5));
        let text = seen.text(Duration::from_millis(5010));
        let last: Vec<&str> = text.lines().last().into_iter().flat_map(str::split_whitespace).collect();
        assert_eq!(last, ["all", "10", "ms"]);
        assert!(!Seen::default().text(Duration::ZERO).contains("times"), "nothing was probed");
    }
}
