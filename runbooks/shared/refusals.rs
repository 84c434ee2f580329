//! Logins of clients that a server rejects again and again, by the lines of its log.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::Severity;
use opsctl_core::model::quantity::{ago, count_of, duration};
use serde::{Deserialize, Serialize};

/// Rejections from which a client counts (judgement): a typing error is repeated less often.
const MIN_REJECTIONS: u64 = 5;

/// Age of the last rejection up to which it counts as lasting (judgement): clients retry at least once a minute.
const RECENT: SignedDuration = SignedDuration::from_mins(2);

/// Length of rejections that is warn: a changed password is not in all places at the same moment (judgement).
const WARN: SignedDuration = SignedDuration::from_mins(3);

/// The same for crit (judgement).
const CRIT: SignedDuration = SignedDuration::from_mins(10);

/// A rejected login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) at: Timestamp,
    pub(crate) user: String,
    /// Address of the client, without its port; empty if the log does not contain it.
    pub(crate) client: String,
    /// Reason, as a phrase.
    pub(crate) why: String,
}

/// The rejected logins of one user from one client for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) user: String,
    pub(crate) client: String,
    pub(crate) why: String,
    pub(crate) count: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

/// Groups rejections, the most frequent first.
pub(crate) fn grouped(rejections: Vec<Rejection>) -> Vec<Refused> {
    let mut groups: BTreeMap<(String, String, String), Refused> = BTreeMap::new();
    for r in rejections {
        let key = (r.user.clone(), r.client.clone(), r.why.clone());
        let one = Refused { user: r.user, client: r.client, why: r.why, count: 0, first: r.at, last: r.at };
        let group = groups.entry(key).or_insert(one);
        group.count += 1;
        (group.first, group.last) = (group.first.min(r.at), group.last.max(r.at));
    }
    let mut groups: Vec<Refused> = groups.into_values().collect();
    groups.sort_by_key(|g| std::cmp::Reverse(g.count));
    groups.truncate(20);
    groups
}

impl Refused {
    /// The severity of rejections that last until now; `None` for a few, for a short time, or in the past.
    pub(crate) fn severity(&self, now: Timestamp) -> Option<Severity> {
        if self.count < MIN_REJECTIONS || now.duration_since(self.last) > RECENT {
            return None;
        }
        match self.last.duration_since(self.first) {
            lasting if lasting >= CRIT => Some(Severity::Crit),
            lasting if lasting >= WARN => Some(Severity::Warn),
            _ => None,
        }
    }

    /// `120 times in 40 min, the last 3 s ago`.
    pub(crate) fn times(&self, now: Timestamp) -> String {
        let lasting = duration(self.last.duration_since(self.first));
        format!("{} times in {lasting}, the last {}", count_of(self.count), ago(now, self.last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Rejections of `app` every so many seconds, from `first` to `last` seconds ago.
    fn severity(first: i64, last: i64, every: i64) -> Option<Severity> {
        let now = Timestamp::from_second(1_795_262_400).unwrap();
        let at = |ago: i64| now.checked_sub(SignedDuration::from_secs(ago)).unwrap();
        let times = (0..).map(|i| first - i * every).take_while(|ago| *ago >= last);
        let one = |ago| Rejection { at: at(ago), user: "app".into(), client: String::new(), why: "wrong password".into() };
        grouped(times.map(one).collect())[0].severity(now)
    }

    #[test]
    fn lasting_rejections_and_typing_errors() {
        assert_eq!(severity(1500, 0, 3), Some(Severity::Crit));
        assert_eq!(severity(240, 0, 30), Some(Severity::Warn));
        assert_eq!(severity(60, 0, 3), None, "a password that is changed in this minute");
        assert_eq!(severity(3000, 1500, 3), None, "mended");
        assert_eq!(severity(900, 0, 450), None, "three in 15 min");
    }
}
