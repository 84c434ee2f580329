//! Forwarding of container packets by this host.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Impact, Judged, Judgement, KeyKind, Object, Plan, Refusal, Risk, Role,
    Severity, quantity,
};
use opsctl_core::probe::kernel::setup::Tree;
use opsctl_core::probe::network;
use opsctl_core::probe::network::firewall::{Backend, Chain, Effect, Firewall, Rule};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::verdict::{self, Egress, Fate};
use crate::shared::servers::READ_TIMEOUT;
use crate::shared::sysctl;

const IP_FORWARD: Code = Code {
    id: "network.ip-forward",
    severities: &[Severity::Crit],
    when: "containers run in bridge networks and the kernel does not forward packets (net.ipv4.ip_forward, or the setting of one interface, is 0)",
    hint: "Docker enables it at its start; a later `sysctl --system` or a hardening script disabled it",
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Host, "packets between networks are not forwarded")],
    ..Code::BASE
};

const DROP: Code = Code {
    id: "network.forward-drop",
    severities: &[Severity::Crit],
    when: "a chain at the forward hook drops packets of a container network: by its policy, or by a rule before the accepting one",
    hint: "accept the bridge in that chain too: every chain at a hook must accept a packet, an accept in one chain does not override a drop in another",
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Host, "packets between networks are dropped")],
    ..Code::BASE
};

const BRIDGE_NF: Code = Code {
    id: "network.bridge-nf",
    severities: &[Severity::Info],
    when: "packets between containers of one network do not pass iptables (net.bridge.bridge-nf-call-iptables is 0)",
    hint: "rules in DOCKER-USER between containers of one network then have no effect",
    ..Code::BASE
};

const ENABLE: FixSpec =
    FixSpec { id: "network.enable-forwarding", risk: Risk::R1, title: "enable IP forwarding, now and at every boot" };

static SPEC: CheckSpec = CheckSpec {
    id: "network.forwarding",
    title: "Packets of containers are forwarded",
    codes: &[IP_FORWARD, DROP, BRIDGE_NF],
    fixes: &[ENABLE],
    timeout: Duration::from_secs(5),
};

const FORWARD: &str = "net.ipv4.ip_forward";
const BRIDGE: &str = "net.bridge.bridge-nf-call-iptables";

/// The fact that findings about forwarding follow from, unlike those about rules.
const SETTINGS_READ: &str = "kernel settings";

pub(super) struct Forwarding;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// Bridges with running containers: name of the network, interface.
    bridges: Vec<(String, String)>,
    /// Subnets of these bridges, by interface.
    subnets: BTreeMap<String, Vec<String>>,
    /// The egress interface.
    egress: Option<String>,
    sysctls: BTreeMap<String, String>,
    /// Files that set the first one at boot.
    files: Vec<(String, String)>,
    writable: bool,
    chains: Vec<Chain>,
    rules: Vec<Rule>,
    gaps: Vec<String>,
}

impl Check for Forwarding {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence::default();
        for (network, _) in cx.routed_networks().await?.into_iter().filter(|(_, members)| !members.is_empty()) {
            let Some(interface) = network.interface else { continue };
            e.subnets.insert(interface.clone(), network.subnets);
            e.bridges.push((network.name, interface));
        }
        if e.bridges.is_empty() {
            return Err(ProbeError::Skip("no container runs in a bridge network".to_owned()));
        }
        e.egress =
            network::view(None, vec![network::EXTERNAL_ADDRESS]).await?.ways.into_iter().flatten().next().map(|w| w.interface);
        // a dot in an interface name is not a separator of the setting
        let own: Vec<String> = e.bridges.iter().filter(|(_, i)| !i.contains('.')).map(|(_, i)| own_setting(i)).collect();
        let read = move |io: &Io| {
            let tree = Tree::default();
            let keys: Vec<&str> = [FORWARD, BRIDGE].into_iter().chain(own.iter().map(String::as_str)).collect();
            (tree.sysctls(io, &keys), tree.sysctl_files(io, FORWARD), tree.sysctls_writable(io))
        };
        (e.sysctls, e.files, e.writable) = blocking::run("forwarding", "/proc/sys/net", READ_TIMEOUT, read).await?;
        match cx.firewall().await {
            Ok(firewall) => {
                let reached = reached(&firewall);
                let of = |backend, table: &str, chain: &str| reached.contains(&(backend, table.to_owned(), chain.to_owned()));
                e.chains = firewall.chains.iter().filter(|c| of(c.backend, &c.table, &c.name)).cloned().collect();
                e.rules = firewall.rules.iter().filter(|r| of(r.backend, &r.table, &r.chain)).cloned().collect();
                e.gaps.extend(firewall.gaps.iter().map(|why| format!("reading packet filter rules: {why}")));
            }
            Err(error) => e.gaps.push(error.to_string()),
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let facts = vec![SETTINGS_READ.to_owned()];
        let mut judgement = Judgement { gaps: e.gaps.clone(), facts, ..Judgement::default() };
        let names: Vec<&str> = e.bridges.iter().map(|(n, _)| n.as_str()).collect();
        // the global setting covers those of the interfaces
        let off = |key: &str| e.sysctls.get(key).is_some_and(|v| v == "0");
        let keys = e.sysctls.keys().filter(|k| *k != BRIDGE && off(k));
        for key in keys.filter(|k| *k == FORWARD || !off(FORWARD)) {
            let message = format!("{key} is 0: packets of containers in {} are not forwarded", names.join(", "));
            let mut f =
                Finding::new(&IP_FORWARD, Severity::Crit, Object::host(), message).key(KeyKind::Host, "host").fact(SETTINGS_READ);
            for (file, value) in e.files.iter().filter(|(_, v)| v == "0") {
                f = f.cite(file, format!("{FORWARD} = {value}"));
            }
            judgement.findings.push(if e.writable { f.fix(ENABLE.id) } else { f });
        }
        let (findings, gaps) = drops(e);
        judgement.findings.extend(findings);
        judgement.gaps.extend(gaps);
        if e.sysctls.get(BRIDGE).is_some_and(|v| v == "0") {
            judgement.findings.push(Finding::new(&BRIDGE_NF, Severity::Info, Object::host(), format!("{BRIDGE} is 0")));
        }
        judgement
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let (mut actions, mut undo) = (Vec::new(), Vec::new());
        let off: Vec<&String> = e.sysctls.iter().filter(|(k, v)| *k != BRIDGE && v.as_str() == "0").map(|(k, _)| k).collect();
        if off.is_empty() {
            return Err(Refusal::Precondition("forwarding is already enabled".to_owned()));
        }
        for key in off {
            if key == FORWARD {
                let (set, back) = sysctl::set(FORWARD, "0", "1");
                actions.extend(set);
                undo.splice(0..0, back);
            } else {
                actions.push(Action::SetSysctl { key: key.clone(), value: "1".to_owned() });
                undo.insert(0, Action::SetSysctl { key: key.clone(), value: "0".to_owned() });
            }
        }
        let plan = Plan::new(&ENABLE, &SPEC, finding, judged.target, actions).undo(undo).affects([
            "this host forwards packets between all its interfaces, as far as the packet filter accepts them".to_owned(),
        ]);
        Ok(match sysctl::later(&e.files, "1") {
            Some((file, _)) => plan.recurs(format!("{file} sets it to 0 at the next boot: change it there")),
            None => plan,
        })
    }
}

fn own_setting(interface: &str) -> String {
    format!("net.ipv4.conf.{interface}.forwarding")
}

/// Chains that a forwarded packet may traverse.
fn reached(firewall: &Firewall) -> Vec<(Backend, String, String)> {
    let base = firewall.chains.iter().filter(|c| c.hook.as_deref() == Some("FORWARD"));
    let mut all: Vec<(Backend, String, String)> = base.map(|c| (c.backend, c.table.clone(), c.name.clone())).collect();
    let mut at = 0;
    while let Some((backend, table, chain)) = all.get(at).cloned() {
        for rule in firewall.chain(backend, &table, &chain) {
            if let Effect::Jump(to) = &rule.effect {
                let next = (backend, table.clone(), to.clone());
                if !all.contains(&next) {
                    all.push(next);
                }
            }
        }
        at += 1;
    }
    all
}

/// Findings about chains that drop packets of containers, and chains with an unknown verdict.
fn drops(e: &Evidence) -> (Vec<Finding>, Vec<String>) {
    let Some(egress) = &e.egress else { return (Vec::new(), Vec::new()) };
    let firewall = Firewall { chains: e.chains.clone(), rules: e.rules.clone(), ..Firewall::default() };
    let (mut findings, mut gaps) = (Vec::new(), Vec::new());
    for chain in e.chains.iter().filter(|c| c.hook.as_deref() == Some("FORWARD")) {
        let label = format!("chain {} of table {} ({})", chain.name, chain.table, chain.backend.program());
        let mut hit: Vec<&str> = Vec::new();
        let mut by = "its policy".to_owned();
        let mut narrower: Vec<&str> = Vec::new();
        for (network, interface) in &e.bridges {
            let subnets = e.subnets.get(interface).map(Vec::as_slice).unwrap_or_default();
            let way = Egress { input: interface, output: egress, subnets };
            match verdict::of_chain(&firewall, chain, &chain.name, &way, 0) {
                Fate::Dropped(rule) => {
                    hit.push(network);
                    by = format!("the rule `{}`", rule.text);
                }
                Fate::Undecided if !chain.accepts => {
                    hit.push(network);
                    let of_table = e.rules.iter().filter(|r| r.backend == chain.backend && r.table == chain.table);
                    narrower.extend(of_table.filter(|r| verdict::is_narrower(r, &way)).map(|r| r.text.as_str()));
                }
                Fate::External(rule) if !chain.accepts => {
                    gaps.push(format!("{label}: `{}` decides outside of the rules", rule.text));
                }
                Fate::Passes | Fate::Undecided | Fate::External(_) => {}
            }
        }
        narrower.sort_unstable();
        narrower.dedup();
        if !hit.is_empty() {
            let message = format!("{label} drops outgoing packets of containers in {}, by {by}", hit.join(", "));
            findings.push(
                Finding::new(&DROP, Severity::Crit, Object::host(), message)
                    .cite("egress", egress)
                    .cite("rules that accept other packets", quantity::some_of(&narrower, 3))
                    .key(KeyKind::Host, "host"),
            );
        }
    }
    gaps.dedup();
    (findings, gaps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn with(settings: &[(&str, &str)], files: &[(&str, &str)]) -> Evidence {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        Evidence {
            bridges: vec![("bridge".into(), "docker0".into())],
            sysctls: owned(settings).into_iter().collect(),
            files: owned(files),
            writable: true,
            gaps: vec!["reading packet filter rules: denied".into()],
            ..Evidence::default()
        }
    }

    fn offered(e: &Evidence) -> Option<(Finding, Result<Plan, Refusal>)> {
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let judgement = Forwarding.judge(&judged, e);
        let finding = judgement.findings.into_iter().find(|f| f.fixes.contains(&ENABLE.id.to_owned()))?;
        assert!(finding.facts.iter().all(|fact| judgement.facts.contains(fact)), "the rules are no fact of it");
        let plan = Forwarding.plan(ENABLE.id, &finding, &judged, e);
        Some((finding, plan))
    }

    #[test]
    fn forwarding_is_enabled_while_containers_need_it() {
        let (_, plan) = offered(&with(&[(FORWARD, "0")], &[])).unwrap();
        let plan = plan.unwrap();
        assert!(plan.recurs.is_none() && plan.blast[0].contains("between all its interfaces"), "{plan:?}");
        let (_, plan) = offered(&with(&[(FORWARD, "0")], &[("/etc/sysctl.d/99-hardening.conf", "0")])).unwrap();
        assert!(plan.unwrap().recurs.is_some_and(|why| why.contains("99-hardening.conf sets it to 0 at the next boot")));
    }

    #[test]
    fn enabled_forwarding_is_left_alone() {
        assert!(offered(&with(&[(FORWARD, "1")], &[])).is_none());
        let (finding, _) = offered(&with(&[(FORWARD, "0")], &[])).unwrap();
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let refused = Forwarding.plan(ENABLE.id, &finding, &judged, &with(&[(FORWARD, "1")], &[])).unwrap_err().to_string();
        assert!(refused.contains("forwarding is already enabled"), "{refused}");
    }
}
