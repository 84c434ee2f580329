//! A service that neither completes its start nor its stop. Its state is `activating`, which `systemctl --failed` does not list.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, Judged, Severity, quantity::duration};
use opsctl_core::probe::systemd::Unit;

use super::Settings;
use super::unit::{Evidence, STUCK, about, explained, with_faults, with_journal};

/// Begin of a start or stop that has not completed. A oneshot job is `activating` as long as it runs, and a restart loop is a
/// finding of its own.
fn since(unit: &Unit) -> Option<Timestamp> {
    let service = unit.service.as_ref()?;
    match unit.active.as_str() {
        "activating" if service.kind != "oneshot" && !unit.sub.starts_with("auto-restart") => unit.starting_since,
        "deactivating" => unit.active_until,
        _ => None,
    }
}

/// Begin and duration of a start or stop that exceeds its limit.
pub(super) fn lasting(s: &Settings, now: Timestamp, unit: &Unit) -> Option<(Timestamp, SignedDuration)> {
    let begin = since(unit)?;
    let lasts = now.duration_since(begin);
    (lasts > limit(s)).then_some((begin, lasts))
}

fn limit(s: &Settings) -> SignedDuration {
    SignedDuration::from_mins(s.stuck_min)
}

pub(super) fn judge(s: &Settings, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let unit = &e.unit;
    let service = unit.service.as_ref()?;
    let (begin, lasts) = lasting(s, judged.taken_at, unit)?;
    let starting = unit.active == "activating";
    let step = match (&service.control, service.kind.as_str()) {
        (Some(command), _) => format!("its {}= {} is still running", command.setting, command.program()),
        (None, "notify" | "notify-reload") if starting => format!("it has not reported readiness (Type={})", service.kind),
        (None, "forking") if starting => "its start command has not exited (Type=forking)".to_owned(),
        (None, "dbus") if starting => format!("it has not acquired its bus name {}", service.bus_name),
        (None, _) if starting => "its start is not complete".to_owned(),
        (None, _) => "its processes have not exited".to_owned(),
    };
    let (verb, timeout, setting) = if starting {
        ("starting", service.timeout_start_s, "TimeoutStartSec=")
    } else {
        ("stopping", service.timeout_stop_s, "TimeoutStopSec=")
    };
    let unlimited = if timeout.is_none() { format!(", and no {setting} ends it") } else { String::new() };
    let message =
        format!("{} has been {verb} for {}, limit {}: {step}{unlimited}", unit.name, duration(lasts), duration(limit(s)));
    let finding = about(unit, &STUCK, Severity::Warn, explained(&message, e)).since(Some(begin)).cite("state", &unit.sub);
    Some(with_faults(with_journal(finding, e), e))
}
