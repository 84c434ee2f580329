//! OOM kills because the whole host was out of memory. Kills at the limit of a container belong to the container runbook.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Object, Role, Sample, Severity,
    quantity::{ago, bytes, count},
};
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::kernel::kmsg::OomKill;
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::shared::processes::{Names, at_home, of_host};

const OOM_KILL: Code = Code {
    id: "memory.oom-kill",
    severities: &[Severity::Info, Severity::Crit],
    when: "the kernel killed a process in the last 24 h because the host was out of memory (crit); the counter of OOM kills grew and the kernel log no longer has the entries (info)",
    hint: "the victim is often not the cause: find the process that grew, and set memory limits on containers so that one cannot use all memory",
    impacts: &[
        Impact::likely(Role::Down, KeyKind::Container, "processes were killed because the host was out of memory"),
        Impact::likely(Role::Down, KeyKind::Unit, "processes were killed because the host was out of memory"),
    ],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "memory.oom",
    title: "The host has not run out of memory",
    codes: &[OOM_KILL],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

/// Older kills are not reported (judgement: 24 h; netdata health.d/ram.conf: 30 min).
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct Oom;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// All kills in the kernel log, including those at a limit.
    kills: Vec<OomKill>,
    containers: Names,
    /// Kills since boot, of both kinds.
    counter: Option<u64>,
    /// The counter at the oldest run of opsctl in this boot and the last 24 h.
    before: Option<Sample>,
    boot_id: String,
    /// Why the kernel log could not be read.
    gap: Option<String>,
}

impl Check for Oom {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let boot_id = host::read_info().await.boot_id;
        let mut e = Evidence {
            counter: cx.watch.now().await?.paging.oom_kills,
            before: cx.history.oldest(&object(&boot_id), "oom_kills", MAX_AGE.as_secs()),
            boot_id,
            ..Evidence::default()
        };
        match cx.kernel_log.oom_kills().await {
            Ok(kills) => e.kills.clone_from(&kills),
            Err(ProbeError::Skip(why)) => return Err(ProbeError::Skip(why)),
            Err(why) => e.gap = Some(why.to_string()),
        }
        let homes: Vec<Home> = e.kills.iter().map(|k| Home::of_path(&k.victim_cgroup)).collect();
        e.containers = Names::of(homes.iter(), &cx.inventory);
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let recent = |k: &&OomKill| judged.taken_at.duration_since(k.at) < MAX_AGE;
        let kills: Vec<&OomKill> = e.kills.iter().filter(recent).filter(|k| k.limited_by.is_none()).collect();
        let finding = killed(judged, e, &kills).or_else(|| dropped_entries(e, e.kills.iter().filter(recent).count()));
        let samples = e.counter.map(|n| Sample {
            object: object(&e.boot_id),
            metric: "oom_kills".to_owned(),
            at: judged.taken_at,
            value: n as f64,
        });
        Judgement {
            findings: finding.into_iter().collect(),
            gaps: e.gap.iter().cloned().collect(),
            samples: samples.into_iter().collect(),
            ..Judgement::default()
        }
    }
}

/// The counter restarts at zero with every boot.
fn object(boot_id: &str) -> String {
    format!("host@{boot_id}")
}

fn killed(judged: &Judged<'_>, e: &Evidence, kills: &[&OomKill]) -> Option<Finding> {
    let last = kills.iter().max_by_key(|k| k.at)?;
    let name = |k: &OomKill| {
        let pid = i32::try_from(k.pid).unwrap_or(0);
        e.containers.process(&k.task, pid, &Home::of_path(&k.victim_cgroup))
    };
    let rss = last.anon_rss_kib.map(|kib| format!(", RSS {}", bytes(kib.saturating_mul(1024)))).unwrap_or_default();
    let message = format!("the host ran out of memory {}: the kernel killed {}{rss}", ago(judged.taken_at, last.at), name(last));
    let mut finding = of_host(Finding::new(&OOM_KILL, Severity::Crit, Object::host(), message))
        .since(kills.iter().map(|k| k.at).min())
        .cite("kernel log", format!("{:.0} {}", last.at, last.line))
        .cite_opt("triggered by an allocation of", last.invoked_by.as_deref())
        .cite_opt("its oom_score_adj", last.score_adj.map(|n| n.to_string()));
    if kills.len() > 1 {
        let all: Vec<String> = kills.iter().map(|k| name(k)).collect();
        finding = finding.cite(count(kills.len(), "kill"), all.join(", "));
    }
    let mut homes: Vec<Home> = kills.iter().map(|k| Home::of_path(&k.victim_cgroup)).collect();
    homes.dedup();
    Some(homes.iter().fold(finding, at_home))
}

/// The log is a ring buffer: the counter still includes kills it has dropped, but not whether a limit was reached.
fn dropped_entries(e: &Evidence, in_log: usize) -> Option<Finding> {
    let before = e.before.as_ref()?;
    let grown = e.counter? as f64 - before.value;
    let lost = grown - in_log as f64;
    (lost >= 1.0 && e.gap.is_none()).then(|| {
        let message = format!(
            "the kernel killed {lost:.0} processes for memory since {:.0} that are no longer in its log; the host or a cgroup limit was out of memory",
            before.at
        );
        // most of them were at the limit of a container and are reported for that container
        of_host(Finding::new(&OOM_KILL, Severity::Info, Object::host(), message)).likely()
    })
}
