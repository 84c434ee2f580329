//! Available memory and the users of the rest.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Judged, Judgement, Measure, Object, Severity, Unit,
    quantity::{bytes, percent},
};
use opsctl_core::probe::kernel::Memory;
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::kernel::tasks::Consumer;
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::processes::{Names, at_home, of_host};
use crate::shared::servers::READ_TIMEOUT;

const AVAILABLE: Code = Code {
    id: "memory.available",
    severities: &[Severity::Warn, Severity::Crit],
    when: "less than {available_warn_percent} (warn) or {available_crit_percent} (crit) of the memory is available to programs without swapping",
    hint: "find the process that grew; the OOM killer runs when no memory is left",
    ..Code::BASE
};
const OVERCOMMIT: Code = Code {
    id: "memory.overcommit",
    severities: &[Severity::Crit],
    when: "vm.overcommit_memory is 2 and {committed_crit_percent} of the commit limit is committed: processes fail to start although memory is free",
    hint: "raise vm.overcommit_ratio, add swap, or set vm.overcommit_memory to 0",
    ..Code::BASE
};
const SLAB: Code = Code {
    id: "memory.slab",
    severities: &[Severity::Warn],
    when: "unreclaimable kernel objects use {slab_warn_percent} of the memory",
    hint: "`slabtop -o -s c` lists them: often a leak in a driver, or millions of cgroups or sockets",
    ..Code::BASE
};
const SHM: Code = Code {
    id: "memory.shm",
    severities: &[Severity::Warn],
    when: "tmpfs and shared memory use {shmem_warn_percent} of the memory",
    hint: "check `df -h -t tmpfs` and `ipcs -m`: files in memory are not reclaimed",
    ..Code::BASE
};
const HARDWARE: Code = Code {
    id: "memory.hw",
    severities: &[Severity::Crit],
    when: "the hardware reports defective memory",
    hint: "replace the memory module; move the workloads to another machine first",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "memory.usage",
    title: "Memory is available",
    codes: &[AVAILABLE, OVERCOMMIT, SLAB, SHM, HARDWARE],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

pub(super) struct Usage {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    memory: Memory,
    largest: Vec<Consumer>,
    containers: Names,
    /// Errors that the memory controller could not correct (EDAC), since boot.
    uncorrected: u64,
}

impl Check for Usage {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let memory = cx.watch.memory().await?;
        let uncorrected =
            blocking::run("memory errors", "/sys/devices/system/edac", READ_TIMEOUT, host::uncorrected_memory_errors);
        let mut e = Evidence { memory, uncorrected: uncorrected.await?, ..Evidence::default() };
        if self.available(&e).is_some() || self.overcommit(&e).is_some() {
            e.largest.clone_from(&cx.watch.activity().await?.largest);
            e.containers = Names::of(e.largest.iter().map(|c| &c.home), &cx.inventory);
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.memory.total == 0 {
            let total = "the kernel does not report the total memory".to_owned();
            return Judgement { gaps: vec![e.memory.gap().unwrap_or(total)], ..Judgement::default() };
        }
        let findings = [self.available(e), self.overcommit(e), self.slab(e), self.shm(e), hardware(e)];
        let findings = findings.into_iter().flatten().map(of_host).collect();
        let mut gaps: Vec<String> = e.memory.gap().into_iter().collect();
        if e.memory.available.is_none() && !e.memory.is_unread("MemAvailable") {
            gaps.push("the kernel does not report the available memory (older than 3.14)".to_owned());
        }
        let m = &e.memory;
        let free = m.available.map(|a| share(a.saturating_add(m.zfs_cache).min(m.total), m.total));
        let limits = self.settings.available();
        let measure = |free| Measure::new(judged.target, "memory_available", Unit::Percent, free).within(limits);
        Judgement { findings, gaps, measures: free.map(measure).into_iter().collect(), ..Judgement::default() }
    }
}

impl Usage {
    fn available(&self, e: &Evidence) -> Option<Finding> {
        let m = &e.memory;
        // the ZFS cache shrinks on demand, but the kernel does not count it as available
        let available = m.available?.saturating_add(m.zfs_cache).min(m.total);
        let share = share(available, m.total);
        let (severity, limit) = self.settings.available().exceeded(share)?;
        let message = format!(
            "{} of {} memory is available, {}, limit {}",
            bytes(available),
            bytes(m.total),
            percent(share),
            percent(limit)
        );
        let large = |n: u64| (n > m.total / 10).then(|| bytes(n));
        let mut finding = Finding::new(&AVAILABLE, severity, Object::host(), message)
            .cite("largest processes", e.containers.by_memory(&e.largest))
            .cite_opt("tmpfs and shared memory", m.shmem.and_then(large))
            .cite_opt("kernel objects", m.slab_unreclaimable.and_then(large))
            .cite_opt("reserved for huge pages", large(m.huge_pages));
        // a process with a third of the memory is the place to start
        if let Some(top) = e.largest.first().filter(|c| c.rss > m.total / 3) {
            finding = at_home(finding, &top.home);
        }
        Some(finding)
    }

    fn overcommit(&self, e: &Evidence) -> Option<Finding> {
        let m = &e.memory;
        let limit = m.commit_limit.filter(|l| *l > 0 && m.overcommit_mode == Some(2))?;
        let promised = share(m.committed, limit);
        (promised > self.settings.committed_crit_percent).then(|| {
            let message = format!(
                "{} of the {} commit limit is committed, {}, limit {}",
                bytes(m.committed),
                bytes(limit),
                percent(promised),
                percent(self.settings.committed_crit_percent)
            );
            Finding::new(&OVERCOMMIT, Severity::Crit, Object::host(), message)
                .cite("largest processes", e.containers.by_memory(&e.largest))
        })
    }

    fn slab(&self, e: &Evidence) -> Option<Finding> {
        let held = e.memory.slab_unreclaimable?;
        Self::holds(held, e.memory.total, self.settings.slab_warn_percent, &SLAB, "unreclaimable kernel objects use")
    }

    fn shm(&self, e: &Evidence) -> Option<Finding> {
        let held = e.memory.shmem?;
        Self::holds(held, e.memory.total, self.settings.shmem_warn_percent, &SHM, "tmpfs and shared memory use")
    }

    fn holds(held: u64, total: u64, limit: f64, code: &'static Code, holder: &str) -> Option<Finding> {
        let part = share(held, total);
        (part > limit).then(|| {
            let message =
                format!("{holder} {} of {} memory, {}, limit {}", bytes(held), bytes(total), percent(part), percent(limit));
            Finding::new(code, Severity::Warn, Object::host(), message)
        })
    }
}

fn hardware(e: &Evidence) -> Option<Finding> {
    let corrupted = e.memory.corrupted.unwrap_or(0);
    if corrupted == 0 && e.uncorrected == 0 {
        return None;
    }
    let message = if corrupted > 0 {
        format!("the hardware found {} of memory broken", bytes(corrupted))
    } else {
        format!("the memory controller could not correct {} errors since boot", e.uncorrected)
    };
    Some(Finding::new(&HARDWARE, Severity::Crit, Object::host(), message))
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}
