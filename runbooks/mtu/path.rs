//! Path MTU: whether full packets arrive, and the cause of the loss.

use std::time::Duration;

use futures_util::future::join_all;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, FixSpec, Impact, Judged, Judgement, KeyKind, Object, Plan, Refusal, Risk, Role, Severity,
    Table, quantity,
};
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::network::counters;
use opsctl_core::probe::network::firewall;
use opsctl_core::probe::network::firewall::Effect;
use opsctl_core::probe::network::path;
use opsctl_core::probe::network::path::{MAX_CONNECTIONS, MAX_SENT_BYTES, PathResult, Protocol};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};

use super::evidence::{Evidence, PathProbe, Would};
use super::{Settings, clamp, findings, peers};
use crate::shared::servers::READ_TIMEOUT;

pub(super) const EXCEEDS: Code = Code {
    id: "mtu.bridge-exceeds-egress",
    severities: &[Severity::Info, Severity::Warn],
    when: "containers of a network send larger packets than the MTU of the egress interface (info if full packets arrived, or a rule clamps the MSS); works only while ICMP is delivered",
    hint: "recreate the network with `com.docker.network.driver.mtu`, or clamp the MSS with a rule; `mtu` in daemon.json applies to docker0 only",
    ..Code::BASE
};

pub(super) const BLACKHOLE: Code = Code {
    id: "mtu.blackhole",
    severities: &[Severity::Crit],
    when: "full packets are dropped on the path to a peer, in at least one direction, while small ones arrive",
    hint: "clamp the MSS of new TCP connections: `opsctl fix mtu.clamp`",
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Address, "full packets are dropped on the way")],
    ..Code::BASE
};

pub(super) const ICMP: Code = Code {
    id: "mtu.icmp-blocked-local",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a rule of this host drops ICMP type 3 code 4 (fragmentation needed) (crit if packets are dropped because of it, warn if containers send larger packets than the egress MTU and no rule clamps the MSS)",
    hint: "accept ICMP type 3 code 4: path MTU discovery (RFC 1191) needs it, and it is harmless",
    ..Code::BASE
};

pub(super) const MISSING: Code = Code {
    id: "mtu.clamp-missing",
    severities: &[Severity::Crit],
    when: "full packets are dropped and no rule clamps the MSS of TCP connections",
    hint: "`opsctl fix mtu.clamp`",
    ..Code::BASE
};

pub(super) const CLAMP: Code = Code {
    id: "mtu.clamp",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "an MSS rule has no effect: the bottleneck is behind this host and unknown to it, its value is too large, packets do not reach it, it matches one direction only, or it is in a backend that the engine does not use (warn); it matched no packet although connections were made (warn, crit if opsctl created it); its value is lower than needed (info)",
    hint: "`--clamp-mss-to-pmtu` uses the MTU of local interfaces and of received ICMP messages; for a bottleneck behind them only `--set-mss` helps",
    ..Code::BASE
};

const PROBING: Code = Code {
    id: "mtu.probing",
    severities: &[Severity::Info],
    when: "full packets are dropped and net.ipv4.tcp_mtu_probing is 0: connections do not reduce their packet size",
    hint: "1 lets this host's own connections recover after some seconds; containers have their own setting (`--sysctl`)",
    ..Code::BASE
};

pub(super) const FIX: FixSpec =
    FixSpec { id: "mtu.clamp", risk: Risk::R1, title: "clamp the MSS of new TCP connections to the measured size" };
pub(super) const NETWORK: FixSpec = FixSpec { id: "mtu.network", risk: Risk::R4, title: "recreate a network with a smaller MTU" };

pub(super) static SPEC: CheckSpec = CheckSpec {
    id: "mtu.path",
    title: "Full packets arrive",
    codes: &[EXCEEDS, BLACKHOLE, ICMP, MISSING, CLAMP, PROBING],
    fixes: &[FIX, NETWORK],
    timeout: Duration::from_secs(9),
};

/// Relevant kernel settings.
const SYSCTLS: &[&str] = &["net.ipv4.tcp_mtu_probing", "net.ipv4.ip_no_pmtu_disc"];

pub(super) struct Path {
    pub(super) settings: Settings,
}

impl Check for Path {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let sysctls = |io: &Io| Tree::default().sysctls(io, SYSCTLS);
        let planned = Box::pin(peers::plan_probes(cx, self.settings.peers)).await?;
        let mut e = Evidence {
            egress: planned.egress,
            bridges: planned.bridges,
            stuck: planned.stuck,
            gaps: planned.gaps,
            sysctls: blocking::run("settings of the kernel", "/proc/sys/net", READ_TIMEOUT, sysctls).await?,
            ..Evidence::default()
        };
        if cx.options.dry_run {
            e.would = planned.plans.iter().map(would).collect();
            return Ok(e);
        }
        let before = cx.firewall().await;
        e.frag_fails.0 = frag_fails().await?;
        let tried = join_all(
            planned
                .plans
                .iter()
                .map(|plan| path::test_path(plan.from.pid, plan.peer.clone(), Some(plan.route.limit()), plan.named)),
        )
        .await;
        for (plan, tried) in planned.plans.into_iter().zip(tried) {
            match tried {
                Ok(tried) => e.looks.push(PathProbe {
                    from: plan.from.container,
                    network: plan.from.network,
                    peer: plan.peer,
                    asked: plan.named,
                    way: plan.route,
                    tried,
                }),
                Err(ProbeError::Skip(_)) => {}
                Err(error) => e.gaps.push(error.to_string()),
            }
        }
        e.frag_fails.1 = frag_fails().await?;
        match before {
            // the counters of the rules are read again only on a loss or with an MSS rule
            Ok(before) if e.looks.iter().any(PathProbe::is_lost) || has_mss_rule(&before) => match firewall::read().await {
                Ok(after) => e.keep(&before, &after),
                Err(error) => e.gaps.push(error.to_string()),
            },
            Ok(before) => e.keep(&before, &before),
            Err(error) => e.gaps.push(error.to_string()),
        }
        e.gaps.sort();
        e.gaps.dedup();
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let facts = e.looks.iter().flat_map(PathProbe::directions).map(|(name, _)| name).collect();
        let mut judgement = Judgement { gaps: e.gaps.clone(), facts, ..Judgement::default() };
        if !e.would.is_empty() {
            judgement.skip = Some(format!(
                "a dry run: nothing was sent. It would make up to {} connections for each of {}, and send at most {} KiB each",
                MAX_CONNECTIONS,
                quantity::count(e.would.len(), "path"),
                MAX_SENT_BYTES >> 10
            ));
            judgement.tables.push(would_table(&e.would));
            return judgement;
        }
        judgement.findings.extend(findings::bridges(e));
        judgement.findings.extend(findings::blackholes(e));
        judgement.findings.extend(findings::filters(e));
        judgement.findings.extend(findings::rules(e));
        if judgement.findings.iter().any(|f| f.code == BLACKHOLE.id)
            && e.sysctls.get("net.ipv4.tcp_mtu_probing").is_some_and(|v| v == "0")
        {
            judgement.findings.push(
                Finding::new(&PROBING, Severity::Info, Object::host(), "net.ipv4.tcp_mtu_probing is 0").cite(
                    "tcp_mtu_probing",
                    "1 makes a connection try smaller packets after some were lost; off by default (tcp(7))",
                ),
            );
        }
        if !e.looks.is_empty() {
            judgement.tables.push(table(e));
        }
        judgement
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        if fix == NETWORK.id {
            return Err(Refusal::ByHand(findings::by_hand(finding, e)));
        }
        clamp::plan(finding, judged, e)
    }
}

async fn frag_fails() -> Result<u64, ProbeError> {
    Ok(counters().await?.get("Ip.FragFails").copied().unwrap_or(0))
}

fn has_mss_rule(firewall: &firewall::Firewall) -> bool {
    firewall.rules.iter().any(|r| matches!(r.effect, Effect::ClampMss | Effect::SetMss(_)))
}

fn would(plan: &peers::Plan) -> Would {
    let data = match &plan.peer.speech {
        Protocol::Http { .. } => "an HTTP request with padding",
        Protocol::Tls { .. } => "a TLS ClientHello",
        Protocol::Silence => "a connection without data",
    };
    let from = plan.from.container.clone().unwrap_or_else(|| "this host".to_owned());
    Would { from, to: plan.peer.name.clone(), says: data.to_owned() }
}

fn would_table(all: &[Would]) -> Table {
    Table {
        title: "Planned probes".to_owned(),
        columns: ["from", "to", "data"].map(str::to_owned).to_vec(),
        rows: all.iter().map(|w| vec![w.from.clone(), w.to.clone(), w.says.clone()]).collect(),
        note: Some(format!("at most {} KiB each, in at most {MAX_CONNECTIONS} connections", MAX_SENT_BYTES >> 10)),
    }
}

fn table(e: &Evidence) -> Table {
    let outcome = |fate: &PathResult| match fate {
        PathResult::Arrives => "arrive".to_owned(),
        PathResult::Vanishes { lost, arrived: Some(arrived) } => format!("{lost} dropped, {arrived} arrive"),
        PathResult::Vanishes { lost, arrived: None } => format!("{lost} dropped"),
        PathResult::Unclear { why } => why.clone(),
        PathResult::Untried => String::new(),
    };
    let out = |l: &PathProbe| match &l.tried.no_connection {
        Some(_) => "no connection".to_owned(),
        None => outcome(&l.tried.out),
    };
    Table {
        title: "Full packets".to_owned(),
        columns: ["from", "to", "route", "out", "back"].map(str::to_owned).to_vec(),
        rows: e
            .looks
            .iter()
            .map(|l| {
                let route = format!("{} {}", l.way.interface, l.way.limit());
                vec![l.source(), l.peer.name.clone(), route, out(l), outcome(&l.tried.back)]
            })
            .collect(),
        note: None,
    }
}
