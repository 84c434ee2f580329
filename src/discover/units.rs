//! Selects the units to check, so that a host with hundreds of idle units is still read in milliseconds.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::model::{SystemdRef, SystemdState, UnitRef};
use opsctl_core::probe::blocking;
use opsctl_core::probe::lag;
use opsctl_core::probe::systemd::{Systemd, SystemdError, init_is_idle, linked};

/// Time limit of reading the directories of unit files.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads systemd and its units. An idle PID 1 has to respond within `limit`; a busy one has more time.
pub(super) async fn find(limit: Duration) -> (SystemdRef, Option<Arc<Systemd>>) {
    let mut found = pin!(query());
    match lag::timeout(limit, &mut found).await {
        Err(lag::Elapsed) if init_is_idle().await => (SystemdRef { state: SystemdState::Hung, units: Vec::new() }, None),
        Err(lag::Elapsed) => found.await,
        Ok(found) => found,
    }
}

async fn query() -> (SystemdRef, Option<Arc<Systemd>>) {
    let without = |state| (SystemdRef { state, units: Vec::new() }, None);
    let systemd = match Systemd::connect().await {
        Ok(systemd) => systemd,
        Err(SystemdError::NotInit) => return without(SystemdState::NotInit),
        Err(SystemdError::NoBus) => return without(SystemdState::NoBus),
        Err(SystemdError::Hung) => return without(SystemdState::Hung),
        Err(SystemdError::Failed(error)) => return without(SystemdState::Failed { error }),
    };
    match systemd.units().await {
        Ok(listed) => {
            let listed = listed.iter().map(|l| (l.name.clone(), (l.load.clone(), l.active.clone(), l.sub.clone()))).collect();
            let files = match blocking::run("unit files", "/etc/systemd/system", READ_TIMEOUT, linked).await {
                Ok(files) => files,
                Err(e) => return without(SystemdState::Failed { error: e.to_string() }),
            };
            let units = select(listed, &files);
            (SystemdRef { state: SystemdState::Answers, units }, Some(Arc::new(systemd)))
        }
        Err(opsctl_core::probe::ProbeError::Timeout { .. }) => without(SystemdState::Hung),
        Err(e) => without(SystemdState::Failed { error: e.to_string() }),
    }
}

/// Joins loaded units with unit files: a masked or enabled unit is not necessarily loaded.
fn select(loaded: BTreeMap<String, (String, String, String)>, files: &BTreeMap<String, &'static str>) -> Vec<UnitRef> {
    let mut all = loaded;
    for (name, state) in files {
        // templates are not units
        if !name.contains("@.") {
            let load = if *state == "masked" { "masked" } else { "loaded" };
            all.entry(name.clone()).or_insert_with(|| (load.to_owned(), "inactive".to_owned(), "dead".to_owned()));
        }
    }
    all.into_iter()
        .map(|(name, (load, active, sub))| {
            let file_state = files.get(&name).copied().unwrap_or_default().to_owned();
            UnitRef { name, load, active, sub, file_state }
        })
        .filter(is_checked)
        .collect()
}

fn is_checked(unit: &UnitRef) -> bool {
    let service = unit.kind() == "service";
    let timer = unit.kind() == "timer";
    let idle = unit.active == "inactive";
    let enabled = unit.file_state == "enabled";
    unit.active == "failed"
        || matches!(unit.load.as_str(), "bad-setting" | "error")
        // units of the distribution reference many units that are not installed; local ones are intentional
        || (unit.load == "not-found" && (!idle || enabled))
        || (service && (!idle || enabled || unit.load == "masked"))
        || (timer && (!idle || enabled || unit.file_state == "installed"))
        // started at boot, like an enabled service
        || (enabled && matches!(unit.kind(), "socket" | "path" | "mount" | "automount" | "swap"))
        // local unit files can contain errors that systemd only logs
        || unit.file_state == "local"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_units_of_the_distribution_are_left_out() {
        let state = |load: &str, active: &str, sub: &str| (load.to_owned(), active.to_owned(), sub.to_owned());
        let loaded = [
            ("nginx.service", state("loaded", "active", "running")),
            ("rescue.service", state("loaded", "inactive", "dead")),
            ("auditd.service", state("not-found", "inactive", "dead")),
            ("broken.service", state("bad-setting", "inactive", "dead")),
            ("data.mount", state("loaded", "failed", "failed")),
            ("proc.mount", state("loaded", "active", "mounted")),
            ("fstrim.timer", state("loaded", "active", "waiting")),
            ("uuidd.socket", state("loaded", "inactive", "dead")),
        ];
        let loaded = loaded.into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
        let files = [
            ("app.service", "enabled"),
            ("getty@.service", "enabled"),
            ("docker.service", "masked"),
            ("docker.socket", "enabled"),
            ("logrotate.timer", "installed"),
        ];
        let files = files.into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
        let names: Vec<String> = select(loaded, &files).into_iter().map(|u| u.name).collect();
        let expected = [
            "app.service",
            "broken.service",
            "data.mount",
            "docker.service",
            "docker.socket",
            "fstrim.timer",
            "logrotate.timer",
            "nginx.service",
        ];
        assert_eq!(names, expected);
    }
}
