//! The units worth a look of their own, so that a host with hundreds of idle ones is still read in milliseconds.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use opsctl_core::model::{SystemdRef, SystemdState, UnitRef};
use opsctl_core::probe::blocking;
use opsctl_core::probe::lag;
use opsctl_core::probe::systemd::{NoSystemd, Systemd, init_is_idle, linked};

/// Time limit of reading the directories of unit files.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds systemd and its units. PID 1 that idles has `limit` to answer; one that works has longer.
pub(super) async fn find(limit: Duration) -> (SystemdRef, Option<Arc<Systemd>>) {
    let mut found = pin!(ask());
    match lag::timeout(limit, &mut found).await {
        Err(lag::Elapsed) if init_is_idle().await => (SystemdRef { state: SystemdState::Hung, units: Vec::new() }, None),
        Err(lag::Elapsed) => found.await,
        Ok(found) => found,
    }
}

async fn ask() -> (SystemdRef, Option<Arc<Systemd>>) {
    let without = |state| (SystemdRef { state, units: Vec::new() }, None);
    let systemd = match Systemd::connect().await {
        Ok(systemd) => systemd,
        Err(NoSystemd::NotInit) => return without(SystemdState::NotInit),
        Err(NoSystemd::NoBus) => return without(SystemdState::NoBus),
        Err(NoSystemd::Hung) => return without(SystemdState::Hung),
        Err(NoSystemd::Failed(error)) => return without(SystemdState::Failed { error }),
    };
    match systemd.units().await {
        Ok(listed) => {
            let listed = listed.iter().map(|l| (l.name.clone(), (l.load.clone(), l.active.clone(), l.sub.clone()))).collect();
            let files = match blocking::run("unit files", "/etc/systemd/system", READ_TIMEOUT, linked).await {
                Ok(files) => files,
                Err(e) => return without(SystemdState::Failed { error: e.to_string() }),
            };
            let units = worth_a_look(listed, &files);
            (SystemdRef { state: SystemdState::Answers, units }, Some(Arc::new(systemd)))
        }
        Err(opsctl_core::probe::ProbeError::Timeout { .. }) => without(SystemdState::Hung),
        Err(e) => without(SystemdState::Failed { error: e.to_string() }),
    }
}

/// Joins what is loaded with what is on disk: a masked or enabled unit may not be loaded at all.
fn worth_a_look(loaded: BTreeMap<String, (String, String, String)>, files: &BTreeMap<String, &'static str>) -> Vec<UnitRef> {
    let mut all = loaded;
    for (name, state) in files {
        // templates are no units
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
        .filter(interesting)
        .collect()
}

fn interesting(unit: &UnitRef) -> bool {
    let service = unit.kind() == "service";
    let timer = unit.kind() == "timer";
    let idle = unit.active == "inactive";
    let enabled = unit.file_state == "enabled";
    unit.active == "failed"
        || matches!(unit.load.as_str(), "bad-setting" | "error")
        // the distribution's folders want many units that are not installed; this host's own mean it
        || (unit.load == "not-found" && (!idle || enabled))
        || (service && (!idle || enabled || unit.load == "masked"))
        || (timer && (!idle || enabled))
        // what somebody wrote here may have a mistake in it, which systemd tells nobody
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
        ];
        let loaded = loaded.into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
        let files = [("app.service", "enabled"), ("getty@.service", "enabled"), ("docker.service", "masked")];
        let files = files.into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
        let names: Vec<String> = worth_a_look(loaded, &files).into_iter().map(|u| u.name).collect();
        assert_eq!(names, ["app.service", "broken.service", "data.mount", "docker.service", "fstrim.timer", "nginx.service"]);
    }
}
