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
            (tree.sysctls(io, &[COUNT, MAX]), tree.sysctls_writable(io))
        };
        let (numbers, writable) = blocking::run("connections", "/proc/sys/net/netfilter", READ_TIMEOUT, read).await?;
        let number = |key: &str| numbers.get(key).and_then(|v| v.parse().ok());
        let (Some(count), Some(max)) = (number(COUNT), number(MAX)) else {
            return Err(ProbeError::Skip("connection tracking is not active".to_owned()));
        };
        let mut e = Evidence { count, max, writable, ..Evidence::default() };
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
        let recent = e.full.iter().filter(|at| judged.taken_at.duration_since(**at).as_mins() < RECENT_MIN).count();
        let mut judgement = Judgement { gaps: e.gaps.clone(), ..Judgement::default() };
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
            .key(KeyKind::Host, "host");
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
        let memory = quantity::bytes((new_max - e.max) * BYTES_PER_ENTRY);
        Ok(Plan::new(&RAISE, &SPEC, finding, judged.target, actions)
            .undo(undo)
            .affects([format!("up to {memory} more kernel memory when the table is full")]))
    }
}
