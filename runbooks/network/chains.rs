//! Packet filter rules of the container engine. Without them containers stay healthy, and published ports still answer through
//! docker-proxy; egress and traffic between bridges fail.

use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, DependsOn, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Kind, Object,
    Plan, Refusal, Risk, Role, Severity, SystemdState, quantity,
};
use opsctl_core::probe::docker::{Daemon, EngineSettings, Network, daemon};
use opsctl_core::probe::network::firewall::{Backend, Chain, Effect, Firewall, Rule};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const CHAINS: Code = Code {
    id: "network.docker-chains",
    severities: &[Severity::Warn, Severity::Crit],
    when: "packet filter rules of Docker are missing: they were flushed (crit; warn while no container runs in a bridge network)",
    hint: "Docker writes its rules at its start: `opsctl fix docker.rebuild-chains`; then find the program that flushes them, usually a restarted firewall",
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Host, "packets between networks are not forwarded")],
    depends_on: &[&[DependsOn::confirmed(Role::Down, KeyKind::Unit, "its")]],
};

const REBUILD: FixSpec =
    FixSpec { id: "docker.rebuild-chains", risk: Risk::R3, title: "restart the Docker daemon so that it writes its rules again" };

static SPEC: CheckSpec = CheckSpec {
    id: "network.chains",
    title: "Docker's rules are in the packet filter",
    codes: &[CHAINS],
    fixes: &[REBUILD],
    timeout: Duration::from_secs(5),
};

/// Firewall units that flush the rules of other programs on a restart (moby#12294).
const FIREWALLS: &[&str] = &[
    "firewalld.service",
    "ufw.service",
    "nftables.service",
    "iptables.service",
    "netfilter-persistent.service",
    "shorewall.service",
    "csf.service",
];

/// The unit of the daemon in Docker's packages and those of distributions.
const UNIT: &str = "docker.service";

pub(super) struct Chains;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    daemon: Option<Daemon>,
    engine: EngineSettings,
    endpoint: String,
    networks: Vec<Network>,
    /// Running containers by network.
    running: Vec<(String, String)>,
    /// Containers without a restart policy.
    no_policy: Vec<String>,
    chains: Vec<Chain>,
    rules: Vec<Rule>,
    of_engine: Option<Backend>,
    /// Why the list of rules may be incomplete.
    unread: Vec<String>,
    /// Firewalls of this host, and their start times.
    firewalls: Vec<(String, Option<jiff::Timestamp>)>,
    systemd: bool,
    /// `docker.service` runs the daemon; `None` in recordings from before it was read.
    unit_runs: Option<bool>,
}

impl Check for Chains {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine.iter().filter(|e| e.name == "docker").map(|e| Object::named(Kind::Engine, &e.name)).collect()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let docker = cx.docker()?;
        let endpoint = cx.inventory.engine.as_ref().map(|e| e.endpoint.clone()).unwrap_or_default();
        if !docker.is_local() {
            return Err(ProbeError::Skip("the engine is on another machine, or belongs to another user".to_owned()));
        }
        let mut e = Evidence { daemon: daemon(Some(docker), cx.systemd.as_deref()).await, endpoint, ..Evidence::default() };
        e.engine = (*docker.settings().await?).clone();
        for (network, members) in cx.routed_networks_of(docker).await? {
            e.running.extend(members.iter().map(|c| (network.name.clone(), c.name.clone())));
            e.networks.push(network);
        }
        for container in cx.inspected(cx.inventory.running()).await {
            if container.restart_policy.name.is_empty() || container.restart_policy.name == "no" {
                e.no_policy.push(container.name.clone());
            }
        }
        let firewall = cx.firewall().await?;
        e.of_engine = firewall.of_engine();
        e.unread.clone_from(&firewall.gaps);
        if firewall.programs.is_empty() {
            e.unread.push("iptables is not installed".to_owned());
        }
        let matters = |table: &str| table == "nat" || table == "filter" || table.ends_with("docker-bridges");
        e.chains = firewall.chains.iter().filter(|c| matters(&c.table)).cloned().collect();
        let engine_s = |r: &&Rule| r.text.contains("DOCKER") || matches!(r.effect, Effect::Masquerade | Effect::Accept);
        e.rules = firewall.rules.iter().filter(|r| matters(&r.table)).filter(engine_s).cloned().collect();
        e.systemd = cx.inventory.systemd.as_ref().is_some_and(|s| s.state == SystemdState::Answers);
        if e.systemd {
            e.unit_runs = cx.systemd()?.unit(UNIT).await.ok().map(|unit| unit.active == "active");
            for name in FIREWALLS {
                if let Ok(unit) = cx.systemd()?.unit(name).await
                    && unit.load == "loaded"
                    && unit.active_since.is_some()
                {
                    e.firewalls.push(((*name).to_owned(), unit.active_since));
                }
            }
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.engine.rootless || e.daemon.as_ref().is_some_and(|d| d.elsewhere) {
            return Judgement::skip("the engine has a network namespace of its own, which contains its rules");
        }
        if e.daemon.as_ref().is_some_and(|d| d.hands_off) {
            return Judgement::skip("Docker is configured to write no rules (`iptables: false`)");
        }
        let missing = missing(e);
        if missing.is_empty() {
            return Judgement::default();
        }
        if !e.unread.is_empty() {
            let gaps = e.unread.iter().map(|why| format!("reading packet filter rules: {why}")).collect();
            return Judgement { gaps, ..Judgement::default() };
        }
        let severity = if e.running.is_empty() { Severity::Warn } else { Severity::Crit };
        let subject = Object::new(Kind::Engine, "docker", e.endpoint.clone());
        let message = format!("Docker's packet filter rules are missing: {}", quantity::some_of(&missing, 1));
        let mut f = Finding::new(&CHAINS, severity, subject, message)
            .key(KeyKind::Engine, &e.endpoint)
            .key(KeyKind::Host, "host")
            .cite("missing", missing.join("; "))
            .cite("affected", affected(e))
            .cite(
                "not affected",
                if e.running.is_empty() {
                    ""
                } else {
                    "published ports, through docker-proxy: a response from outside proves nothing"
                },
            )
            .fix(REBUILD.id);
        for (unit, since) in &e.firewalls {
            f = f.cite(unit, since.map_or_else(String::new, |at| format!("started {at:.0}"))).key(KeyKind::Unit, unit);
        }
        vec![f].into()
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        if !e.systemd {
            return Err(Refusal::ByHand(
                "restart dockerd in the same way it was started (systemd is not running); all containers stop with it unless live-restore is on"
                    .to_owned(),
            ));
        }
        if e.unit_runs == Some(false) {
            return Err(Refusal::ByHand(format!(
                "restart dockerd in the same way it was started, {UNIT} does not run it; all containers stop with it unless live-restore is on"
            )));
        }
        if let Some(fault) = e.daemon.as_ref().and_then(Daemon::start_fault) {
            return Err(Refusal::Precondition(format!("dockerd would not start again: {fault}")));
        }
        let mut all: Vec<&str> = e.running.iter().map(|(_, c)| c.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        let mut plan = Plan::new(&REBUILD, &SPEC, finding, judged.target, vec![Action::RestartUnit { unit: UNIT.to_owned() }])
            .verified(Duration::from_secs(120), Duration::from_secs(2));
        if !e.firewalls.is_empty() {
            let units: Vec<&str> = e.firewalls.iter().map(|(unit, _)| unit.as_str()).collect();
            plan = plan.recurs(format!("the next restart of {} can remove them again", units.join(" or ")));
        }
        if e.engine.live_restore {
            plan.risk = Risk::R2;
            return Ok(
                plan.affects(["containers keep running (live-restore); the API does not answer for some seconds".to_owned()])
            );
        }
        plan = plan
            .affects([format!("{} will be restarted: {}", quantity::count(all.len(), "container"), all.join(", "))])
            .downtime("until the daemon and all containers have started again");
        if !e.no_policy.is_empty() {
            plan = plan.affects([format!("without a restart policy, down until started by hand: {}", e.no_policy.join(", "))]);
        }
        Ok(plan)
    }
}

/// Affected traffic.
fn affected(e: &Evidence) -> String {
    if e.running.is_empty() {
        String::new()
    } else {
        "connections of containers to the outside or to another network time out".to_owned()
    }
}

/// Missing rules among those that Docker writes at its start (moby libnetwork; chains as of 20.10 to 28).
fn missing(e: &Evidence) -> Vec<String> {
    let firewall = Firewall { chains: e.chains.clone(), rules: e.rules.clone(), ..Firewall::default() };
    let Some(backend) = e.of_engine else {
        return vec!["all of its chains".to_owned()];
    };
    // Docker 29 with nftables keeps all rules in tables that are removed as a whole
    if backend == Backend::Native {
        return Vec::new();
    }
    let has_chain = |table: &str, name: &str| e.chains.iter().any(|c| c.backend == backend && c.table == table && c.name == name);
    let jumps = |table: &str, chain: &str, to: &[&str]| {
        firewall.chain(backend, table, chain).any(|r| matches!(&r.effect, Effect::Jump(t) if to.contains(&t.as_str())))
    };
    let mut missing = Vec::new();
    let mut need = |there: bool, description: &str| {
        if !there {
            missing.push(description.to_owned());
        }
    };
    need(has_chain("nat", "DOCKER"), "chain DOCKER of table nat");
    need(jumps("nat", "PREROUTING", &["DOCKER"]), "the jump from nat PREROUTING to DOCKER (published ports)");
    need(jumps("nat", "OUTPUT", &["DOCKER"]), "the jump from nat OUTPUT to DOCKER (published ports, from this host)");
    need(has_chain("filter", "DOCKER"), "chain DOCKER of table filter");
    let forward = ["DOCKER-USER", "DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1"];
    need(jumps("filter", "FORWARD", &forward), "the jump from filter FORWARD to Docker's chains");
    for network in &e.networks {
        let Some(interface) = &network.interface else { continue };
        // a bridge without containers has its rules too, from its creation on
        let v4 = network.subnets.iter().filter(|s| s.contains('.'));
        for subnet in v4.filter(|_| network.masquerade) {
            let there = firewall.rules.iter().any(|r| {
                r.backend == backend && r.table == "nat" && r.effect == Effect::Masquerade && r.source.as_ref() == Some(subnet)
            });
            need(there, &format!("MASQUERADE for {subnet} (egress of network {})", network.name));
        }
        let accepts = firewall.rules.iter().any(|r| {
            r.backend == backend && r.table == "filter" && r.effect == Effect::Accept && r.input.as_ref() == Some(interface)
        });
        need(accepts, &format!("the rule that accepts packets of {interface} (network {})", network.name));
    }
    missing
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// A host without Docker's rules, with one running container.
    fn flushed() -> Evidence {
        Evidence {
            daemon: Some(Daemon::default()),
            running: vec![("bridge".into(), "web".into())],
            systemd: true,
            unit_runs: Some(true),
            ..Evidence::default()
        }
    }

    /// The plan, if the finding offers the fix.
    fn offered(e: &Evidence) -> Option<Result<Plan, Refusal>> {
        let target = Object::named(Kind::Engine, "docker");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = Chains.judge(&judged, e).findings;
        findings.first().map(|f| Chains.plan(REBUILD.id, f, &judged, e))
    }

    #[test]
    fn flushed_rules_are_rebuilt_by_a_restart() {
        let plan = offered(&flushed()).unwrap().unwrap();
        assert!(plan.risk == Risk::R3 && plan.blast[0].contains("1 container will be restarted: web"), "{plan:?}");
        let firewall = vec![("nftables.service".to_owned(), None)];
        let plan = offered(&Evidence { firewalls: firewall, ..flushed() }).unwrap().unwrap();
        assert!(plan.recurs.is_some_and(|why| why.contains("nftables.service")));
        let live = EngineSettings { live_restore: true, ..EngineSettings::default() };
        assert_eq!(offered(&Evidence { engine: live, ..flushed() }).unwrap().unwrap().risk, Risk::R2);
    }

    #[test]
    fn daemon_that_would_not_start_again_is_not_restarted() {
        let invalid = Daemon { invalid: true, ..Daemon::default() };
        let refused = offered(&Evidence { daemon: Some(invalid), ..flushed() });
        assert!(matches!(refused, Some(Err(Refusal::Precondition(why))) if why.contains("would not start again")));
    }

    #[test]
    fn daemon_of_another_unit_is_restarted_by_hand() {
        for e in [Evidence { unit_runs: Some(false), ..flushed() }, Evidence { systemd: false, ..flushed() }] {
            assert!(matches!(offered(&e), Some(Err(Refusal::ByHand(why))) if why.contains("in the same way it was started")));
        }
    }

    #[test]
    fn rules_that_docker_does_not_write_are_not_rebuilt() {
        let hands_off = Daemon { hands_off: true, ..Daemon::default() };
        assert!(offered(&Evidence { daemon: Some(hands_off), ..flushed() }).is_none());
        let unread = Evidence { unread: vec!["iptables is not installed".into()], ..flushed() };
        assert!(offered(&unread).is_none());
    }
}
