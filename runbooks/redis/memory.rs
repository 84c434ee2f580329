//! Memory use, evictions, fragmentation and the risk of a failed fork.

use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Measure, Object, Plan,
    Product, Refusal, Risk, Role, Sample, Severity, Unit, grown,
    quantity::{bytes, count_of, percent},
};
use opsctl_core::probe::kernel::cgroup::Cgroups;
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::{Info, session};
use crate::shared::broker_keys::{self, BrokerKeys};
use crate::shared::servers::{READ_TIMEOUT, Server};

const MEMORY: Code = Code {
    id: "redis.memory",
    severities: &[Severity::Warn, Severity::Crit],
    when: "{maxmemory_warn_percent} of maxmemory are used (warn), {maxmemory_crit_percent}, or writes were rejected because of it since the last run (crit); without maxmemory, {unlimited_warn_percent} (warn) or {unlimited_crit_percent} (crit) of the memory of its container or the host",
    hint: "find the keys that grew (`redis-cli --bigkeys`); set an expiry, raise maxmemory within the container's limit, or raise that limit",
    impacts: &[Impact::confirmed(Role::RejectsWrites, KeyKind::Writes, "cache rejects writes")],
    ..Code::BASE
};
const EVICTIONS: Code = Code {
    id: "redis.evictions",
    severities: &[Severity::Info, Severity::Warn],
    when: "the server evicts keys: info for a cache, warn if it is a task broker and its policy may evict any key",
    hint: "for a cache check the hit rate; a broker must never evict: set maxmemory-policy noeviction",
    ..Code::BASE
};
const BROKER_POLICY: Code = Code {
    id: "redis.broker-policy",
    severities: &[Severity::Warn],
    when: "the server is a task broker, has a maxmemory, and its policy evicts keys once that is reached",
    hint: "set maxmemory-policy noeviction: volatile-* evicts bindings and locks, allkeys-* the tasks themselves",
    ..Code::BASE
};
const FRAG: Code = Code {
    id: "redis.frag",
    severities: &[Severity::Warn],
    when: "RSS is over 1.5 times the used memory and over 512 MB larger, or smaller than the used memory: the server is swapped out",
    hint: "set activedefrag yes if its allocator supports it; a restart after a save releases the memory",
    ..Code::BASE
};
const FORK_RISK: Code = Code {
    id: "redis.fork-risk",
    severities: &[Severity::Info, Severity::Warn],
    when: "vm.overcommit_memory is 0 and RSS is over half of the available memory: the fork for the next snapshot may fail (warn); transparent huge pages are set to always (info)",
    hint: "set vm.overcommit_memory = 1, as Redis recommends in its log at startup",
    ..Code::BASE
};

const MAXMEMORY: FixSpec = FixSpec {
    id: "redis.maxmemory",
    risk: Risk::R1,
    title: "set maxmemory to 75 % of the container's limit, so that the OOM killer does not kill the server",
};

static SPEC: CheckSpec = CheckSpec {
    id: "redis.memory",
    title: "Redis memory is within limits",
    codes: &[MEMORY, EVICTIONS, BROKER_POLICY, FRAG, FORK_RISK],
    fixes: &[MAXMEMORY],
    timeout: Duration::from_secs(8),
};

const KEYS: &[&str] = &[
    "used_memory",
    "used_memory_rss",
    "maxmemory",
    "maxmemory_policy",
    "mem_fragmentation_ratio",
    "mem_not_counted_for_evict",
    "evicted_keys",
    "errorstat_OOM",
    "uptime_in_seconds",
    "dragonfly_version",
    "role",
];

/// Period over which counters are compared, in seconds.
const COUNTER_PERIOD_S: i64 = 3600;

/// Fragmentation below this is ignored, in bytes (judgement; Redis 7.0 with 12 MB has a ratio of 1.56).
const MIN_FRAG_BYTES: u64 = 512 << 20;

pub(super) struct Memory {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    info: Info,
    /// Memory limit of its container or unit, in bytes.
    limit: Option<u64>,
    /// `MemTotal` and `MemAvailable`, in bytes.
    total: Option<u64>,
    available: Option<u64>,
    /// Counters of the oldest run within an hour, of the same server process.
    before_evicted: Option<Sample>,
    before_refused: Option<Sample>,
    broker: BrokerKeys,
    overcommit: Option<String>,
    huge_pages: Option<String>,
}

impl Check for Memory {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let info = Info::of(&session, KEYS).await?;
        let memory = cx.watch.memory().await.ok();
        let process = server.get().and_then(|s| s.process);
        let read = move |io: &Io| {
            let group = process.and_then(|p| Cgroups::default().group_of(io, i64::from(p.pid)).ok());
            let tree = Tree::default();
            let overcommit = tree.sysctls(io, &["vm.overcommit_memory"]).remove("vm.overcommit_memory");
            (group.and_then(|g| g.usage(io).memory_limit), overcommit, tree.huge_pages(io))
        };
        let (limit, overcommit, huge_pages) = blocking::run("memory of this host", "/proc", READ_TIMEOUT, read).await?;
        let object = server.object(target);
        let mut e = Evidence {
            info,
            // the memory of a remote server is not known here
            limit: limit.filter(|_| process.is_some()),
            total: process.and(memory.as_ref().map(|m| m.total)),
            available: process.and(memory.as_ref().and_then(|m| m.available)),
            before_evicted: cx.history.oldest(&object, "evicted_keys", COUNTER_PERIOD_S),
            before_refused: cx.history.oldest(&object, "refused_for_memory", COUNTER_PERIOD_S),
            overcommit: process.and(overcommit),
            huge_pages: process.and(huge_pages),
            server,
            ..Evidence::default()
        };
        // without a limit nothing is evicted, regardless of the policy; a limit may be set by the fix
        let limited = e.info.number("maxmemory").is_some_and(|m| m > 0) || e.limit.is_some();
        if limited && !e.info.is("maxmemory_policy", "noeviction") {
            e.broker = broker_keys::find(&session).await.unwrap_or_default();
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings =
            [self.usage(judged, e), evictions(judged, e), broker_policy(judged, e), frag(judged, e), fork_risk(judged, e)];
        let object = e.server.object(judged.target);
        let sample = |metric: &str, value: u64| Sample::count(&object, metric, judged.taken_at, value);
        let samples = [
            e.info.number("evicted_keys").map(|n| sample("evicted_keys", n)),
            e.refused().map(|n| sample("refused_for_memory", n)),
        ];
        let measures = e.info.number("used_memory").map(|used| {
            let measure = Measure::new(judged.target, "memory_used", Unit::Bytes, used as f64);
            Measure { max: e.info.number("maxmemory").filter(|m| *m > 0).map(|m| m as f64), ..measure }
        });
        Judgement {
            measures: measures.into_iter().collect(),
            findings: findings.into_iter().flatten().collect(),
            samples: samples.into_iter().flatten().collect(),
            ..Judgement::default()
        }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let name = &judged.target.name;
        let refuse = |why: String| Err(Refusal::Precondition(why));
        let Some(limit) = e.own_limit() else {
            return refuse(format!("{name} has no memory limit below the memory of the host"));
        };
        let new_limit = limit / 4 * 3;
        let used = e.info.number("used_memory").unwrap_or(u64::MAX);
        if used > new_limit {
            return refuse(format!(
                "{name} uses {}, more than the {} that would be set: it would have to evict keys at once",
                bytes(used),
                bytes(new_limit)
            ));
        }
        if matches!(e.info.text("role"), Some("slave" | "replica")) {
            return refuse(format!("{name} is a replica, which ignores maxmemory: set it on its master"));
        }
        let policy = e.info.text("maxmemory_policy").unwrap_or("noeviction");
        let is_broker = !e.broker.is_empty();
        if is_broker && policy != "noeviction" {
            return Err(Refusal::Policy(format!(
                "{name} is the broker of {}, and its policy {policy} would evict tasks at the limit: set maxmemory-policy noeviction first",
                e.broker
            )));
        }
        // memory beyond the data does not shrink with a limit of the data
        let overhead = e.info.number("used_memory_rss").unwrap_or(used).saturating_sub(used);
        if overhead > limit - new_limit {
            return refuse(format!(
                "{} of the RSS of {name} are not data: it is fragmented, and maxmemory does not limit that",
                bytes(overhead)
            ));
        }
        let share = used as f64 * 100.0 / new_limit.max(1) as f64;
        if policy == "noeviction" && share >= self.settings.maxmemory_warn_percent {
            return refuse(format!(
                "{name} already uses {} of the {} that would be set, and would soon reject writes: raise the limit of its container",
                percent(share),
                bytes(new_limit)
            ));
        }
        let set = |value: u64| Action::RedisSet {
            server: judged.target.id.clone(),
            name: "maxmemory".to_owned(),
            value: value.to_string(),
        };
        let then = if policy == "noeviction" { "writes are rejected".to_owned() } else { format!("keys are evicted ({policy})") };
        Ok(Plan::new(&MAXMEMORY, &SPEC, finding, judged.target, vec![set(new_limit)])
            .undo(vec![set(0)])
            .affects([format!("at {} of its {} {then}", bytes(new_limit), bytes(limit))])
            .recurs("lost at the next restart: also set `maxmemory` in its configuration file"))
    }
}

impl Evidence {
    /// The memory limit of its container or unit, if it is below the memory of the host.
    fn own_limit(&self) -> Option<u64> {
        self.limit.filter(|limit| self.total.is_none_or(|total| *limit < total))
    }

    /// Commands rejected with `OOM`; the server counts error replies since 6.2.
    fn refused(&self) -> Option<u64> {
        self.info.text("errorstat_OOM")?.strip_prefix("count=")?.parse().ok()
    }
}

impl Memory {
    fn usage(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let name = &judged.target.name;
        let used = e.info.number("used_memory")?;
        let s = &self.settings;
        let max = e.info.number("maxmemory").unwrap_or(0);
        if max > 0 {
            // buffers of replicas and of the append-only file are not counted
            let counted = used.saturating_sub(e.info.number("mem_not_counted_for_evict").unwrap_or(0));
            let share = counted as f64 * 100.0 / max as f64;
            let keeps = e.info.is("maxmemory_policy", "noeviction");
            let refused = grown(e.refused(), e.before_refused.as_ref());
            let (severity, limit) = if refused > 0 {
                (Severity::Crit, s.maxmemory_crit_percent)
            } else {
                // a cache is full by design: see redis.evictions
                s.maxmemory().exceeded(share).filter(|_| keeps)?
            };
            let effect = if refused > 0 {
                format!(", and it rejected {} writes since the last run", count_of(refused))
            } else if severity == Severity::Crit {
                ", and it rejects writes once that is reached".to_owned()
            } else {
                String::new()
            };
            let message = format!(
                "{name} uses {} of maxmemory {}, {}, limit {}{effect}",
                bytes(counted),
                bytes(max),
                percent(share),
                percent(limit)
            );
            let finding = e.server.finding(&MEMORY, severity, judged.target, message);
            return Some(match e.server.get().filter(|_| refused > 0 || share >= 100.0) {
                Some(server) => finding.key(KeyKind::Writes, &server.id),
                None => finding,
            });
        }
        let rss = e.info.number("used_memory_rss").unwrap_or(used);
        let (have, limit_of) = match (e.own_limit(), e.total) {
            (Some(limit), _) => (limit, "its limit"),
            (None, Some(total)) => (total, "the host"),
            _ => return None,
        };
        let share = rss as f64 * 100.0 / have.max(1) as f64;
        let (severity, limit) = s.unlimited().exceeded(share)?;
        let message = format!(
            "{name} has no maxmemory and uses {} of {limit_of} {}, {}, limit {}",
            bytes(rss),
            bytes(have),
            percent(share),
            percent(limit)
        );
        let finding = e.server.finding(&MEMORY, severity, judged.target, message).key(KeyKind::Host, "host");
        Some(finding.fix_if(e.own_limit().is_some(), MAXMEMORY.id))
    }
}

fn evictions(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let evicted = e.info.number("evicted_keys").filter(|n| *n > 0)?;
    let name = &judged.target.name;
    let since = grown(Some(evicted), e.before_evicted.as_ref());
    let any = e.info.text("maxmemory_policy").is_some_and(|p| p.starts_with("allkeys"));
    if any && !e.broker.is_empty() && since > 0 {
        let message = format!(
            "{name} evicted {} keys since the last run and is the broker of {}: tasks may be among them",
            count_of(since),
            e.broker
        );
        return Some(e.server.finding(&EVICTIONS, Severity::Warn, judged.target, message));
    }
    let message = format!("{name} evicted {} keys since its start", count_of(evicted));
    Some(e.server.finding(&EVICTIONS, Severity::Info, judged.target, message))
}

fn broker_policy(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let policy = e.info.text("maxmemory_policy").filter(|p| *p != "noeviction")?;
    let max = e.info.number("maxmemory").filter(|m| *m > 0)?;
    (!e.broker.is_empty()).then(|| {
        let message = format!(
            "{} is the broker of {} and evicts keys at {} (maxmemory-policy {policy})",
            judged.target.name,
            e.broker,
            bytes(max)
        );
        e.server.finding(&BROKER_POLICY, Severity::Warn, judged.target, message)
    })
}

fn frag(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let (used, rss) = (e.info.number("used_memory")?, e.info.number("used_memory_rss")?);
    // Dragonfly counts memory differently
    if e.info.text("dragonfly_version").is_some() || used == 0 {
        return None;
    }
    let ratio = e.info.decimal("mem_fragmentation_ratio").unwrap_or(rss as f64 / used as f64);
    let name = &judged.target.name;
    let message = if ratio > 1.5 && rss.saturating_sub(used) > MIN_FRAG_BYTES {
        format!("{name} has an RSS of {} for {} of data, {ratio:.1} times, limit 1.5", bytes(rss), bytes(used))
    } else if ratio < 0.9 && used.saturating_sub(rss) > MIN_FRAG_BYTES {
        format!("{name} uses {} and only {} of it are resident: it is swapped out", bytes(used), bytes(rss))
    } else {
        return None;
    };
    Some(e.server.finding(&FRAG, Severity::Warn, judged.target, message))
}

fn fork_risk(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let rss = e.info.number("used_memory_rss")?;
    let name = &judged.target.name;
    if e.overcommit.as_deref() == Some("0") && e.available.is_some_and(|a| rss > a / 2) {
        let message = format!(
            "{name} has an RSS of {}, {} are available and vm.overcommit_memory is 0: the fork for the next snapshot may fail",
            bytes(rss),
            bytes(e.available.unwrap_or(0))
        );
        return Some(e.server.finding(&FORK_RISK, Severity::Warn, judged.target, message).key(KeyKind::Host, "host"));
    }
    // [always] madvise never; small servers are not affected
    (e.huge_pages.as_deref().is_some_and(|t| t.contains("[always]")) && rss > 1 << 30).then(|| {
        let message =
            format!("transparent huge pages are set to always: snapshots of {name} increase its latency and memory use");
        e.server
            .finding(&FORK_RISK, Severity::Info, judged.target, message)
            .hint("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and at boot")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// A server without maxmemory in a container of 100 MiB, with these fields of `INFO`.
    fn server(fields: &[(&str, &str)]) -> Evidence {
        let mib = |n: u64| (n * MIB).to_string();
        let mut info = serde_json::Map::new();
        info.insert("used_memory".to_owned(), mib(60).into());
        info.insert("used_memory_rss".to_owned(), mib(80).into());
        info.insert("maxmemory".to_owned(), "0".into());
        info.insert("role".to_owned(), "master".into());
        info.extend(fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())));
        let info = serde_json::from_value(info.into()).unwrap();
        Evidence { info, limit: Some(100 * MIB), total: Some(4096 * MIB), ..Evidence::default() }
    }

    fn plan(e: &Evidence) -> Result<Plan, Refusal> {
        let check = Memory { settings: Settings::default() };
        let target = Object::named(Kind::Redis, "cache");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let finding = e.server.finding(&MEMORY, Severity::Warn, &target, "much");
        check.plan(MAXMEMORY.id, &finding, &judged, e)
    }

    #[test]
    fn maxmemory_is_set_below_the_limit_of_the_container() {
        let found = plan(&server(&[("maxmemory_policy", "allkeys-lru")])).unwrap();
        assert!(matches!(&found.actions[..], [Action::RedisSet { value, .. }] if *value == (75 * MIB).to_string()), "{found:?}");
        assert!(found.blast[0].contains("keys are evicted (allkeys-lru)"), "{:?}", found.blast);
        let found = plan(&server(&[("maxmemory_policy", "noeviction")])).unwrap();
        assert!(found.blast[0].ends_with("writes are rejected"), "{:?}", found.blast);
    }

    #[test]
    fn maxmemory_that_does_not_help_is_refused() {
        let refused = |e: &Evidence| plan(e).unwrap_err().to_string();
        let used = |n: u64| (n * MIB).to_string();
        assert!(refused(&server(&[("used_memory", used(80).as_str())])).contains("would have to evict keys at once"));
        assert!(refused(&server(&[("role", "slave")])).contains("is a replica, which ignores maxmemory"));
        assert!(refused(&server(&[("used_memory_rss", used(95).as_str())])).contains("it is fragmented"));
        let (data, rss) = (used(74), used(80));
        let full = server(&[("used_memory", data.as_str()), ("used_memory_rss", rss.as_str())]);
        assert!(refused(&full).contains("would soon reject writes"));
        // a limit above the memory of the host is none
        let large = Evidence { limit: Some(8192 * MIB), ..server(&[]) };
        assert!(refused(&large).contains("has no memory limit below"));
    }

    #[test]
    fn maxmemory_does_not_make_a_broker_evict_tasks() {
        let mut broker = server(&[("maxmemory_policy", "allkeys-lru")]);
        broker.broker.others.insert("RQ".to_owned());
        assert!(matches!(plan(&broker), Err(Refusal::Policy(why)) if why.contains("would evict tasks")));
    }
}
