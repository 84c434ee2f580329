//! A timer that is disabled, although its job is essential and nothing else starts it.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::quantity::ago;
use opsctl_core::probe::io::crontab::{self, Crontabs};
use opsctl_core::probe::systemd::Unit;
use opsctl_core::probe::{Io, blocking};
use serde::{Deserialize, Serialize};

use super::{Settings, names};
use crate::shared::servers::READ_TIMEOUT;

/// Files that a job writes in every run (logrotate(8): the state file of Debian, and of Red Hat).
const WRITTEN: &[(&str, &[&str])] =
    &[("logrotate.service", &["/var/lib/logrotate/status", "/var/lib/logrotate/logrotate.status"])];

/// Programs that run others: their names in a crontab prove nothing.
const RUNNERS: &[&str] =
    &["sh", "bash", "dash", "env", "python", "python3", "perl", "nice", "ionice", "flock", "timeout", "chronic", "sudo"];

/// Time without a run after which a job counts as not started (judgement: 8 days, so that weekly jobs are silent).
const NOT_STARTED: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Starts of a job apart from its timer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Schedule {
    /// Lines of crontabs that run it.
    crons: Vec<String>,
    /// The crontabs could not be read completely.
    denied: bool,
    /// Last change of a file that each run writes.
    written: Option<Timestamp>,
}

/// Whether the timer is disabled and its job is essential, as far as systemd knows. Certificates are judged by the tls runbook. A
/// timer of the distribution counts only if it is checked for that; other packages may be installed and not in use. A masked timer
/// is disabled on purpose.
pub(super) fn is_candidate(s: &Settings, timer: &Unit, job: &Unit) -> bool {
    let off = timer.load == "loaded" && timer.active == "inactive" && timer.file_state == "disabled";
    let local = timer.fragment.starts_with("/etc/") || WRITTEN.iter().any(|(name, _)| *name == job.name);
    let essential = names::any(&s.critical_units, &job.name) && !job.name.starts_with("certbot");
    let idle = job.load == "loaded" && job.active == "inactive" && !job.file_state.starts_with("enabled");
    off && local && essential && idle && job.wanted_by.is_empty() && job.triggered_by.iter().all(|t| *t == timer.name)
}

/// Reads the other starts of a job.
pub(super) async fn read(job: &Unit) -> Schedule {
    let words = words(job);
    let files = WRITTEN.iter().find(|(name, _)| *name == job.name).map_or(&[][..], |(_, files)| *files);
    let read = blocking::run("crontabs", "/etc/cron.d", READ_TIMEOUT, move |io| {
        let schedule = of_crontabs(&words, crontab::read(io));
        Schedule { written: files.iter().filter_map(|file| modified(io, file)).max(), ..schedule }
    });
    read.await.unwrap_or_else(|_| Schedule { denied: true, ..Schedule::default() })
}

fn modified(io: &Io, path: &str) -> Option<Timestamp> {
    Timestamp::try_from(io.metadata(path).ok()?.modified().ok()?).ok()
}

fn of_crontabs(words: &[String], crontabs: Crontabs) -> Schedule {
    let runs = |line: &str| words.iter().any(|word| line.contains(word.as_str()));
    let lines = crontabs.lines.into_iter().filter(|line| !line.defers_to_systemd).map(|line| line.text);
    Schedule { crons: lines.filter(|line| runs(line)).collect(), denied: crontabs.denied, written: None }
}

/// Names by which a crontab runs the job: its unit, and the programs and scripts of its command.
fn words(job: &Unit) -> Vec<String> {
    let mut words = vec![job.name.trim_end_matches(".service").to_owned()];
    let commands = job.service.iter().flat_map(|s| &s.exec_start);
    let paths = commands.flat_map(|c| c.split(|c: char| c.is_whitespace() || "'\";&|".contains(c)));
    let names = paths.filter(|word| word.starts_with('/')).filter_map(|path| path.rsplit('/').next());
    words.extend(names.filter(|name| name.len() > 3 && !RUNNERS.contains(name)).map(str::to_owned));
    words
}

/// The message about a timer that is disabled, or the reason why nothing can be said about it. `None` if its job has another start.
pub(super) fn judge(now: Timestamp, timer: &Unit, job: &Unit, schedule: &Schedule) -> Option<Result<String, String>> {
    let last = schedule.written.max(job.starting_since).max(job.inactive_since);
    let recent = last.is_some_and(|t| now.duration_since(t) < NOT_STARTED);
    if recent || !schedule.crons.is_empty() {
        return None;
    }
    if schedule.denied {
        return Some(Err(format!("whether a crontab starts {}, the timer of which is disabled: permission denied", job.name)));
    }
    let last = last.map_or_else(|| "has not run since boot".to_owned(), |t| format!("ran last {}", ago(now, t)));
    Some(Ok(format!("{} is disabled, and nothing else starts {}, which {last}", timer.name, job.name)))
}

#[cfg(test)]
mod tests {
    use opsctl_core::probe::io::crontab::CronLine;
    use opsctl_core::probe::systemd::Service;

    use super::*;

    fn timer(file_state: &str) -> Unit {
        Unit {
            name: "db-backup.timer".into(),
            load: "loaded".into(),
            active: "inactive".into(),
            file_state: file_state.into(),
            fragment: "/etc/systemd/system/db-backup.timer".into(),
            ..Unit::default()
        }
    }

    fn job(command: &str) -> Unit {
        let service = Service { exec_start: vec![command.into()], ..Service::default() };
        Unit {
            name: "db-backup.service".into(),
            load: "loaded".into(),
            active: "inactive".into(),
            file_state: "static".into(),
            service: Some(service),
            ..Unit::default()
        }
    }

    fn is_off(timer: &Unit, job: &Unit) -> bool {
        is_candidate(&Settings::default(), timer, job)
    }

    #[test]
    fn disabled_timer_of_an_essential_job() {
        assert!(is_off(&timer("disabled"), &job("/usr/local/bin/dump-all")));
    }

    #[test]
    fn masked_or_static_timers_are_intended() {
        for state in ["masked", "static", "enabled"] {
            assert!(!is_off(&timer(state), &job("/usr/local/bin/dump-all")), "{state}");
        }
    }

    #[test]
    fn timer_of_a_package_that_is_not_in_use() {
        let of_package = Unit { fragment: "/lib/systemd/system/db-backup.timer".into(), ..timer("disabled") };
        assert!(!is_off(&of_package, &job("/usr/bin/dump-all")));
    }

    #[test]
    fn job_with_another_trigger() {
        let other = Unit { triggered_by: vec!["db-backup.timer".into(), "hourly.timer".into()], ..job("/usr/bin/dump-all") };
        assert!(!is_off(&timer("disabled"), &other));
    }

    #[test]
    fn crontab_that_runs_the_script() {
        let line = |text: &str, defers_to_systemd| CronLine { text: text.into(), defers_to_systemd };
        let job = job("/bin/bash -c '/usr/local/bin/dump-all --gzip'");
        let of = |lines: Vec<CronLine>| of_crontabs(&words(&job), Crontabs { lines, denied: false });
        let own = of(vec![line("0 3 * * * root nice /usr/local/bin/dump-all", false)]);
        assert_eq!(judge(Timestamp::UNIX_EPOCH, &timer("disabled"), &job, &own), None);
        // the shell alone, and a line that does nothing where systemd runs
        let none = of(vec![line("0 3 * * * root /bin/bash /root/x.sh", false), line("/usr/local/bin/dump-all", true)]);
        let message = judge(Timestamp::UNIX_EPOCH, &timer("disabled"), &job, &none);
        assert_eq!(
            message,
            Some(Ok(
                "db-backup.timer is disabled, and nothing else starts db-backup.service, which has not run since boot".into()
            ))
        );
    }

    #[test]
    fn unreadable_crontabs_are_unknown() {
        let denied = Schedule { denied: true, ..Schedule::default() };
        let found = judge(Timestamp::UNIX_EPOCH, &timer("disabled"), &job("/bin/x"), &denied);
        assert!(found.is_some_and(|found| found.is_err()));
    }

    #[test]
    fn recent_run_by_other_means() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1000);
        let written = |hours| Schedule { written: Some(now - SignedDuration::from_hours(hours)), ..Schedule::default() };
        let of = |hours| judge(now, &timer("disabled"), &job("/bin/x"), &written(hours));
        assert_eq!(of(24), None);
        assert!(of(24 * 9).is_some());
    }
}
