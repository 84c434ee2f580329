//! Steps of the wall clock, as systemd saw them: it says so whenever somebody sets the clock.

use jiff::Timestamp;

use super::logs;
use crate::model::{Change, ChangeKind};
use crate::probe::ProbeError;
use crate::probe::systemd::JournalLine;

/// `SD_MESSAGE_TIME_CHANGE` (sd-messages.h), by the first process: others could say it too.
const SET: &[&str] = &["MESSAGE_ID=c7a787079b354eaaa9e77b371893cd27", "_PID=1"];

pub(super) async fn read(since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    match logs::in_journal(SET, since).await? {
        Some(lines) => Ok(changes(&lines, since)),
        None => Err(ProbeError::Skip("no journal tells whether the clock was set".to_owned())),
    }
}

fn changes(lines: &[JournalLine], since: Timestamp) -> Vec<Change> {
    let change = |l: &JournalLine| {
        let change = Change::new(l.at, ChangeKind::Clock, "clock", "set");
        change.concerning("runbook:time").concerning("runbook:tls")
    };
    lines.iter().filter(|l| l.at >= since).map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_told_with_what_depends_on_the_time() {
        let line = |second| JournalLine {
            at: Timestamp::from_second(second).unwrap_or_default(),
            text: "Time has been changed".to_owned(),
            by_systemd: true,
        };
        let found = changes(&[line(10), line(20)], Timestamp::from_second(15).unwrap_or_default());
        assert_eq!(found.iter().map(|c| (c.at.as_second(), c.says())).collect::<Vec<_>>(), [(20, "clock set".to_owned())]);
        assert!(found[0].concerns.contains(&"runbook:tls".to_owned()));
    }
}
