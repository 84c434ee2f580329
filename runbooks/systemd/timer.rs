//! Timers that do not fire, and timer jobs that do not finish.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Plan, Refusal, Severity,
    quantity::{ago, duration},
};
use opsctl_core::probe::logs::journal_of;
use opsctl_core::probe::systemd::{Timer, Unit};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::disabled::{self, Schedule};
use super::unit::{self, START};
use super::{Settings, inactive, plans, run};

const LATE: Code = Code {
    id: "systemd.timer-late",
    severities: &[Severity::Warn],
    when: "a timer is enabled and not started, can never fire, or has not fired for twice its period; or its job has run for over {job_hours}, or stays active after its run; or the timer of an essential job is disabled and nothing else starts the job",
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
    /// Other starts of an essential job with a disabled timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<Schedule>,
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
        let mut timer = unit::Evidence { unit, others, ..unit::Evidence::default() };
        if not_started(&timer) {
            // without the journal only the reason is missing
            let lines = journal_of(&timer.unit.name).await.unwrap_or_default();
            timer.cycle = run::ordering_cycle(&timer.unit, &lines);
        }
        let schedule =
            if disabled::is_candidate(&self.settings, &timer.unit, &job) { Some(disabled::read(&job).await) } else { None };
        Ok(Evidence { timer, job, booted, schedule })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let u = &e.timer.unit;
        let Some(timer) = &u.timer else { return Judgement::default() };
        let disabled = e.schedule.as_ref().and_then(|s| disabled::judge(judged.taken_at, u, &e.job, s));
        let fault = match disabled {
            Some(Err(gap)) => return Judgement { gaps: vec![gap], ..Judgement::default() },
            Some(Ok(message)) => {
                let hint = format!("`systemctl enable --now {0}`; if its job is not needed: `systemctl mask {0}`", u.name);
                Some((message, Some(hint)))
            }
            None => self.fault(judged, e, timer),
        };
        let Some((message, hint)) = fault else { return Judgement::default() };
        let mut finding = unit::about(u, &LATE, Severity::Warn, message)
            .cite("starts", &timer.unit)
            .cite("when", timer.calendar.join(", "))
            .cite_opt("fired last", timer.last.map(|t| format!("{t:.0}")));
        if let Some(hint) = hint {
            finding = finding.hint(hint);
        }
        vec![finding.fix_if(not_started(&e.timer), START.id)].into()
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        if let Some(state) = not_loaded(e) {
            return Err(Refusal::Precondition(format!("{}, which it starts, is {state}", e.job.name)));
        }
        plans::plan(fix, &SPEC, finding, judged, &e.timer)
    }
}

/// Whether the timer is enabled in an active unit and not started.
fn not_started(e: &unit::Evidence) -> bool {
    let u = &e.unit;
    let enabled = matches!(u.file_state.as_str(), "enabled" | "enabled-runtime");
    let is_wanted = u.wanted_by.iter().any(|w| e.others.get(w).is_some_and(|state| state == "active"));
    u.active == "inactive" && enabled && is_wanted && u.condition != Some(false)
}

/// The state of a unit file that prevents the start of the job: `not-found`, `masked`.
fn not_loaded(e: &Evidence) -> Option<&str> {
    Some(e.job.load.as_str()).filter(|load| !load.is_empty() && *load != "loaded")
}

/// The reason why an active timer never fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Never {
    /// It counts from the last run of its unit, which has not run since boot.
    NoFirstRun,
    /// Its calendar has no further date.
    NoDate,
}

/// Whether an active timer waits for nothing. A timer relative to boot has elapsed after it fired, a single date may be in the
/// past, and the end of a running job schedules the next run.
fn never(u: &Unit, timer: &Timer, job: &Unit) -> Option<Never> {
    let elapsed = u.active == "active" && u.sub == "elapsed" && timer.next.is_none() && !timer.next_since_boot;
    let idle = matches!(job.active.as_str(), "inactive" | "failed");
    if !elapsed || !idle || timer.last.is_some() || timer.starts_by_itself || u.transient {
        return None;
    }
    match (timer.every_s.is_empty(), timer.calendar.is_empty()) {
        (false, true) => Some(Never::NoFirstRun),
        (true, false) if timer.calendar.iter().all(|c| calendar_period(c).is_some()) => Some(Never::NoDate),
        _ => None,
    }
}

/// The start of a job that stays active after its run, so that its timer cannot start it again; `None` before the next run is
/// due.
fn stays_active(judged: &Judged<'_>, e: &Evidence, timer: &Timer) -> Option<Timestamp> {
    let job = e.job.service.as_ref().filter(|s| s.kind == "oneshot" && s.remain_after_exit)?;
    let ended = e.job.active == "active" && job.main_pid == 0;
    let since = e.job.active_since.filter(|_| ended && e.timer.unit.active == "active")?;
    let due = period(timer)?.checked_add(MIN_DELAY)?;
    (judged.taken_at.duration_since(since) > due).then_some(since)
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
    /// The message of a fault, and its hint if it is not the general one.
    fn fault(&self, judged: &Judged<'_>, e: &Evidence, timer: &Timer) -> Option<(String, Option<String>)> {
        let (u, job) = (&e.timer.unit, &timer.unit);
        let ago = |since: Timestamp| ago(judged.taken_at, since);
        if not_started(&e.timer) {
            let (why, hint) = match not_loaded(e) {
                Some(state) => (
                    format!("{job}, which it starts, is {state}"),
                    Some(format!("restore or unmask {job}, then start {}", u.name)),
                ),
                None if !e.timer.cycle.is_empty() => (
                    format!("systemd removed its start to break an ordering cycle ({})", e.timer.cycle.join(", ")),
                    Some(inactive::cycle_hint(&u.name)),
                ),
                None => (format!("{job} never runs"), None),
            };
            return Some((format!("{} is enabled but not started: {why}", u.name), hint));
        }
        if let Some(since) = self.endless(judged, e) {
            let (lasts, limit) = (duration(judged.taken_at.duration_since(since)), self.settings.job_hours);
            return Some((format!("{job} has run for {lasts}, limit {limit} h: its timer does not fire meanwhile"), None));
        }
        match never(u, timer, &e.job) {
            Some(Never::NoFirstRun) => {
                let message = format!(
                    "{} never fires: OnUnitActiveSec= or OnUnitInactiveSec= counts from the last run of {job}, which has not run \
                     since boot",
                    u.name
                );
                let hint = format!(
                    "add OnBootSec= or OnActiveSec= to {}; `systemctl start {job}` helps until the next boot",
                    u.fragment
                );
                return Some((message, Some(hint)));
            }
            Some(Never::NoDate) => {
                let dates = timer.calendar.join(", ");
                let message = format!("{} never fires: OnCalendar={dates} matches no date", u.name);
                let hint =
                    format!("correct OnCalendar= in {}: `systemd-analyze calendar '{dates}'` prints its dates", u.fragment);
                return Some((message, Some(hint)));
            }
            None => {}
        }
        if let Some(since) = stays_active(judged, e, timer) {
            let message =
                format!("{job} ran {} and stays active (RemainAfterExit=yes): {} cannot start it again", ago(since), u.name);
            return Some((
                message,
                Some(format!("remove RemainAfterExit= from {}, then `systemctl stop {job}`", e.job.fragment)),
            ));
        }
        let (last, period) = overdue(judged, e, timer)?;
        Some((format!("{} fired {}, its period is {}", u.name, ago(last), duration(period)), None))
    }

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

    fn unit(active: &str, sub: &str) -> Unit {
        Unit { active: active.into(), sub: sub.into(), ..Unit::default() }
    }

    fn elapsed(timer: &Timer) -> Option<Never> {
        never(&unit("active", "elapsed"), timer, &unit("inactive", "dead"))
    }

    #[test]
    fn timers_that_never_fire() {
        assert_eq!(elapsed(&Timer { every_s: vec![14_400], ..Timer::default() }), Some(Never::NoFirstRun));
        assert_eq!(elapsed(&Timer { calendar: vec!["*-02-30 00:00:00".into()], ..Timer::default() }), Some(Never::NoDate));
    }

    #[test]
    fn timers_that_fired_or_will_fire() {
        let at = Timestamp::from_second(1_000_000).ok();
        for timer in [
            // OnBootSec= alone, after it fired
            Timer { starts_by_itself: true, last: at, ..Timer::default() },
            // OnBootSec= and OnUnitActiveSec=
            Timer { every_s: vec![60], starts_by_itself: true, next_since_boot: true, ..Timer::default() },
            Timer { every_s: vec![60], last: at, ..Timer::default() },
            Timer { calendar: vec!["*-01-01 00:00:00".into()], next: at, ..Timer::default() },
            // a single date
            Timer { calendar: vec!["2020-01-01 00:00:00".into()], ..Timer::default() },
        ] {
            assert_eq!(elapsed(&timer), None, "{timer:?}");
        }
        let repeats = Timer { every_s: vec![60], ..Timer::default() };
        for (timer, job) in [
            (unit("active", "waiting"), unit("inactive", "dead")),
            (unit("inactive", "dead"), unit("inactive", "dead")),
            (unit("active", "elapsed"), unit("activating", "start")),
        ] {
            assert_eq!(never(&timer, &repeats, &job), None, "{timer:?}");
        }
    }

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
