//! Timers that do not fire, and timer jobs that do not finish.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Plan, Refusal, Severity,
    quantity::{ago, duration},
};
use opsctl_core::probe::systemd::{Timer, Unit};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::unit::{self, START};
use super::{Settings, plans};

const LATE: Code = Code {
    id: "systemd.timer-late",
    severities: &[Severity::Warn],
    when: "a timer is enabled and not started, has not fired for twice its period, or its job has run for over {job_hours}",
    hint: "`systemctl list-timers --all` lists the last activations; a job that never finishes keeps its timer from firing",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "systemd.timer",
    title: "systemd timers fire on schedule",
    codes: &[LATE],
    fixes: &[START],
    timeout: Duration::from_secs(9),
};

/// Minimum delay that is reported, also for timers that fire every minute.
const MIN_DELAY: SignedDuration = SignedDuration::from_mins(10);

pub(super) struct TimerCheck {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    timer: unit::Evidence,
    /// The unit started by the timer.
    job: Unit,
    /// When PID 1 was started.
    booted: Option<Timestamp>,
}

impl Check for TimerCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.unit_targets(|u| u.kind() == "timer" && u.active != "failed")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let systemd = cx.systemd()?;
        let unit = (*systemd.unit(&target.name).await?).clone();
        let listed = systemd.units().await?;
        let job = match unit.timer.as_ref().map(|t| t.unit.as_str()).filter(|u| !u.is_empty()) {
            Some(name) => (*systemd.unit(name).await?).clone(),
            None => Unit::default(),
        };
        let others = unit::others(&unit, &listed);
        let booted = systemd.manager().await?.started;
        Ok(Evidence { timer: unit::Evidence { unit, others, ..unit::Evidence::default() }, job, booted })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let u = &e.timer.unit;
        let Some(timer) = &u.timer else { return Judgement::default() };
        let message = match (not_started(e), self.endless(judged, e), overdue(judged, e, timer)) {
            (true, ..) => format!("{} is enabled but not started: {} never runs", u.name, timer.unit),
            (_, Some(since), _) => format!(
                "{} has run for {}, limit {} h: its timer does not fire meanwhile",
                timer.unit,
                duration(judged.taken_at.duration_since(since)),
                self.settings.job_hours
            ),
            (_, _, Some((last, period))) => {
                format!("{} fired {}, its period is {}", u.name, ago(judged.taken_at, last), duration(period))
            }
            _ => return Judgement::default(),
        };
        let finding = unit::about(u, &LATE, Severity::Warn, message)
            .cite("starts", &timer.unit)
            .cite("when", timer.calendar.join(", "))
            .cite_opt("fired last", timer.last.map(|t| format!("{t:.0}")));
        vec![if not_started(e) { finding.fix(START.id) } else { finding }].into()
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        plans::plan(fix, &SPEC, finding, judged, &e.timer)
    }
}

/// Whether the timer is enabled in an active unit and not started.
fn not_started(e: &Evidence) -> bool {
    let u = &e.timer.unit;
    let enabled = matches!(u.file_state.as_str(), "enabled" | "enabled-runtime");
    let is_wanted = u.wanted_by.iter().any(|w| e.timer.others.get(w).is_some_and(|state| state == "active"));
    u.active == "inactive" && enabled && is_wanted && u.condition != Some(false)
}

/// The last activation and the period, if the last activation was more than two periods ago and the host was up all that time.
fn overdue(judged: &Judged<'_>, e: &Evidence, timer: &Timer) -> Option<(Timestamp, SignedDuration)> {
    let (last, period) = (timer.last?, period(timer)?);
    let slack = SignedDuration::from_secs(i64::try_from(timer.random_delay_s).unwrap_or(0));
    // a timer does not fire while its job runs, and a delay of a few minutes is tolerated
    let runs = matches!(e.job.active.as_str(), "active" | "activating" | "reloading" | "deactivating");
    let allowed = period.checked_mul(2)?.checked_add(slack)?.max(MIN_DELAY);
    let up = judged.taken_at.duration_since(e.booted?);
    (e.timer.unit.active == "active" && !runs && judged.taken_at.duration_since(last) > allowed && up > allowed)
        .then_some((last, period))
}

/// The maximum time between two activations; `None` for a calendar without a fixed period.
fn period(timer: &Timer) -> Option<SignedDuration> {
    let every = timer.every_s.iter().map(|s| SignedDuration::from_secs(i64::try_from(*s).unwrap_or(i64::MAX)));
    let calendars = timer.calendar.iter().filter_map(|c| calendar_period(c));
    every.chain(calendars).min()
}

/// systemd writes calendars in full: `Mon *-*-* 00:00:00`, `*-*-01 00:00:00`, `*-*-* 06,18:00:00`. The first of year, month, day,
/// hour and minute that is fixed, read from the end, gives an upper bound.
pub(super) fn calendar_period(spec: &str) -> Option<SignedDuration> {
    let words: Vec<&str> = spec.split_whitespace().collect();
    let (weekday, date, time) = match words.as_slice() {
        [date, time] | [date, time, _] if date.contains('-') => (None, *date, *time),
        [weekday, date, time] | [weekday, date, time, _] => (Some(*weekday), *date, *time),
        _ => return None,
    };
    let mut date = date.rsplitn(3, '-');
    let (day, month, year) = (date.next()?, date.next()?, date.next()?);
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (time.next()?, time.next()?);
    let free = |field: &str| field == "*";
    let days = |n: i64| SignedDuration::from_hours(24 * n);
    // a list or range within a field only makes the true period shorter, except for days of the week
    Some(if !free(year) {
        return None;
    } else if !free(month) {
        days(366)
    } else if !free(day) {
        days(31)
    } else if weekday.is_some() {
        days(7)
    } else if !free(hour) {
        days(1)
    } else if !free(minute) {
        SignedDuration::from_hours(1)
    } else {
        SignedDuration::from_mins(1)
    })
}

impl TimerCheck {
    /// The start of its job, if the job has exceeded the time limit.
    fn endless(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Timestamp> {
        let since = e.job.changed?;
        let limit = SignedDuration::from_hours(self.settings.job_hours);
        let job = e.job.service.as_ref().is_some_and(|s| s.kind == "oneshot");
        let runs = e.job.active == "activating";
        (job && runs && judged.taken_at.duration_since(since) > limit).then_some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendar_period_is_its_first_fixed_field() {
        for (spec, hours) in [
            ("*-*-* 06:00:00", Some(24)),
            ("*-*-* 06,18:00:00", Some(24)),
            ("Mon *-*-* 00:00:00", Some(7 * 24)),
            ("*-*-01 00:00:00", Some(31 * 24)),
            ("*-01-01 00:00:00", Some(366 * 24)),
            ("*-*-* *:00:00", Some(1)),
            ("*-*-* 06:00:00 Europe/Berlin", Some(24)),
            ("Mon..Fri *-*-* 06:00:00 UTC", Some(7 * 24)),
            ("2027-01-01 00:00:00", None),
            ("garbage", None),
            ("", None),
        ] {
            assert_eq!(calendar_period(spec), hours.map(SignedDuration::from_hours), "{spec}");
        }
    }
}
