//! Memory pressure and swap. A full swap or a full page cache alone is harmless.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Object, Role, Severity,
    quantity::{bytes, percent},
};
use opsctl_core::probe::kernel::tasks::Consumer;
use opsctl_core::probe::kernel::{self, Memory, Paging};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::processes::{Names, of_host};

const PRESSURE: Code = Code {
    id: "memory.pressure",
    severities: &[Severity::Warn, Severity::Crit],
    when: "tasks waited for memory {waiting_warn_percent} of the last minute (warn); all tasks did {stalled_crit_percent_10s} of the last 10 s or {stalled_crit_percent_60s} of the last minute (crit)",
    hint: "stop or limit the process that grew before the OOM killer selects a victim",
    impacts: &[Impact::likely(Role::Starved, KeyKind::Host, "all processes wait for memory")],
    ..Code::BASE
};
const SWAP: Code = Code {
    id: "memory.swap",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "there is no swap (info); {swap_warn_percent} (warn) or {swap_crit_percent} (crit) of it are used while 250 pages per second are swapped or tasks wait for memory",
    hint: "a full swap without paging is harmless; paging means that memory is short",
    ..Code::BASE
};
const THRASH: Code = Code {
    id: "memory.swap-thrash",
    severities: &[Severity::Warn],
    when: "over {swap_in_pages} pages per second are read from swap, and as many page faults wait for a disk",
    hint: "the working set does not fit into memory: stop or limit a process",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "memory.pressure",
    title: "Tasks do not wait for memory",
    codes: &[PRESSURE, SWAP, THRASH],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// Share of the last minute in percent in which tasks waited above which swap counts as in use (judgement).
const SWAP_IN_USE_PERCENT: f64 = 5.0;

pub(super) struct Pressure {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// `None` where the kernel does not measure it.
    pressure: Option<kernel::Pressure>,
    memory: Memory,
    first: Paging,
    later: Paging,
    window_ms: u64,
    largest: Vec<Consumer>,
    containers: Names,
}

impl Check for Pressure {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let activity = cx.watch.activity().await?;
        Ok(Evidence {
            pressure: activity.later.pressure.memory,
            memory: cx.watch.memory().await?,
            first: activity.first.paging,
            later: activity.later.paging,
            window_ms: activity.window_ms,
            largest: activity.largest.clone(),
            containers: Names::of(activity.largest.iter().map(|c| &c.home), &cx.inventory),
        })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings: Vec<Finding> =
            [self.pressure(e), self.swap(e), self.thrash(e)].into_iter().flatten().map(of_host).collect();
        findings.into()
    }
}

impl Pressure {
    fn pressure(&self, e: &Evidence) -> Option<Finding> {
        let s = &self.settings;
        let p = e.pressure?;
        let full = p.full.unwrap_or_default();
        let (severity, message) = if full.avg10 >= s.stalled_crit_percent_10s {
            let limit = percent(s.stalled_crit_percent_10s);
            (Severity::Crit, format!("all tasks waited for memory {} of the last 10 s, limit {limit}", percent(full.avg10)))
        } else if full.avg60 >= s.stalled_crit_percent_60s {
            let limit = percent(s.stalled_crit_percent_60s);
            (Severity::Crit, format!("all tasks waited for memory {} of the last minute, limit {limit}", percent(full.avg60)))
        } else if p.some.avg60 >= s.waiting_warn_percent {
            let limit = percent(s.waiting_warn_percent);
            (Severity::Warn, format!("tasks waited for memory {} of the last minute, limit {limit}", percent(p.some.avg60)))
        } else {
            return None;
        };
        let finding = Finding::new(&PRESSURE, severity, Object::host(), message);
        Some(finding.cite("largest processes", e.containers.by_memory(&e.largest)))
    }

    fn swap(&self, e: &Evidence) -> Option<Finding> {
        let total = e.memory.swap_total;
        if e.memory.is_unread("SwapTotal") || e.memory.is_unread("SwapFree") {
            return None;
        }
        if total == 0 {
            let message = "there is no swap: when memory runs out the OOM killer runs at once";
            return Some(Finding::new(&SWAP, Severity::Info, Object::host(), message));
        }
        let used = total.saturating_sub(e.memory.swap_free);
        let share = used as f64 * 100.0 / total as f64;
        let moved = e
            .later
            .swapped_in
            .saturating_sub(e.first.swapped_in)
            .saturating_add(e.later.swapped_out.saturating_sub(e.first.swapped_out));
        let waited = e.pressure.map_or(0.0, |p| p.some.avg60);
        // single pages are normal: swap counts as in use at half the rate of thrashing
        let rate = moved as f64 * 1000.0 / e.window_ms.max(1) as f64;
        if rate <= self.settings.swap_in_pages / 2.0 && waited <= SWAP_IN_USE_PERCENT {
            return None;
        }
        let (severity, limit) = self.settings.swap().exceeded(share)?;
        let message = format!(
            "{} of {} swap is used, with paging, {}, limit {}",
            bytes(used),
            bytes(total),
            percent(share),
            percent(limit)
        );
        let finding = Finding::new(&SWAP, severity, Object::host(), message);
        Some(
            finding.cite("pages moved in the window", moved.to_string()).cite("tasks waited in the last minute", percent(waited)),
        )
    }

    fn thrash(&self, e: &Evidence) -> Option<Finding> {
        let seconds = e.window_ms.max(1) as f64 / 1000.0;
        let came_back = e.later.swapped_in.saturating_sub(e.first.swapped_in) as f64 / seconds;
        let faults = e.later.major_faults.saturating_sub(e.first.major_faults) as f64 / seconds;
        let limit = self.settings.swap_in_pages;
        (came_back > limit && faults > limit).then(|| {
            let message = format!("{came_back:.0} pages per second are read from swap, limit {limit:.0}");
            let finding = Finding::new(&THRASH, Severity::Warn, Object::host(), message);
            finding.cite("major page faults", format!("{faults:.0} per second"))
        })
    }
}
