//! The readers of replication slots in use, and whether they advance.

use jiff::Timestamp;
use opsctl_core::model::quantity::seconds;
use serde::{Deserialize, Serialize};

use super::wal::Slot;

/// Seconds without a reply of a reader that are judged: a reader replies every 10 s (`wal_receiver_status_interval`), and the server
/// ends a silent one after 60 s unless `wal_sender_timeout` is 0.
const MAX_SILENCE_S: f64 = 60.0;

/// Seconds without progress of an active slot that are judged (judgement).
pub(super) const MIN_STILL_S: f64 = 600.0;

/// The session that reads an active slot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Reader {
    pub(super) role: Option<String>,
    pub(super) app: Option<String>,
    pub(super) client: String,
    pub(super) pid: Option<i32>,
    /// `streaming`, `catchup`; `None` if it is no walsender.
    pub(super) state: Option<String>,
    /// Seconds since its last reply; `None` before version 12, and before its first reply.
    pub(super) reply_s: Option<f64>,
}

impl Reader {
    /// `repl (debezium, pid 812) from 10.0.0.3`.
    pub(super) fn label(&self) -> String {
        let app = self.app.as_deref().filter(|a| !a.is_empty()).map_or(String::new(), |a| format!("{a}, "));
        let pid = self.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        format!("{} ({app}pid {pid}) from {}", self.role.as_deref().unwrap_or("?"), self.client)
    }

    /// A predicate for a reader that has not replied in time.
    pub(super) fn silence(&self) -> Option<String> {
        let silent = self.reply_s.filter(|s| *s > MAX_SILENCE_S)?;
        Some(format!("has not replied for {}", seconds(silent)))
    }
}

/// The metric of the position of a slot in earlier runs.
pub(super) fn position_metric(slot: &str) -> String {
    format!("slot position {slot}")
}

/// `16/B374D848` as a number of bytes.
pub(super) fn position(lsn: &str) -> Option<f64> {
    let (high, low) = lsn.split_once('/')?;
    let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
    Some(f64::from(high) * 4_294_967_296.0 + f64::from(low))
}

/// Seconds since the remembered position if the slot has not advanced since then.
pub(super) fn still_s(slot: &Slot, now: Timestamp) -> Option<f64> {
    let before = slot.before.as_ref()?;
    let advanced = position(slot.restart_lsn.as_deref()?)? - before.value;
    (advanced.abs() < 1.0).then(|| now.duration_since(before.at).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_of_an_lsn() {
        assert_eq!(position("0/16B3748"), Some(23_803_720.0));
        assert_eq!(position("1/0"), Some(4_294_967_296.0));
        assert_eq!((position("0"), position("x/1"), position("")), (None, None, None));
    }
}
