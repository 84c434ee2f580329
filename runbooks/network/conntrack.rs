//! Usage of the connection tracking table.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, FixSpec, Impact, Judged, Judgement, KeyKind, Object, Plan, Refusal, Risk, Role, Severity,
    quantity,
};
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::READ_TIMEOUT;
use crate::shared::sysctl;

const CONNTRACK: Code = Code {
    id: "network.conntrack",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the conntrack table is {conntrack_warn_percent} (warn) or {conntrack_crit_percent} (crit) full, or the kernel dropped packets because it was full in the last 10 min (crit)",
    hint: "find the clients with the most connections: `conntrack -L | awk '{print $4, $5}' | sort | uniq -c | sort -n | tail`; raise the limit meanwhile",
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Host, "the kernel drops packets of new connections")],
    ..Code::BASE
};

const RAISE: FixSpec = FixSpec {
    id: "network.raise-conntrack",
    risk: Risk::R1,
    title: "double the limit of the conntrack table, now and at every boot",
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.conntrack",
    title: "The conntrack table has free entries",
    codes: &[CONNTRACK],
    fixes: &[RAISE],
    timeout: Duration::from_secs(3),
};

const COUNT: &str = "net.netfilter.nf_conntrack_count";
const MAX: &str = "net.netfilter.nf_conntrack_max";

/// Memory of one entry in bytes (`/proc/slabinfo`: `nf_conntrack` 256 to 320, and its extensions).
const BYTES_PER_ENTRY: u64 = 400;

/// Upper bound of the limit set by opsctl: at most 1.6 GiB.
const MAX_LIMIT: u64 = 4 << 20;

/// Facts that findings of this check follow from.
const USAGE_READ: &str = "usage of the table";
const LOG_READ: &str = "kernel log";

/// Maximum age of a reported packet drop.
const RECENT_MIN: i64 = 10;

pub(super) struct Conntrack {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    count: u64,
    max: u64,
    /// Times of the kernel message "table full", the last few.
    full: Vec<jiff::Timestamp>,
    writable: bool,
    /// Time at which opsctl raised the limit: drops before it are over.
    raised_at: Option<jiff::Timestamp>,
    /// Available memory, in bytes.
    available: Option<u64>,
    /// Files that set the limit at boot.
    files: Vec<(String, String)>,
    gaps: Vec<String>,
}

impl Check for Conntrack {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let read = |io: &Io| {
            let tree = Tree::default();
            (tree.sysctls(io, &[COUNT, MAX]), tree.sysctls_writable(io), raised_at(io), tree.sysctl_files(io, MAX))
        };
        let (numbers, writable, raised_at, files) =
            blocking::run("connections", "/proc/sys/net/netfilter", READ_TIMEOUT, read).await?;
        let number = |key: &str| numbers.get(key).and_then(|v| v.parse().ok());
        let (Some(count), Some(max)) = (number(COUNT), number(MAX)) else {
            return Err(ProbeError::Skip("connection tracking is not active".to_owned()));
        };
        let available = cx.watch.memory().await.ok().and_then(|m| m.available);
        let mut e = Evidence { count, max, writable, raised_at, available, files, ..Evidence::default() };
        match cx.kernel_log.lines().await {
            Ok(lines) => {
                // longer than the program name in a line of a user
                let full = |text: &str| text.trim_start_matches("nf_conntrack: ").starts_with("table full, dropping packet");
                let messages = lines.iter().filter(|l| l.text.starts_with("nf_conntrack: ") && full(&l.text));
                e.full = messages.map(|l| l.at).collect();
                e.full.reverse();
                e.full.truncate(3);
            }
            // the usage shows the same, only later
            Err(error) if count * 2 > max => e.gaps.push(error.to_string()),
            Err(_) => {}
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let share = if e.max == 0 { 0.0 } else { e.count as f64 * 100.0 / e.max as f64 };
        let is_recent = |at: &&jiff::Timestamp| {
            judged.taken_at.duration_since(**at).as_mins() < RECENT_MIN && e.raised_at.is_none_or(|raised| **at > raised)
        };
        let recent = e.full.iter().filter(is_recent).count();
        let facts = if e.gaps.is_empty() { vec![USAGE_READ, LOG_READ] } else { vec![USAGE_READ] };
        let facts = facts.into_iter().map(str::to_owned).collect();
        let mut judgement = Judgement { gaps: e.gaps.clone(), facts, ..Judgement::default() };
        let numbers = format!("{} of {} connections ({})", e.count, e.max, quantity::percent(share));
        let (severity, message) = match self.settings.conntrack().exceeded(share) {
            _ if recent > 0 => {
                (Severity::Crit, format!("the kernel dropped packets because the conntrack table was full; now {numbers}"))
            }
            Some((severity, limit)) => {
                (severity, format!("the conntrack table contains {numbers}, limit {}", quantity::percent(limit)))
            }
            None => return judgement,
        };
        let mut f = Finding::new(&CONNTRACK, severity, Object::host(), message)
            .cite("kernel log", e.full.first().map_or_else(String::new, |at| format!("table full, dropping packet, {at:.0}")))
            .key(KeyKind::Host, "host")
            .fact(if recent > 0 { LOG_READ } else { USAGE_READ });
        if e.writable && e.max < MAX_LIMIT {
            f = f.fix(RAISE.id);
        }
        judgement.findings.push(f);
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        if e.max >= MAX_LIMIT || e.max == 0 {
            return Err(Refusal::Precondition(format!("the limit is already {}", e.max)));
        }
        // below the warning limit afterwards, and never more than four times the old limit
        let new_max = e.max.max(e.count).saturating_mul(2).min(e.max.saturating_mul(4)).min(MAX_LIMIT);
        let (actions, undo) = sysctl::set(MAX, &e.max.to_string(), &new_max.to_string());
        let more = (new_max - e.max) * BYTES_PER_ENTRY;
        let memory = quantity::bytes(more);
        if let Some(available) = e.available.filter(|available| more > available / 2) {
            return Err(Refusal::Precondition(format!(
                "a full table would need {memory} more kernel memory, and {} are available: find the clients instead",
                quantity::bytes(available)
            )));
        }
        let recurs = match sysctl::later(&e.files, &new_max.to_string()) {
            Some((file, value)) => format!("{file} sets the limit to {value} at the next boot: change it there"),
            None => "at boot the limit is set only if the module nf_conntrack is loaded before (modules-load.d(5))".to_owned(),
        };
        Ok(Plan::new(&RAISE, &SPEC, finding, judged.target, actions)
            .undo(undo)
            .affects([format!("up to {memory} more kernel memory when the table is full")])
            .recurs(recurs))
    }
}

/// The time at which opsctl wrote the limit to its file.
fn raised_at(io: &Io) -> Option<jiff::Timestamp> {
    let text = io.read_lossy(sysctl::FILE).ok()?;
    let is_set = text.lines().any(|line| line.split('=').next().is_some_and(|key| key.trim() == MAX));
    let written = io.metadata(sysctl::FILE).ok()?.modified().ok()?;
    is_set.then(|| jiff::Timestamp::try_from(written).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(second).unwrap()
    }

    fn judge(e: &Evidence) -> Judgement {
        let target = Object::host();
        let check = Conntrack { settings: Settings::default() };
        check.judge(&Judged { target: &target, taken_at: at(1000) }, e)
    }

    fn plan(e: &Evidence) -> Result<Plan, Refusal> {
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: at(1000) };
        let finding = judge(e).findings.remove(0);
        Conntrack { settings: Settings::default() }.plan(RAISE.id, &finding, &judged, e)
    }

    /// A table of which 95 % are used.
    fn full() -> Evidence {
        Evidence { count: 62_000, max: 65_536, writable: true, available: Some(8 << 30), ..Evidence::default() }
    }

    #[test]
    fn limit_of_a_full_table_is_doubled() {
        let found = plan(&full()).unwrap();
        assert!(found.recurs.is_some_and(|why| why.contains("nf_conntrack is loaded before")));
        let files = vec![("/etc/sysctl.d/99-site.conf".to_owned(), "65536".to_owned())];
        let found = plan(&Evidence { files, ..full() }).unwrap();
        assert!(found.recurs.is_some_and(|why| why.contains("/etc/sysctl.d/99-site.conf sets the limit to 65536")));
    }

    #[test]
    fn limit_beyond_the_memory_is_refused() {
        let refused = plan(&Evidence { available: Some(30 << 20), ..full() }).unwrap_err().to_string();
        assert!(refused.contains("more kernel memory, and 30 MiB are available"), "{refused}");
        assert!(plan(&Evidence { count: 4 << 20, max: MAX_LIMIT, ..full() }).is_err());
    }

    #[test]
    fn drops_before_the_limit_was_raised_are_over() {
        let dropped = Evidence { count: 100, full: vec![at(900)], ..full() };
        assert_eq!(judge(&dropped).findings.len(), 1);
        assert!(judge(&Evidence { raised_at: Some(at(950)), ..dropped.clone() }).findings.is_empty());
        assert_eq!(judge(&Evidence { raised_at: Some(at(800)), ..dropped }).findings.len(), 1);
    }
}
