//! The kernel clock: synchronisation, the programs that discipline it, and steps since the last run.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, DependsOn, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan,
    Refusal, Risk, Role, Sample, Severity,
    quantity::{ago, duration},
};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::kernel_clock;
use opsctl_core::probe::kernel::kernel_clock::KernelClock;
use opsctl_core::probe::kernel::setup::{Tree, clock_daemons};
use opsctl_core::probe::kernel::{boot, host, tasks};
use opsctl_core::probe::systemd::{ClockStep, clock_steps};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::processes::of_host;
use crate::shared::servers::READ_TIMEOUT;

const UNSYNCED: Code = Code {
    id: "time.unsynced",
    severities: &[Severity::Info, Severity::Warn],
    when: "{grace_s} after boot and after the start of its time service the kernel's clock is not synchronised (info in a container: the host synchronises the clock)",
    hint: "enable one time service (chrony, or systemd-timesyncd) that reaches its servers; if the hypervisor sets the clock, waive this",
    depends_on: &[&[DependsOn::likely(Role::NamesBroken, KeyKind::Names, "")]],
    ..Code::BASE
};
pub(super) const OFFSET: Code = Code {
    id: "time.offset",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the kernel still has to correct over {offset_warn_ms} (warn); the clock differs from two references that agree by over {reference_warn_s} (warn) or {reference_crit_s} (crit)",
    hint: "a wrong clock breaks certificates, tokens, logs and databases: step the clock (`chronyc makestep`) and find the cause of the drift",
    impacts: &[Impact::likely(Role::ClockWrong, KeyKind::Host, "the clock is wrong")],
    ..Code::BASE
};
const JUMPED: Code = Code {
    id: "time.jumped",
    severities: &[Severity::Warn],
    when: "the clock was set by over {jump_warn_s} in the last 24 h of this boot, by the log of a time service or of systemd, or since a run of opsctl; not in the first 17 min of a boot, and not by a resume from suspend",
    hint: "timers, logs and leases of that time are affected; find the program that set the clock (journalctl -u chrony -u systemd-timesyncd); a virtual machine that was paused or restored resumes with its old time",
    ..Code::BASE
};
const RTC_LOCAL: Code = Code {
    id: "time.rtc-local",
    severities: &[Severity::Info],
    when: "the hardware clock is set to local time: it is off by an hour after daylight saving changes",
    hint: "timedatectl set-local-rtc 0",
    ..Code::BASE
};
const TWO_DAEMONS: Code = Code {
    id: "time.two-daemons",
    severities: &[Severity::Info],
    when: "more than one program disciplines the clock: they conflict",
    hint: "disable all but one",
    ..Code::BASE
};

const ENABLE_SYNC: FixSpec = FixSpec {
    id: "time.enable-sync",
    risk: Risk::R1,
    title: "enable and start systemd-timesyncd, if it is installed and no other time service runs",
};

static SPEC: CheckSpec = CheckSpec {
    id: "time.clock",
    title: "the system clock is synchronised",
    codes: &[UNSYNCED, OFFSET, JUMPED, RTC_LOCAL, TWO_DAEMONS],
    fixes: &[ENABLE_SYNC],
    timeout: Duration::from_secs(6),
};

const TIMESYNCD: &str = "systemd-timesyncd.service";
/// Units of other time services, by the names of distributions.
const OTHER_SERVICES: &[&str] =
    &["chrony.service", "chronyd.service", "ntp.service", "ntpd.service", "ntpsec.service", "openntpd.service"];
/// Time for the first response of a time server: the second query follows after 32 s (timesyncd.conf(5), `PollIntervalMinSec`=).
const SYNC_TIMEOUT: Duration = Duration::from_secs(75);
/// Upper bound of the kernel's maximum error while no program corrects the clock, in microseconds
/// (include/linux/timex.h, `NTP_PHASE_LIMIT`).
const UNKNOWN_ERROR_US: i64 = 16_000_000;
/// Period in which a jump is reported, in seconds.
const JUMP_PERIOD_S: i64 = 24 * 3600;
/// Time after boot in which a time service may step the clock.
const AFTER_BOOT: SignedDuration = SignedDuration::from_mins(17);

pub(super) struct Clock {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    kernel: KernelClock,
    uptime_s: i64,
    daemons: Vec<String>,
    /// Seconds since the start of the oldest of them; `None` in recordings from before it was read.
    daemon_age_s: Option<i64>,
    rtc_local: bool,
    in_container: bool,
    boot_id: String,
    /// Boot time by the wall clock, in seconds since 1970: constant within a boot unless the clock is set.
    booted_s: f64,
    /// The same at the oldest run of opsctl in this boot and the last 24 h.
    before: Option<Sample>,
    /// Steps of the last day by the journal, oldest first.
    steps: Vec<ClockStep>,
    /// Unit of another time service that has failed.
    failed: Option<String>,
    /// State of the unit file of systemd-timesyncd; `None` if it is not installed or systemd is not running.
    timesyncd: Option<String>,
}

impl Check for Clock {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let kernel = kernel_clock::read().map_err(|e| ProbeError::io("the state of the clock", "adjtimex(2)", &e))?;
        let boot_id = host::read_info().await.boot_id;
        let read = |io: &Io| (Tree::default().rtc_is_local(io), boot::in_container(io));
        let (rtc_local, in_container) = blocking::run("the hardware clock", "/etc/adjtime", READ_TIMEOUT, read).await?;
        let table = cx.processes().await?;
        let daemons = clock_daemons(&table).await;
        let uptime_s = clock::since_boot().as_secs();
        // the kernel truncates names
        let is_daemon = |comm: &str| daemons.iter().any(|d| d == comm || (comm.len() == 15 && d.starts_with(comm)));
        let running = table.iter().filter(|p| is_daemon(&p.comm));
        let age = |ticks: u64| uptime_s.saturating_sub(i64::try_from(tasks::seconds(ticks)).unwrap_or(0));
        let daemon_age_s = running.map(|p| age(p.start_ticks)).max();
        let mut e = Evidence {
            kernel,
            uptime_s,
            daemons,
            daemon_age_s,
            rtc_local,
            in_container,
            booted_s: clock::boot_time().as_duration().as_secs_f64(),
            before: cx.history.oldest(&object(&boot_id), "booted_s", JUMP_PERIOD_S),
            boot_id,
            // without a journal only runs of opsctl show a step
            steps: match cx.systemd() {
                Ok(_) if !in_container => clock_steps().await.unwrap_or_default(),
                _ => Vec::new(),
            },
            failed: failed_service(&cx.inventory),
            timesyncd: None,
        };
        if !e.kernel.synchronised
            && let Ok(systemd) = cx.systemd()
        {
            let unit = systemd.unit(TIMESYNCD).await?;
            e.timesyncd = (unit.load == "loaded").then(|| unit.file_state.clone());
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut j = Judgement {
            samples: vec![Sample {
                object: object(&e.boot_id),
                metric: "booted_s".to_owned(),
                at: judged.taken_at,
                value: e.booted_s,
            }],
            ..Judgement::default()
        };
        if !e.kernel.synchronised && self.is_starting(e) && !e.daemons.is_empty() {
            j.pending.push("the clock to be synchronised".to_owned());
        }
        let findings = [self.unsynced(e), self.offset(e), self.stepped(judged, e).or_else(|| self.jumped(judged, e))];
        j.findings = findings.into_iter().flatten().map(of_host).chain(rtc_local(e)).chain(two_daemons(e)).collect();
        j
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let refuse = |why: &str| Err(Refusal::Precondition(why.to_owned()));
        if !e.daemons.is_empty() {
            return refuse(&format!("{} is already running: find out why it does not synchronise", e.daemons.join(" and ")));
        }
        if let Some(failed) = &e.failed {
            return refuse(&format!("{failed}, the time service of this host, has failed: repair it, two services conflict"));
        }
        let unit = || TIMESYNCD.to_owned();
        match e.timesyncd.as_deref() {
            None => refuse("systemd-timesyncd is not installed; install chrony or systemd-timesyncd"),
            Some("masked") => Err(Refusal::Policy("systemd-timesyncd is masked: it was disabled on purpose".to_owned())),
            Some(state) => {
                let enabled = state == "enabled";
                let mut actions = vec![Action::StartUnit { unit: unit() }];
                let mut undo = vec![Action::StopUnit { unit: unit() }];
                if !enabled {
                    actions.insert(0, Action::EnableUnit { unit: unit() });
                    undo.push(Action::DisableUnit { unit: unit() });
                }
                Ok(Plan::new(&ENABLE_SYNC, &SPEC, finding, judged.target, actions)
                    .undo(undo)
                    .affects(["the clock is corrected, in one step if the offset is large".to_owned()])
                    .verified(SYNC_TIMEOUT, Duration::ZERO))
            }
        }
    }
}

fn failed_service(inventory: &Inventory) -> Option<String> {
    let mut units = inventory.systemd.iter().flat_map(|s| &s.units);
    units.find(|u| u.active == "failed" && OTHER_SERVICES.contains(&u.name.as_str())).map(|u| u.name.clone())
}

/// The history key of the clock in one boot.
fn object(boot_id: &str) -> String {
    format!("clock@{boot_id}")
}

impl Clock {
    /// The host or its time service was started less than the grace period ago.
    fn is_starting(&self, e: &Evidence) -> bool {
        let of_service = e.daemon_age_s.filter(|_| !e.daemons.is_empty()).is_some_and(|age| age < self.settings.grace_s);
        e.uptime_s < self.settings.grace_s || of_service
    }

    fn unsynced(&self, e: &Evidence) -> Option<Finding> {
        if e.kernel.synchronised || self.is_starting(e) {
            return None;
        }
        let service =
            if e.daemons.is_empty() { "no time service runs".to_owned() } else { format!("{} runs", e.daemons.join(" and ")) };
        let up = duration(SignedDuration::from_secs(e.uptime_s));
        let message = format!("the clock is not synchronised {up} after boot, and {service}");
        let bound = if e.kernel.max_error_us >= UNKNOWN_ERROR_US {
            "unknown, over 16 s".to_owned()
        } else {
            format!("{} ms", e.kernel.max_error_us / 1000)
        };
        let severity = if e.in_container { Severity::Info } else { Severity::Warn };
        let mut finding = Finding::new(&UNSYNCED, severity, Object::host(), message).cite("maximum error", bound);
        // a running service that cannot reach its servers must be fixed, not supplemented by another
        if e.daemons.is_empty() && e.timesyncd.is_some() && !e.in_container {
            finding = finding.fix(ENABLE_SYNC.id);
        }
        if !e.daemons.is_empty() {
            finding = finding.key(KeyKind::Names, "host");
        }
        Some(finding)
    }

    fn offset(&self, e: &Evidence) -> Option<Finding> {
        let offset = e.kernel.offset_us.unsigned_abs() as f64 / 1000.0;
        (e.kernel.synchronised && offset > self.settings.offset_warn_ms).then(|| {
            let message = format!(
                "the kernel still has to correct the clock by {offset:.0} ms, limit {:.0} ms",
                self.settings.offset_warn_ms
            );
            Finding::new(&OFFSET, Severity::Warn, Object::host(), message)
        })
    }

    /// The largest step that the journal reports. A time service steps the clock after boot, and a resume changes it by the length
    /// of the suspend.
    fn stepped(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let is_late = |s: &&ClockStep| s.since_boot_s >= AFTER_BOOT.as_secs_f64() && !s.resumed;
        let is_recent = |s: &&ClockStep| judged.taken_at.duration_since(s.at).as_secs() < JUMP_PERIOD_S;
        let by = |s: &ClockStep| s.by_s.unwrap_or(0.0);
        let large: Vec<&ClockStep> =
            e.steps.iter().filter(is_late).filter(is_recent).filter(|s| by(s).abs() > self.settings.jump_warn_s).collect();
        let largest = large.iter().copied().max_by(|a, b| by(a).abs().total_cmp(&by(b).abs()))?;
        let direction = if by(largest) > 0.0 { "forward" } else { "back" };
        let more = if large.len() > 1 { format!(", the largest of {} steps", large.len()) } else { String::new() };
        let message = format!(
            "the clock was set {direction} by {:.1} s {}, limit {:.0} s{more}",
            by(largest).abs(),
            ago(judged.taken_at, largest.at),
            self.settings.jump_warn_s
        );
        let lines: Vec<String> = large.iter().rev().take(5).map(|s| format!("{:.0} {}", s.at, s.line)).collect();
        Some(
            Finding::new(&JUMPED, Severity::Warn, Object::host(), message)
                .since(Some(largest.at))
                .cite("journal", lines.join("\n")),
        )
    }

    fn jumped(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let before = e.before.as_ref()?;
        let by = e.booted_s - before.value;
        let since_boot = SignedDuration::from_secs(e.uptime_s).saturating_sub(judged.taken_at.duration_since(before.at));
        if by.abs() <= self.settings.jump_warn_s || since_boot < AFTER_BOOT {
            return None;
        }
        let direction = if by > 0.0 { "forward" } else { "back" };
        let message = format!(
            "the clock was set {direction} by {:.1} s since {:.0}, limit {:.0} s",
            by.abs(),
            before.at,
            self.settings.jump_warn_s
        );
        Some(Finding::new(&JUMPED, Severity::Warn, Object::host(), message))
    }
}

fn rtc_local(e: &Evidence) -> Option<Finding> {
    e.rtc_local.then(|| Finding::new(&RTC_LOCAL, Severity::Info, Object::host(), "the hardware clock is set to local time"))
}

fn two_daemons(e: &Evidence) -> Option<Finding> {
    (e.daemons.len() > 1).then(|| {
        let message = format!("{} all discipline the clock", e.daemons.join(", "));
        Finding::new(&TWO_DAEMONS, Severity::Info, Object::host(), message)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use jiff::Timestamp;

    use super::*;

    /// A host without a synchronised clock an hour after boot.
    fn unsynced(timesyncd: Option<&str>) -> Evidence {
        Evidence { uptime_s: 3600, timesyncd: timesyncd.map(str::to_owned), ..Evidence::default() }
    }

    fn plan(e: &Evidence) -> Result<Plan, Refusal> {
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH };
        let check = Clock { settings: Settings::default() };
        let finding = check.judge(&judged, e).findings.remove(0);
        check.plan(ENABLE_SYNC.id, &finding, &judged, e)
    }

    #[test]
    fn time_service_is_enabled_if_none_runs() {
        let disabled = plan(&unsynced(Some("disabled"))).unwrap();
        assert!(matches!(&disabled.actions[..], [Action::EnableUnit { .. }, Action::StartUnit { .. }]), "{disabled:?}");
        assert!(matches!(&disabled.undo[..], [Action::StopUnit { .. }, Action::DisableUnit { .. }]));
        let stopped = plan(&unsynced(Some("enabled"))).unwrap();
        assert!(matches!(&stopped.actions[..], [Action::StartUnit { .. }]) && stopped.undo.len() == 1, "{stopped:?}");
    }

    #[test]
    fn time_service_that_was_just_started_gets_time() {
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH };
        let check = Clock { settings: Settings::default() };
        let started = |age| Evidence { daemons: vec!["chronyd".into()], daemon_age_s: Some(age), ..unsynced(None) };
        let young = check.judge(&judged, &started(5));
        assert!(young.findings.is_empty() && young.pending.len() == 1, "{young:?}");
        assert_eq!(check.judge(&judged, &started(3000)).findings.len(), 1);
    }

    /// Messages about these steps, as seconds ago, size, and seconds after boot.
    fn steps(steps: &[(i64, Option<f64>, f64)]) -> Vec<String> {
        let now = Timestamp::from_second(1_795_262_400).unwrap();
        let step = |(ago, by_s, since_boot_s): &(i64, Option<f64>, f64)| ClockStep {
            at: now.checked_sub(SignedDuration::from_secs(*ago)).unwrap(),
            by_s: *by_s,
            since_boot_s: *since_boot_s,
            line: "System clock was stepped".into(),
            resumed: false,
        };
        let kernel = KernelClock { synchronised: true, ..KernelClock::default() };
        let e = Evidence { kernel, uptime_s: 90_000, steps: steps.iter().map(step).collect(), ..Evidence::default() };
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: now };
        let findings = Clock { settings: Settings::default() }.judge(&judged, &e).findings;
        findings.into_iter().map(|f| f.message).collect()
    }

    #[test]
    fn steps_in_the_journal() {
        let one = steps(&[(7200, Some(-3600.5), 80_000.0)]);
        assert_eq!(one, ["the clock was set back by 3600.5 s 2 h ago, limit 1 s"]);
        let two = steps(&[(7200, Some(12.0), 80_000.0), (3600, Some(40.0), 85_000.0)]);
        assert_eq!(two, ["the clock was set forward by 40.0 s 60 min ago, limit 1 s, the largest of 2 steps"]);
        assert!(steps(&[(89_000, Some(3600.0), 30.0)]).is_empty(), "after boot");
        assert!(steps(&[(60, Some(-0.9), 80_000.0), (50, None, 80_010.0)]).is_empty(), "a leap second, an unknown size");
    }

    #[test]
    fn second_time_service_is_refused() {
        let refused = |e: &Evidence| plan(e).unwrap_err().to_string();
        let running = Evidence { daemons: vec!["chronyd".into()], ..unsynced(Some("disabled")) };
        assert!(refused(&running).contains("find out why it does not synchronise"));
        let failed = Evidence { failed: Some("chrony.service".into()), ..unsynced(Some("disabled")) };
        assert!(refused(&failed).contains("chrony.service, the time service of this host, has failed"));
        assert!(refused(&unsynced(None)).contains("is not installed"));
        assert!(matches!(plan(&unsynced(Some("masked"))), Err(Refusal::Policy(_))));
    }
}
