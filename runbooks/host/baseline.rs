//! Setup of the machine: settings that cause faults later, at the next boot or under load. They belong in the provisioning.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, EngineState, Finding, FixSpec, Judged, Judgement, Kind, Object, Plan, Refusal, Risk,
    Severity, SystemdState,
    quantity::{bytes, percent},
};
use opsctl_core::probe::kernel::setup::{Mtus, OwnName, Tree, Unallocated};
use opsctl_core::probe::kernel::{boot, host};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::READ_TIMEOUT;
use crate::shared::sysctl;

const BASELINE: Code = Code {
    id: "host.baseline",
    severities: &[Severity::Info, Severity::Warn],
    when: "the engine runs and is not started at boot, the host cannot resolve its own name, or the machine id is missing (warn); unattended upgrades, kernel settings, unallocated space behind the last partition, bridge MTU larger than the egress MTU (info)",
    hint: "add the setting to the image or the provisioning, so that the next machine has it too: `opsctl bootstrap --apply`",
    ..Code::BASE
};

const ENABLE_UNIT: FixSpec = FixSpec {
    id: "host.enable-unit",
    risk: Risk::R1,
    title: "enable the unit, so that it starts at boot; it is not started now",
};
const SET_SYSCTL: FixSpec =
    FixSpec { id: "host.set-sysctl", risk: Risk::R1, title: "raise kernel settings, now and at every boot" };
const ADD_HOSTNAME: FixSpec = FixSpec { id: "host.add-hostname", risk: Risk::R1, title: "add the host's own name to /etc/hosts" };

static SPEC: CheckSpec = CheckSpec {
    id: "host.baseline",
    title: "the setup of the machine is complete",
    codes: &[BASELINE],
    fixes: &[ADD_HOSTNAME, ENABLE_UNIT, SET_SYSCTL],
    timeout: Duration::from_secs(3),
};

const SOMAXCONN: &str = "net.core.somaxconn";
const INOTIFY: &str = "fs.inotify.max_user_instances";
/// Minimum of unallocated space that is reported, in bytes.
const MIN_UNALLOCATED_BYTES: u64 = 1 << 30;
/// Running containers from which inotify instances become scarce (each log follower and each .NET or Node watcher uses one).
const MANY_CONTAINERS: usize = 30;

pub(super) struct Baseline {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    name: OwnName,
    machine_id: String,
    distribution: String,
    in_container: bool,
    unallocated: Vec<Unallocated>,
    mtus: Mtus,
    sysctls: BTreeMap<String, String>,
    /// The kernel parameters can be changed on this host.
    sysctls_writable: bool,
    /// Running containers.
    running: usize,
    /// State of the unit files of the engine; empty without systemd or the engine.
    engine_units: BTreeMap<String, String>,
    /// unattended-upgrades is installed and enabled.
    upgrades: bool,
}

impl Check for Baseline {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let read = |io: &Io| {
            let tree = Tree::default();
            Evidence {
                name: tree.own_name(io, &host::hostname()),
                machine_id: tree.machine_id(io),
                distribution: tree.distribution(io),
                in_container: boot::in_container(io),
                unallocated: tree.unallocated(io),
                mtus: tree.mtus(io),
                sysctls: tree.sysctls(io, &[SOMAXCONN, INOTIFY]),
                sysctls_writable: tree.sysctls_writable(io),
                upgrades: tree.has(io, "/usr/bin/unattended-upgrade") && tree.has(io, "/etc/apt/apt.conf.d/20auto-upgrades"),
                ..Evidence::default()
            }
        };
        let mut e = blocking::run("the setup of the host", "/etc and /sys", READ_TIMEOUT, read).await?;
        e.running = cx.inventory.running().count();
        let docker =
            cx.inventory.engine.as_ref().filter(|e| e.name == "docker" && matches!(e.state, EngineState::Answers { .. }));
        let answers = cx.inventory.systemd.as_ref().is_some_and(|s| s.state == SystemdState::Answers);
        if docker.is_some() && answers {
            for unit in ["docker.service", "docker.socket"] {
                let state = cx.systemd()?.unit(unit).await?;
                if state.load == "loaded" {
                    e.engine_units.insert(unit.to_owned(), state.file_state.clone());
                }
            }
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = [engine(e), own_name(e), machine_id(e), self.settings_of_kernel(e), self.disk(e), packets(e), upgrades(e)];
        findings.into_iter().flatten().collect::<Vec<_>>().into()
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let plan = |spec: &FixSpec, actions: Vec<Action>, undo: Vec<Action>| {
            Plan::new(spec, &SPEC, finding, judged.target, actions).undo(undo)
        };
        if fix == ENABLE_UNIT.id {
            let unit = finding.subject.name.clone();
            match e.engine_units.get(&unit).map(String::as_str) {
                Some("disabled") => {}
                Some("masked") => return Err(Refusal::Policy(format!("{unit} is masked: disabled on purpose"))),
                Some(state) => return Err(Refusal::Precondition(format!("{unit} is {state}: enabling it has no effect"))),
                None => return Err(Refusal::Precondition(format!("systemd has no unit {unit}"))),
            }
            let undo = vec![Action::DisableUnit { unit: unit.clone() }];
            return Ok(plan(&ENABLE_UNIT, vec![Action::EnableUnit { unit }], undo));
        }
        if fix == ADD_HOSTNAME.id {
            if e.name.in_hosts || e.name.hostname.is_empty() {
                return Err(Refusal::Precondition("/etc/hosts contains the name already, or the host has none".to_owned()));
            }
            // as in Debian's installer; 127.0.0.1 keeps the name localhost
            let (path, line) = ("/etc/hosts".to_owned(), format!("127.0.1.1 {}", e.name.hostname));
            let undo = vec![Action::RemoveLine { path: path.clone(), line: line.clone() }];
            let plan = plan(&ADD_HOSTNAME, vec![Action::AddLine { path, line }], undo);
            return Ok(if e.in_container {
                plan.recurs("the engine writes /etc/hosts at each start of the container")
            } else {
                plan.recurs("if cloud-init manages it (manage_etc_hosts), it writes /etc/hosts at each boot")
            });
        }
        let (mut actions, mut undo) = (Vec::new(), Vec::new());
        for (key, now, minimum) in self.low_settings(e) {
            let (set, back) = sysctl::set(key, &now.to_string(), &minimum.to_string());
            actions.extend(set);
            undo.extend(back);
        }
        if actions.is_empty() {
            return Err(Refusal::Precondition("the kernel settings are not below their minimum".to_owned()));
        }
        Ok(plan(&SET_SYSCTL, actions, undo))
    }
}

fn info(message: impl Into<String>) -> Finding {
    Finding::new(&BASELINE, Severity::Info, Object::host(), message)
}

fn warn(message: impl Into<String>) -> Finding {
    Finding::new(&BASELINE, Severity::Warn, Object::host(), message)
}

/// The engine is not started at boot, so after a reboot no container runs.
fn engine(e: &Evidence) -> Option<Finding> {
    let service = e.engine_units.get("docker.service")?;
    let started = e.engine_units.values().any(|state| matches!(state.as_str(), "enabled" | "enabled-runtime"));
    (!started && e.running > 0).then(|| {
        let message = format!("docker.service is {service}: after a reboot no container is started");
        let subject = Object::named(Kind::Unit, "docker.service");
        let finding = Finding::new(&BASELINE, Severity::Warn, subject, message);
        if service == "masked" { finding } else { finding.fix(ENABLE_UNIT.id) }
    })
}

fn own_name(e: &Evidence) -> Option<Finding> {
    let n = &e.name;
    if n.in_hosts || n.by_module || n.hostname.is_empty() || n.hostname.starts_with("localhost") {
        return None;
    }
    let finding = if n.nameservers == 0 {
        warn(format!(
            "the host cannot resolve its own name {}: it is not in /etc/hosts, and no name server is configured",
            n.hostname
        ))
    } else {
        info(format!("the host's own name {} is not in /etc/hosts: programs that resolve it wait for a name server", n.hostname))
    };
    Some(finding.fix(ADD_HOSTNAME.id))
}

/// Without a machine id, D-Bus and the journal do not work; machines with the same id get the same DHCP lease.
fn machine_id(e: &Evidence) -> Option<Finding> {
    let id = e.machine_id.as_str();
    let valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && !id.bytes().all(|b| b == b'0');
    // an image without systemd has no machine id and needs none
    let systemd = !e.engine_units.is_empty() || !id.is_empty();
    (!valid && systemd && !e.in_container).then(|| {
        let shown = if id.is_empty() { "empty" } else { id };
        warn(format!("/etc/machine-id is {shown}, not 32 hex digits")).hint("systemd-machine-id-setup, then reboot")
    })
}

fn packets(e: &Evidence) -> Option<Finding> {
    let (egress, mtu) = e.mtus.egress.as_ref()?;
    let larger: Vec<String> = e.mtus.bridges.iter().filter(|(_, m)| m > mtu).map(|(name, m)| format!("{name} {m}")).collect();
    (!larger.is_empty()).then(|| {
        info(format!("{egress} has an MTU of {mtu} bytes, bridges of containers have a larger one: {}", larger.join(", ")))
            .hint("set `mtu` in daemon.json to the smaller size when the machine is provisioned; if path MTU discovery is filtered, large requests hang")
    })
}

fn upgrades(e: &Evidence) -> Option<Finding> {
    let apt = matches!(e.distribution.as_str(), "debian" | "ubuntu");
    (apt && !e.upgrades && !e.in_container)
        .then(|| info("security updates are not installed automatically: unattended-upgrades is not installed or disabled"))
}

impl Baseline {
    /// Kernel settings below their minimum: `(name, now, minimum)`.
    fn low_settings(&self, e: &Evidence) -> Vec<(&'static str, u64, u64)> {
        let now = |key: &str| e.sysctls.get(key).and_then(|v| v.parse::<u64>().ok());
        let many_containers = e.running >= MANY_CONTAINERS;
        let minimums = [(SOMAXCONN, self.settings.somaxconn, true), (INOTIFY, self.settings.inotify_instances, many_containers)];
        minimums
            .into_iter()
            .filter_map(|(key, minimum, matters)| Some((key, now(key).filter(|n| *n < minimum && matters)?, minimum)))
            .collect()
    }

    fn settings_of_kernel(&self, e: &Evidence) -> Option<Finding> {
        let low = self.low_settings(e);
        let list: Vec<String> = low.iter().map(|(key, now, minimum)| format!("{key} is {now}, wanted {minimum}")).collect();
        (!low.is_empty() && e.sysctls_writable).then(|| info(list.join("; ")).fix(SET_SYSCTL.id))
    }

    fn disk(&self, e: &Evidence) -> Option<Finding> {
        let share = |u: &Unallocated| u.unused as f64 * 100.0 / u.size.max(1) as f64;
        let counts = |u: &&Unallocated| u.unused >= MIN_UNALLOCATED_BYTES && share(u) >= self.settings.unallocated_percent;
        let u = e.unallocated.iter().find(counts)?;
        let message = format!(
            "{} of disk {} are unallocated behind its last partition {}, {}, limit {}",
            bytes(u.unused),
            u.disk,
            u.partition,
            percent(share(u)),
            percent(self.settings.unallocated_percent)
        );
        let number: String = u.partition.chars().rev().take_while(char::is_ascii_digit).collect();
        let number: String = number.chars().rev().collect();
        Some(
            info(message).hint(format!(
                "growpart /dev/{} {number}, then resize2fs or xfs_growfs: the disk is larger than the image",
                u.disk
            )),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The plan of a fix for the first finding that offers it.
    fn offered(fix: &str, e: &Evidence) -> Option<Result<Plan, Refusal>> {
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Baseline { settings: Settings::default() };
        let findings = check.judge(&judged, e).findings;
        let finding = findings.iter().find(|f| f.fixes.iter().any(|offered| offered == fix))?;
        Some(check.plan(fix, finding, &judged, e))
    }

    /// A host with a valid machine id and with this state of the unit of its engine.
    fn engine(state: &str) -> Evidence {
        Evidence {
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
            engine_units: [("docker.service".to_owned(), state.to_owned())].into(),
            running: 1,
            ..Evidence::default()
        }
    }

    #[test]
    fn engine_is_enabled_only_if_it_is_disabled() {
        let plan = offered(ENABLE_UNIT.id, &engine("disabled")).unwrap().unwrap();
        assert!(matches!(&plan.actions[..], [Action::EnableUnit { .. }]) && plan.undo.len() == 1, "{plan:?}");
        assert!(offered(ENABLE_UNIT.id, &engine("masked")).is_none());
        let refused = offered(ENABLE_UNIT.id, &engine("static")).unwrap().unwrap_err().to_string();
        assert!(refused.contains("is static: enabling it has no effect"), "{refused}");
    }

    #[test]
    fn own_name_is_added_unless_the_file_contains_it() {
        let name = OwnName { hostname: "web".into(), ..OwnName::default() };
        let e = Evidence { name, ..engine("enabled") };
        let plan = offered(ADD_HOSTNAME.id, &e).unwrap().unwrap();
        assert!(matches!(&plan.actions[..], [Action::AddLine { line, .. }] if line == "127.0.1.1 web"), "{plan:?}");
        assert!(plan.recurs.is_some_and(|why| why.contains("cloud-init")));
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Baseline { settings: Settings::default() };
        let finding = check.judge(&judged, &e).findings.remove(0);
        let mut now = e.clone();
        now.name.in_hosts = true;
        assert!(
            check.plan(ADD_HOSTNAME.id, &finding, &judged, &now).unwrap_err().to_string().contains("contains the name already")
        );
    }

    #[test]
    fn kernel_settings_are_raised_and_never_lowered() {
        let set = |value: &str| Evidence {
            sysctls: [(SOMAXCONN.to_owned(), value.to_owned())].into(),
            sysctls_writable: true,
            ..engine("enabled")
        };
        assert!(offered(SET_SYSCTL.id, &set("128")).unwrap().is_ok());
        assert!(offered(SET_SYSCTL.id, &set("65535")).is_none());
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let check = Baseline { settings: Settings::default() };
        let finding = check.judge(&judged, &set("128")).findings.remove(0);
        let refused = check.plan(SET_SYSCTL.id, &finding, &judged, &set("65535")).unwrap_err().to_string();
        assert!(refused.contains("are not below their minimum"), "{refused}");
    }
}
