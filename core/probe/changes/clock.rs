//! Steps of the wall clock, as logged by systemd on every change.

use jiff::Timestamp;

use super::logs;
use crate::model::{Change, ChangeKind};
use crate::probe::ProbeError;
use crate::probe::systemd::JournalLine;

/// `SD_MESSAGE_TIME_CHANGE` (sd-messages.h) from PID 1: other processes could forge the id.
const TIME_CHANGE: &[&str] = &["MESSAGE_ID=c7a787079b354eaaa9e77b371893cd27", "_PID=1"];

pub(super) async fn read(since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    match logs::in_journal(TIME_CHANGE, since).await? {
        Some(lines) => Ok(changes(&lines, since)),
        None => Err(ProbeError::Skip("no journal records clock changes".to_owned())),
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
    fn clock_changes_concern_time_and_tls() {
        let line = |second| JournalLine {
            at: Timestamp::from_second(second).unwrap_or_default(),
            text: "Time has been changed".to_owned(),
            by_systemd: true,
        };
        let found = changes(&[line(10), line(20)], Timestamp::from_second(15).unwrap_or_default());
        assert_eq!(found.iter().map(|c| (c.at.as_second(), c.summary())).collect::<Vec<_>>(), [(20, "clock set".to_owned())]);
        assert!(found[0].concerns.contains(&"runbook:tls".to_owned()));
    }
}
