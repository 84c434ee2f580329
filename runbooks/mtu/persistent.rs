//! Persistence of MSS rules across a reboot.

use std::path::Path;
use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Judged, Judgement, Object, Plan, Refusal, Risk, Severity, SystemdState,
};
use opsctl_core::probe::network::firewall;
use opsctl_core::probe::network::firewall::{Backend, Effect, Persisted, Rule};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::clamp::{COMMENT, NATIVE_TABLE, native_hook, native_rule};

const PERSISTENT: Code = Code {
    id: "mtu.clamp-persistent",
    severities: &[Severity::Warn],
    when: "an MSS rule is in the kernel, but in no file that restores it at boot",
    hint: "store this rule in a separate unit; saving all rules (`netfilter-persistent save`) also saves those of the container engine, which are stale at the next boot",
    ..Code::BASE
};

const FIX: FixSpec = FixSpec { id: "mtu.persist", risk: Risk::R1, title: "restore the MSS rule at every boot" };

static SPEC: CheckSpec = CheckSpec {
    id: "mtu.persistent",
    title: "MSS rules are persistent",
    codes: &[PERSISTENT],
    fixes: &[FIX],
    timeout: Duration::from_secs(4),
};

const UNIT: &str = "opsctl-mss.service";

/// Directory of the administrator's units (systemd.unit(5)).
const UNITS: &str = "/etc/systemd/system";

/// Script that cloud-init runs at every boot.
const SCRIPT: &str = "/var/lib/cloud/scripts/per-boot/opsctl-mss.sh";

pub(super) struct Persistent;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    rules: Vec<Rule>,
    programs: Vec<(Backend, String)>,
    persisted: Persisted,
    systemd: bool,
}

impl Check for Persistent {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let firewall = cx.firewall().await?;
        let about = |r: &&Rule| matches!(r.effect, Effect::ClampMss | Effect::SetMss(_));
        let rules: Vec<Rule> = firewall.rules.iter().filter(about).cloned().collect();
        if rules.is_empty() {
            return Err(ProbeError::Skip("there is no MSS rule".to_owned()));
        }
        let read = |io: &Io| firewall::persisted(io, Path::new("/"));
        let persisted = blocking::run("files that restore rules", "/etc", Duration::from_secs(3), read).await?;
        let systemd = cx.inventory.systemd.as_ref().is_some_and(|s| s.state == SystemdState::Answers);
        Ok(Evidence { rules, programs: firewall.programs.clone(), persisted, systemd })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.rules.is_empty() || !e.persisted.mss.is_empty() {
            return Judgement::default();
        }
        if let Some(file) = e.persisted.denied.first() {
            return Judgement { gaps: vec![format!("reading {file}: permission denied; needs root")], ..Judgement::default() };
        }
        let mut finding = Finding::new(
            &PERSISTENT,
            Severity::Warn,
            Object::host(),
            "the MSS rule is lost at a reboot: no file restores it".to_owned(),
        )
        .fix(FIX.id);
        for rule in &e.rules {
            finding = finding.cite("rule", format!("{} {}: {}", rule.backend.program(), rule.table, rule.text));
        }
        vec![finding].into()
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let commands: Result<Vec<Commands>, Refusal> = e.rules.iter().map(|r| commands(r, &e.programs)).collect();
        let commands = commands?;
        let plan = |actions, undo| Plan::new(&FIX, &SPEC, finding, judged.target, actions).undo(undo);
        if e.systemd {
            let path = format!("{UNITS}/{UNIT}");
            let text = unit(&commands);
            let unit = UNIT.to_owned();
            return Ok(plan(
                vec![
                    Action::WriteFile { path: path.clone(), text: text.clone(), executable: false },
                    Action::ReloadUnits,
                    Action::EnableUnit { unit: unit.clone() },
                ],
                vec![Action::DisableUnit { unit }, Action::RemoveFile { path, text }, Action::ReloadUnits],
            ));
        }
        let script = script(&commands);
        if e.persisted.cloud_init {
            let path = SCRIPT.to_owned();
            let undo = vec![Action::RemoveFile { path: path.clone(), text: script.clone() }];
            return Ok(plan(vec![Action::WriteFile { path, text: script, executable: true }], undo));
        }
        Err(Refusal::ByHand(format!(
            "neither systemd nor cloud-init is available; run this at every boot: {}",
            script.lines().skip(2).collect::<Vec<_>>().join("; ")
        )))
    }
}

/// Commands that remove a rule if present, and commands that add it.
struct Commands {
    remove: Vec<String>,
    add: Vec<String>,
}

fn commands(rule: &Rule, programs: &[(Backend, String)]) -> Result<Commands, Refusal> {
    if rule.backend == Backend::Native {
        // a rule in another table belongs to the file of that table
        let by_hand = || Refusal::ByHand(format!("put the rule of table {} into /etc/nftables.conf", rule.table));
        let table = rule.table.strip_prefix("ip ").filter(|t| *t == NATIVE_TABLE).ok_or_else(by_hand)?;
        let hook = &rule.chain;
        let chain = format!("nft 'add chain ip {table} {hook} {}'", native_hook(hook));
        let add = format!("nft 'add rule ip {table} {hook} {}'", native_rule(&rule.effect));
        let flush = format!("nft 'flush chain ip {table} {hook}'");
        return Ok(Commands { remove: vec![flush], add: vec![format!("nft 'add table ip {table}'"), chain, add] });
    }
    let program = programs.iter().find(|(b, _)| *b == rule.backend).map_or(rule.backend.program(), |(_, p)| p.as_str());
    let rest = rule.text.strip_prefix("-A ").unwrap_or(&rule.text);
    // opsctl's rule is first in its chain, so that no earlier rule ends the chain; other rules are appended
    let add = match rest.split_once(' ') {
        Some((chain, rule)) if rule.contains(COMMENT) => format!("-I {chain} 1 {rule}"),
        _ => format!("-A {rest}"),
    };
    Ok(Commands {
        remove: vec![format!("{program} -w -t {} -D {rest}", rule.table)],
        add: vec![format!("{program} -w -t {} {add}", rule.table)],
    })
}

/// An idempotent unit: every start leaves exactly one rule.
fn unit(commands: &[Commands]) -> String {
    let lines = |key: &str, of: &dyn Fn(&Commands) -> &Vec<String>| -> String {
        // % is special in units (systemd.unit(5))
        commands.iter().flat_map(of).map(|c| [key, &c.replace('%', "%%"), "\n"].concat()).collect()
    };
    format!(
        "# written by opsctl (mtu.persist): clamps the MSS of TCP connections\n\
         [Unit]\nDescription=TCP segment sizes (opsctl)\nAfter=network-pre.target docker.service nftables.service netfilter-persistent.service\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n{}{}{}\n[Install]\nWantedBy=multi-user.target\n",
        lines("ExecStart=-", &|c| &c.remove),
        lines("ExecStart=", &|c| &c.add),
        lines("ExecStop=-", &|c| &c.remove),
    )
}

fn script(commands: &[Commands]) -> String {
    let head = "#!/bin/sh\n# written by opsctl (mtu.persist): clamps the MSS of TCP connections";
    let lines = commands.iter().flat_map(|c| {
        let remove = c.remove.iter().map(|l| format!("{l} 2> /dev/null || true"));
        remove.chain(c.add.iter().cloned())
    });
    std::iter::once(head.to_owned()).chain(lines).map(|l| l + "\n").collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn offered(change: impl FnOnce(&mut Evidence)) -> Option<Result<Plan, Refusal>> {
        let fixture: serde_json::Value = serde_json::from_str(include_str!("fixtures/volatile.json")).unwrap();
        let mut e: Evidence = serde_json::from_value(fixture["evidence"].clone()).unwrap();
        change(&mut e);
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = Persistent.judge(&judged, &e).findings;
        findings.first().map(|f| Persistent.plan(FIX.id, f, &judged, &e))
    }

    #[test]
    fn rule_without_a_file_is_restored_by_a_unit() {
        let plan = offered(|_| {}).unwrap().unwrap();
        assert!(
            matches!(&plan.actions[..], [Action::WriteFile { .. }, Action::ReloadUnits, Action::EnableUnit { .. }]),
            "{plan:?}"
        );
    }

    #[test]
    fn rule_that_a_file_restores_is_left_alone() {
        assert!(offered(|e| e.persisted.mss.push(("/etc/ppp/ip-up.d/mss".into(), "iptables … TCPMSS".into()))).is_none());
        assert!(offered(|e| e.persisted.denied.push("/etc/iptables".into())).is_none());
    }

    #[test]
    fn rule_is_restored_by_hand_without_a_service_manager() {
        let refused = offered(|e| e.systemd = false).unwrap();
        assert!(matches!(refused, Err(Refusal::ByHand(why)) if why.contains("run this at every boot")));
    }
}
