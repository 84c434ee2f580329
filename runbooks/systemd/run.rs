//! The lines of one run in the journal of a unit.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::probe::systemd::{JournalLine, Unit};

/// Lines of a new process can precede the line of systemd about its start: they come through another socket.
const REORDERED: SignedDuration = SignedDuration::from_millis(500);

/// The lines of the last run that has ended; `ended` is the time of the last automatic restart of a unit that is active again. All
/// lines if none of that run are left.
pub(super) fn last(lines: &[JournalLine], ended: Option<Timestamp>) -> &[JournalLine] {
    let end = ended.map_or(lines.len(), |ended| lines.partition_point(|l| l.at <= ended));
    let until = lines.get(..end).unwrap_or(lines);
    let starts = |l: &JournalLine| l.by_systemd && (l.text.starts_with("Starting ") || l.text.starts_with("Started "));
    let Some(start) = until.iter().rposition(starts) else { return if until.is_empty() { lines } else { until } };
    let (before, run) = until.split_at(start);
    let begin = run.first().map(|l| l.at).unwrap_or_default();
    let reordered = before.partition_point(|l| l.at.duration_since(begin) < -REORDERED);
    // lines before one of systemd about the end of the run before belong to that run
    let ended = before.iter().rposition(|l| l.by_systemd && !starts(l)).map_or(0, |at| at + 1);
    until.get(reordered.max(ended)..).unwrap_or(until)
}

/// The units of the ordering cycle for which systemd removed the start of a unit from the last transaction; empty if the unit was
/// started since.
pub(super) fn ordering_cycle(unit: &Unit, lines: &[JournalLine]) -> Vec<String> {
    let removed = format!("Job {}/start deleted to break ordering cycle", unit.name);
    let Some(at) = lines.iter().rposition(|l| l.by_systemd && l.text.contains(&removed)) else { return Vec::new() };
    let removed_at = lines.get(at).map(|l| l.at);
    if unit.starting_since.or(unit.inactive_since) > removed_at {
        return Vec::new();
    }
    // the lines before it name the units of the cycle, the first one again at the end
    let named = |l: &JournalLine| -> Option<String> {
        let (_, job) = ["Found ordering cycle on ", "Found dependency on "].iter().find_map(|text| l.text.split_once(text))?;
        job.split_whitespace().next()?.rsplit_once('/').map(|(unit, _)| unit.to_owned())
    };
    let mut cycle: Vec<String> = Vec::new();
    for line in lines.get(..at).unwrap_or_default().iter().rev() {
        let Some(unit) = named(line) else { break };
        if !cycle.contains(&unit) {
            cycle.push(unit);
        }
        if line.text.contains("Found ordering cycle on ") {
            break;
        }
    }
    cycle.reverse();
    if cycle.is_empty() { vec![unit.name.clone()] } else { cycle }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(ms: i64, by_systemd: bool, text: &str) -> JournalLine {
        JournalLine { at: Timestamp::from_millisecond(ms).unwrap_or_default(), text: text.into(), by_systemd }
    }

    fn texts(lines: &[JournalLine]) -> Vec<&str> {
        lines.iter().map(|l| l.text.as_str()).collect()
    }

    #[test]
    fn last_run_begins_with_its_start() {
        let lines = [
            line(0, true, "Starting app.service..."),
            line(100, false, "FATAL: old error"),
            line(200, true, "app.service: Failed with result 'exit-code'."),
            line(60_000, false, "connecting"),
            line(60_010, true, "Started app.service."),
            line(60_100, false, "FATAL: new error"),
        ];
        assert_eq!(texts(last(&lines, None)), ["connecting", "Started app.service.", "FATAL: new error"]);
    }

    #[test]
    fn run_that_ended_just_before_is_another_run() {
        let lines = [
            line(0, true, "Started app.service."),
            line(100, false, "run.sh: No such file or directory"),
            line(110, true, "app.service: Failed with result 'exit-code'."),
            line(290, false, "no-such-tool: command not found"),
            line(300, true, "Started app.service."),
        ];
        assert_eq!(texts(last(&lines, None)), ["no-such-tool: command not found", "Started app.service."]);
    }

    #[test]
    fn last_run_of_a_restarted_unit_is_the_one_before() {
        let lines = [
            line(0, true, "Started app.service."),
            line(100, false, "FATAL: error"),
            line(5_000, true, "app.service: Scheduled restart job, restart counter is at 1."),
            line(5_100, true, "Started app.service."),
            line(5_200, false, "ready"),
        ];
        let ended = Timestamp::from_millisecond(5_000).ok();
        assert!(texts(last(&lines, ended)).contains(&"FATAL: error") && !texts(last(&lines, ended)).contains(&"ready"));
        assert_eq!(last(&[], ended).len(), 0);
    }

    #[test]
    fn unit_that_an_ordering_cycle_removed() {
        let lines = [
            line(0, true, "multi-user.target: Found ordering cycle on a.service/start"),
            line(1, true, "multi-user.target: Found dependency on app.service/start"),
            line(2, true, "multi-user.target: Found dependency on a.service/start"),
            line(
                3,
                true,
                "multi-user.target: Job app.service/start deleted to break ordering cycle starting with a.service/start",
            ),
        ];
        let unit = |name: &str| Unit { name: name.into(), ..Unit::default() };
        assert_eq!(ordering_cycle(&unit("app.service"), &lines), ["app.service", "a.service"]);
        assert!(ordering_cycle(&unit("a.service"), &lines).is_empty());
        let started = Unit { starting_since: Timestamp::from_millisecond(10).ok(), ..unit("app.service") };
        assert!(ordering_cycle(&started, &lines).is_empty());
        // any program can write the same text
        let forged = lines.map(|l| JournalLine { by_systemd: false, ..l });
        assert!(ordering_cycle(&unit("app.service"), &forged).is_empty());
    }
}
