//! Started, restarted and stopped services, from the timestamps of systemd: the last change of each.

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Change, ChangeKind};
use crate::probe::systemd::Unit;
use crate::probe::{ProbeCx, ProbeError};

/// A start this soon after the boot is part of the boot.
const BOOT_WINDOW: SignedDuration = SignedDuration::from_mins(5);

pub(super) async fn read(cx: &ProbeCx, since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    let systemd = cx.systemd()?;
    let booted = systemd.manager().await?.started;
    let names = cx.inventory.systemd.iter().flat_map(|s| &s.units).filter(|u| u.kind() == "service").map(|u| &u.name);
    // a unit that was removed meanwhile is skipped
    let units = join_all(names.map(|name| systemd.unit(name))).await;
    Ok(units.iter().flatten().filter_map(|unit| change(unit, booted, since)).collect())
}

fn change(unit: &Unit, booted: Option<Timestamp>, since: Timestamp) -> Option<Change> {
    let service = unit.service.as_ref()?;
    // an automatic restart is an effect, not a change; units started by timers come and go
    if service.restarts > 0 || unit.transient || (service.kind == "oneshot" && !service.remain_after_exit) {
        return None;
    }
    let (up, down) = (unit.active_since, unit.active_until);
    let stopped = unit.inactive_since.filter(|at| unit.active == "inactive" && up.is_some_and(|up| up <= *at));
    let (at, description) = match (stopped, up) {
        (Some(at), _) if unit.outcome() == "success" => (at, "stopped"),
        (_, Some(at)) if down.is_some_and(|down| down <= at) => (at, "restarted"),
        (_, Some(at)) if booted.is_none_or(|booted| at.duration_since(booted) > BOOT_WINDOW) => (at, "started"),
        _ => return None,
    };
    (at >= since).then(|| Change::new(at, ChangeKind::Unit, format!("unit:{}", unit.name), description))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::systemd::Service;

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(1_000_000 + second).ok()
    }

    fn unit(active: &str, times: [Option<Timestamp>; 3]) -> Unit {
        let service = Service { kind: "simple".into(), result: "success".into(), ..Service::default() };
        let [active_since, active_until, inactive_since] = times;
        Unit {
            name: "app.service".into(),
            active: active.into(),
            active_since,
            active_until,
            inactive_since,
            service: Some(service),
            ..Unit::default()
        }
    }

    fn described(unit: &Unit) -> Option<String> {
        change(unit, at(0), at(0)?).map(|c| c.what)
    }

    #[test]
    fn last_change_of_a_service_is_reported() {
        assert_eq!(described(&unit("active", [at(5000), at(4999), at(4999)])).as_deref(), Some("restarted"));
        assert_eq!(described(&unit("active", [at(5000), None, None])).as_deref(), Some("started"));
        assert_eq!(described(&unit("inactive", [at(5000), at(6000), at(6000)])).as_deref(), Some("stopped"));
        // started at boot, or before the period
        assert_eq!(described(&unit("active", [at(20), None, None])), None);
        assert_eq!(described(&unit("active", [at(-20), at(-30), at(-30)])), None);
        assert_eq!(described(&unit("inactive", [None, None, None])), None);
    }

    #[test]
    fn automatic_restart_and_oneshot_are_not_changes() {
        let mut looping = unit("active", [at(5000), at(4999), at(4999)]);
        looping.service.iter_mut().for_each(|s| s.restarts = 2);
        assert_eq!(described(&looping), None);
        let mut job = unit("inactive", [at(5000), at(6000), at(6000)]);
        job.service.iter_mut().for_each(|s| s.kind = "oneshot".into());
        assert_eq!(described(&job), None);
    }
}
