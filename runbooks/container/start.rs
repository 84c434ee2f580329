//! Reasons of failed starts, and plans of the container fixes.

use std::time::Duration;

use opsctl_core::model::address::last_port;
use opsctl_core::model::{Action, Finding, Judged, KeyKind, Plan, Refusal, Severity, ends, quantity};

use super::state::{Evidence, RAISE_MEMORY, SPEC, START, START_FAILED, STOP_LOOP, is_one_off, reason_of};
use crate::shared::obstacle::{Obstacle, refuse_while_prevented};
use crate::shared::processes::of_host;

/// The reason in the engine's error text.
fn reason(e: &Evidence) -> String {
    let error = e.container.state.error.as_str();
    if let Some(port) = port_in_use(error) {
        return match &e.port_owner {
            Some(owner) => format!("port {port} is already in use by {owner}"),
            None => format!("port {port} was already in use; it is free now"),
        };
    }
    let has = |text: &str| error.contains(text);
    if has("no space left on device") {
        "no space left on the engine's filesystem".to_owned()
    } else if has("read-only file system") {
        "the engine's filesystem is read-only".to_owned()
    } else if has("executable file not found") || (has("exec:") && has("no such file or directory")) {
        "its command does not exist in the image".to_owned()
    } else if has("permission denied") && has("exec") {
        "its command is not executable".to_owned()
    } else if has("not a directory") || has("Are you trying to mount a directory onto a file") {
        "a file is mounted on a directory or a directory on a file; Docker creates a directory when a bind source is missing"
            .to_owned()
    } else if has("mounts denied") || (has("bind source path does not exist")) {
        "a bind source does not exist".to_owned()
    } else if has("network") && has("not found") {
        "its network was removed".to_owned()
    } else {
        ends(innermost(error), 240)
    }
}

/// The part of a wrapped error that gives the reason: without the names of the layers that passed it on.
fn innermost(error: &str) -> &str {
    const LAYERS: &[&str] = &[
        "failed to create task for container",
        "failed to create shim task",
        "failed to create shim",
        "failed to start shim",
        "OCI runtime create failed",
        "OCI runtime start failed",
        "runc create failed",
        "crun create failed",
        "unable to start container process",
        "container_linux.go",
        "starting container process caused",
        "error during container init",
        "driver failed programming external connectivity on endpoint",
        "failed to set up container networking",
        "Error response from daemon",
    ];
    let mut rest = error.trim();
    while let Some((layer, inner)) = rest.split_once(": ") {
        if !LAYERS.iter().any(|l| layer.starts_with(l)) {
            break;
        }
        rest = inner;
    }
    rest.strip_suffix(": unknown").unwrap_or(rest)
}

/// The engine could not write the files of a container.
pub(super) fn cannot_write(error: &str) -> bool {
    error.contains("no space left on device") || error.contains("read-only file system")
}

/// Errors of the engine when iptables or overlay cannot load their kernel modules.
fn needs_module(error: &str) -> bool {
    ["can't initialize iptables", "Table does not exist", "modprobe", "operation not supported", "No such device"]
        .iter()
        .any(|words| error.contains(words))
}

/// The host port in `Bind for 0.0.0.0:8080 failed: port is already allocated` and
/// `failed to bind port 0.0.0.0:8080/tcp: … address already in use`.
pub(super) fn port_in_use(error: &str) -> Option<u16> {
    if !error.contains("port is already allocated") && !error.contains("address already in use") {
        return None;
    }
    error.split([' ', '/']).filter_map(|word| last_port(word.trim_end_matches(':'))).find(|port| *port > 0)
}

pub(super) fn judge(e: &Evidence) -> Option<Finding> {
    let c = &e.container;
    if c.state.error.is_empty() || c.state.running || !matches!(c.state.status.as_str(), "created" | "exited") {
        return None;
    }
    let why = reason(e);
    let mut finding = Finding::new(&START_FAILED, Severity::Crit, c.subject(), format!("{} could not be started: {why}", c.name))
        .since(c.state.finished_at.or(c.created))
        .key(KeyKind::Container, &c.id)
        .key_opt(KeyKind::Unit, c.system_unit())
        .cite("engine", &c.state.error)
        .cite("exit code", c.state.exit_code.to_string())
        .cite_opt("port used by", e.port_owner.clone())
        .fix_if(!is_one_off(c), START.id);
    if cannot_write(&c.state.error) {
        if let Some(filesystem) = &e.engine_filesystem {
            finding = finding.key(KeyKind::Filesystem, filesystem);
        }
    } else if needs_module(&c.state.error) {
        finding = of_host(finding);
    } else if port_in_use(&c.state.error).is_some() {
        finding =
            finding.hint("stop the process that uses the port or publish another port; the restart policy does not retry this");
    }
    Some(finding)
}

/// Plans of the fixes that start, stop or limit the container.
pub(super) fn plan(fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
    let c = &e.container;
    let id = c.id.clone();
    let health = c.health_test.as_ref();
    let until_healthy = health.map_or(0, |h| h.start_period_ms + h.retries * (h.interval_ms + h.timeout_ms));
    let until_healthy = Duration::from_millis(u64::try_from(until_healthy).unwrap_or(0)).min(Duration::from_secs(300));
    let within = Duration::from_secs(30).max(until_healthy);
    let plan = |spec, actions| Plan::new(spec, &SPEC, finding, judged.target, actions);
    let dependants = || e.dependants.iter().map(|d| format!("{d} depends on it"));
    match fix {
        f if f == START.id => {
            if let Some(full) = e.no_room.first() {
                return Err(Refusal::Precondition(format!(
                    "{} is a database and {} has no space left: it would panic again; free space first",
                    c.name, full.mountpoint
                )));
            }
            if c.state.running {
                return Err(Refusal::Precondition(format!("{} is running again", c.name)));
            }
            if let Some(port) = e.blocked_port {
                let owner = e.port_owner.as_deref().unwrap_or("another process");
                return Err(Refusal::Precondition(format!("port {port} is in use by {owner}")));
            }
            still_prevented(finding, e)?;
            if !e.image_present {
                return Err(Refusal::Precondition(format!("its image {} is not on this host", c.image)));
            }
            // systemd starts the container of a unit, and considers one that was started otherwise as not its own
            let (start, undo) = if let Some(unit) = c.system_unit() {
                (Action::StartUnit { unit: unit.to_owned() }, Action::StopUnit { unit: unit.to_owned() })
            } else {
                let stop = Action::StopContainer { id: id.clone(), timeout_s: c.stop_timeout.unwrap_or(10) };
                (Action::StartContainer { id }, stop)
            };
            // judgement: running for 15 s, so that a container that exits at once does not count as started
            Ok(plan(&START, vec![start])
                .undo(vec![undo])
                .affects(dependants())
                .downtime("none: the container is down already")
                .verified(within, Duration::from_secs(15)))
        }
        f if f == STOP_LOOP.id => {
            let restore = Action::SetRestartPolicy {
                id: id.clone(),
                policy: c.restart_policy.name.clone(),
                maximum_retry_count: c.restart_policy.maximum_retry_count,
            };
            let off = Action::SetRestartPolicy { id: id.clone(), policy: "no".to_owned(), maximum_retry_count: 0 };
            let stop = Action::StopContainer { id, timeout_s: c.stop_timeout.unwrap_or(10) };
            Ok(plan(&STOP_LOOP, vec![off, stop])
                .undo(vec![restore])
                .affects(dependants())
                .downtime("the container stays down until it is started")
                .recurs("the compose file still has the restart policy: recreating the container restores the loop")
                .verified(within, Duration::from_secs(2)))
        }
        f if f == RAISE_MEMORY.id => {
            let (memory, swap) = more_memory(e)?;
            let set = |memory, memory_swap| Action::SetMemory { id: id.clone(), memory, memory_swap };
            // a container in a restart loop has to stay up to prove that the new limit is enough
            let stable = if c.restart_count > 0 { 15 } else { 0 };
            let downtime = if c.state.running || c.state.restarting {
                "none: the limit changes while the container runs"
            } else {
                "none: the container does not run; the limit counts from its next start"
            };
            let recurs = "docker update does not change the compose file: set mem_limit there too, or recreating the container restores the old limit";
            Ok(plan(&RAISE_MEMORY, vec![set(memory, swap)])
                .undo(vec![set(c.memory, c.memory_swap)])
                .downtime(downtime)
                .recurs(recurs)
                .verified(within, Duration::from_secs(stable)))
        }
        _ => Err(Refusal::Precondition(format!("there is no fix {fix} for {}", finding.code))),
    }
}

/// Refuses a start that would fail with the reason of the last one.
fn still_prevented(finding: &Finding, e: &Evidence) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::Precondition(why));
    if finding.code == START_FAILED.id && port_in_use(&e.container.state.error).is_none() {
        return match &e.obstacle {
            Some(Obstacle::Gone(_)) => Ok(()),
            Some(Obstacle::Present(why)) => refuse(format!("the start would fail again: {why}")),
            Some(Obstacle::Permanent) | None => {
                refuse("the start would fail again: remove the cause in the engine's error first".to_owned())
            }
        };
    }
    if e.container.state.exit_code == 0 {
        return Ok(());
    }
    let by_hand = format!("docker start {}", e.container.name);
    refuse_while_prevented(reason_of(e).reason().as_ref(), e.log_obstacle.as_ref(), &by_hand)
}

/// Twice the limit, if the increase is at most nine tenths of the available memory (judgement: `MemAvailable` - 10 %).
fn more_memory(e: &Evidence) -> Result<(i64, i64), Refusal> {
    let old = e.container.memory;
    if old <= 0 {
        return Err(Refusal::Precondition("the container has no memory limit".to_owned()));
    }
    let Some((available, _)) = e.host_memory else {
        return Err(Refusal::Precondition("the host's free memory could not be read".to_owned()));
    };
    let new = old.saturating_mul(2);
    let headroom = i64::try_from(available / 10 * 9).unwrap_or(i64::MAX);
    if new - old > headroom {
        let have = quantity::bytes(available);
        return Err(Refusal::Precondition(format!("the host has only {have} available, too little to raise the limit")));
    }
    let swap = match e.container.memory_swap {
        unlimited_or_unset @ (-1 | 0) => unlimited_or_unset,
        swap => swap.saturating_add(new - old),
    };
    Ok((new, swap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_parsed_from_old_and_new_errors() {
        let old = "driver failed programming external connectivity on endpoint b (abc): Bind for 127.0.0.1:18099 failed: port is already allocated";
        assert_eq!(port_in_use(old), Some(18099));
        let proxy = "Error starting userland proxy: listen tcp4 127.0.0.1:18099: bind: address already in use";
        assert_eq!(port_in_use(proxy), Some(18099));
        let new = "failed to bind host port 0.0.0.0:8080/tcp: address already in use";
        assert_eq!(port_in_use(new), Some(8080));
        let v6 = "Bind for ::1:8080 failed: port is already allocated";
        assert_eq!(port_in_use(v6), Some(8080));
        assert_eq!(port_in_use(&v6.replace("::1:", ":::")), Some(8080));
        assert_eq!(port_in_use(&v6.replace("::1:", "[::1]:")), Some(8080));
        assert_eq!(port_in_use("OCI runtime create failed: exec: \"x:1\""), None);
    }
}
