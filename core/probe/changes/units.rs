//! Services that were started, restarted or stopped, as systemd remembers them: the last time of each.

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use crate::model::{Change, ChangeKind};
use crate::probe::systemd::Unit;
use crate::probe::{ProbeCx, ProbeError};

/// What comes up so soon after the machine belongs to its boot.
const BOOT: SignedDuration = SignedDuration::from_mins(5);

pub(super) async fn read(cx: &ProbeCx, since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    let systemd = cx.systemd()?;
    let booted = systemd.manager().await?.started;
    let names = cx.inventory.systemd.iter().flat_map(|s| &s.units).filter(|u| u.kind() == "service").map(|u| &u.name);
    // one that is gone meanwhile was not changed by anybody who matters
    let units = join_all(names.map(|name| systemd.unit(name))).await;
    Ok(units.iter().flatten().filter_map(|unit| change(unit, booted, since)).collect())
}

fn change(unit: &Unit, booted: Option<Timestamp>, since: Timestamp) -> Option<Change> {
    let service = unit.service.as_ref()?;
    // what systemd restarts by itself is an effect, and what a timer starts comes and goes
    if service.restarts > 0 || unit.transient || (service.kind == "oneshot" && !service.remain_after_exit) {
        return None;
    }
    let (up, down) = (unit.active_since, unit.active_until);
    let stopped = unit.inactive_since.filter(|at| unit.active == "inactive" && up.is_some_and(|up| up <= *at));
    let (at, what) = match (stopped, up) {
        (Some(at), _) if unit.outcome() == "success" => (at, "stopped"),
        (_, Some(at)) if down.is_some_and(|down| down <= at) => (at, "restarted"),
        (_, Some(at)) if booted.is_none_or(|booted| at.duration_since(booted) > BOOT) => (at, "started"),
        _ => return None,
    };
    (at >= since).then(|| Change::new(at, ChangeKind::Unit, format!("unit:{}", unit.name), what))
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

    fn told(unit: &Unit) -> Option<String> {
        change(unit, at(0), at(0)?).map(|c| c.what)
    }

    #[test]
    fn the_last_time_of_each_is_told() {
        assert_eq!(told(&unit("active", [at(5000), at(4999), at(4999)])).as_deref(), Some("restarted"));
        assert_eq!(told(&unit("active", [at(5000), None, None])).as_deref(), Some("started"));
        assert_eq!(told(&unit("inactive", [at(5000), at(6000), at(6000)])).as_deref(), Some("stopped"));
        // it came up with the machine, or long ago
        assert_eq!(told(&unit("active", [at(20), None, None])), None);
        assert_eq!(told(&unit("active", [at(-20), at(-30), at(-30)])), None);
        assert_eq!(told(&unit("inactive", [None, None, None])), None);
    }

    #[test]
    fn what_systemd_does_by_itself_is_no_change() {
        let mut looping = unit("active", [at(5000), at(4999), at(4999)]);
        looping.service.iter_mut().for_each(|s| s.restarts = 2);
        assert_eq!(told(&looping), None);
        let mut job = unit("inactive", [at(5000), at(6000), at(6000)]);
        job.service.iter_mut().for_each(|s| s.kind = "oneshot".into());
        assert_eq!(told(&job), None);
    }
}
