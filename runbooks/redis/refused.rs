//! Logins and commands of clients that the server rejects, although it accepts those of opsctl.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::split_port;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Sample, Severity, grown,
    quantity::{count_of, seconds},
};
use opsctl_core::probe::servers::redis_acl::{AclEntry, acl_log};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::info::{Info, session};
use crate::shared::servers::Server;

const REFUSED: Code = Code {
    id: "redis.refused-clients",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a client was rejected at least 5 times, the last time within 2 min: wrong user or password for 3 min (warn) or 10 min (crit; info if the client has a public address), or a command, key or channel that its user may not use (warn)",
    hint: "compare the password or user of the client with that of the server: a password that was changed in one place only, a missing `user` in the URL; `redis-cli ACL LOG`",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "redis.refused",
    title: "Redis accepts the logins of its clients",
    codes: &[REFUSED],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Rejections from which a client counts (judgement): a typing error is repeated less often.
const MIN_REJECTIONS: u64 = 5;

/// Seconds since the last rejection up to which it counts as lasting (judgement): clients retry at least once a minute.
const RECENT_S: f64 = 120.0;

/// Seconds of rejections that are warn: a changed password is not in all places at the same moment (judgement).
const WARN_S: i64 = 180;

/// The same for crit (judgement).
const CRIT_S: i64 = 600;

/// Rejections in one entry that last for minutes at any usual rate of retries, for servers that do not report its beginning
/// (judgement).
const MANY_REJECTIONS: u64 = 60;

/// The counter of rejected logins in earlier runs.
const METRIC: &str = "rejected_logins";

pub(super) struct Refused;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    info: Info,
    entries: Vec<AclEntry>,
    /// The user of opsctl: its rejected commands are those of the diagnosis.
    own_user: String,
    users: Vec<String>,
    /// Logins of opsctl that the server rejected in this run.
    own_rejected: u64,
    /// Names of containers by their addresses.
    containers: BTreeMap<String, String>,
    /// The counter of the oldest run within an hour.
    before: Option<Sample>,
}

impl Check for Refused {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let info = Info::of(&session, &["acl_access_denied_auth", "errorstat_WRONGPASS"]).await?;
        let log = acl_log(&session).await.map_err(|why| ProbeError::failed("ACL LOG", &target.name, &format!("{why:?}")))?;
        let Some(log) = log else {
            return Err(ProbeError::Skip("it does not report rejected clients (ACL LOG)".to_owned()));
        };
        let before = cx.history.oldest(&server.object(target), METRIC, 3600);
        let entries: Vec<AclEntry> = log.entries.into_iter().filter(|e| e.age_s <= RECENT_S).collect();
        let mut containers = BTreeMap::new();
        if entries.iter().any(|e| e.count >= MIN_REJECTIONS) {
            for container in cx.inspected(&cx.inventory.containers).await {
                let addresses = container.networks.values().filter(|ip| !ip.is_empty());
                containers.extend(addresses.map(|ip| (ip.clone(), container.name.clone())));
            }
        }
        // the addresses of others are not kept
        containers.retain(|ip, _| entries.iter().any(|e| split_port(&e.client).0 == *ip));
        let own_rejected = session.rejected_logins;
        Ok(Evidence { server, info, entries, own_user: log.own_user, users: log.users, own_rejected, containers, before })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let sample = e.rejected().map(|n| Sample::count(e.server.object(judged.target), METRIC, judged.taken_at, n));
        let mut groups: BTreeMap<(bool, String, &str), Vec<&AclEntry>> = BTreeMap::new();
        for entry in &e.entries {
            let host = split_port(&entry.client).0.to_owned();
            groups.entry((entry.reason == "auth", host, entry.user.as_str())).or_default().push(entry);
        }
        let finding = |((is_login, host, user), entries): ((bool, String, &str), Vec<&AclEntry>)| {
            if is_login { e.login(judged, &host, user, &entries) } else { e.command(judged, &host, user, &entries) }
        };
        let findings = groups.into_iter().filter_map(finding).collect();
        Judgement { findings, samples: sample.into_iter().collect(), ..Judgement::default() }
    }
}

impl Evidence {
    /// All rejected logins since the start of the server. `errorstat_WRONGPASS:count=12`.
    fn rejected(&self) -> Option<u64> {
        let wrong = || self.info.text("errorstat_WRONGPASS")?.strip_prefix("count=")?.parse().ok();
        self.info.number("acl_access_denied_auth").or_else(wrong)
    }

    /// `10.0.0.3 (container worker)`.
    fn client(&self, host: &str) -> String {
        match self.containers.get(host) {
            Some(container) => format!("{host} (container {container})"),
            None if host.is_empty() => "a client".to_owned(),
            None => host.to_owned(),
        }
    }

    /// Seconds for which logins have been rejected, as far as they are known.
    fn lasting_s(&self, judged: &Judged<'_>, entries: &[&AclEntry], total: u64) -> i64 {
        let since = |ms: i64| Some(judged.taken_at.duration_since(Timestamp::from_millisecond(ms).ok()?).as_secs());
        if let Some(created) = entries.iter().filter_map(|entry| entry.created_ms).min().and_then(since) {
            return created;
        }
        // an earlier run, in which the counter was lower
        let earlier = self.before.as_ref().filter(|_| grown(self.rejected(), self.before.as_ref()) >= MIN_REJECTIONS);
        let known = earlier.map_or(0, |sample| judged.taken_at.duration_since(sample.at).as_secs());
        if total >= MANY_REJECTIONS { known.max(WARN_S) } else { known }
    }

    fn login(&self, judged: &Judged<'_>, host: &str, user: &str, entries: &[&AclEntry]) -> Option<Finding> {
        let total = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.count));
        let is_local = host.starts_with('/') || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        // a stored password that is old is tried by each run, before the right one
        if total < MIN_REJECTIONS || (is_local && self.own_rejected > 0) {
            return None;
        }
        let lasting = self.lasting_s(judged, entries, total);
        let is_public = host.parse().is_ok_and(super::replication::is_public);
        let severity = match lasting {
            _ if is_public => Severity::Info,
            s if s >= CRIT_S => Severity::Crit,
            s if s >= WARN_S => Severity::Warn,
            _ => return None,
        };
        // an unknown name may be a password in the wrong place
        let known = self.users.iter().any(|known| known == user);
        let (user, why) =
            if known { (format!("user {user}"), "wrong password") } else { ("an unknown user".to_owned(), "no such user") };
        let name = &judged.target.name;
        let message = format!(
            "{name} rejects the login of {} as {user} ({why}): {} in {}, the last {} ago",
            self.client(host),
            times(total),
            seconds(lasting as f64),
            seconds(entries.iter().map(|entry| entry.age_s).fold(RECENT_S, f64::min))
        );
        let since = judged.taken_at.checked_sub(SignedDuration::from_secs(lasting)).ok();
        let finding = self.server.finding(&REFUSED, severity, judged.target, message).part("client", host).since(since);
        Some(finding.cite_opt("rejected logins since its start", self.rejected().map(count_of)))
    }

    fn command(&self, judged: &Judged<'_>, host: &str, user: &str, entries: &[&AclEntry]) -> Option<Finding> {
        let total = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.count));
        if total < MIN_REJECTIONS || user == self.own_user || !self.users.iter().any(|known| known == user) {
            return None;
        }
        let mut denied: Vec<String> = entries.iter().map(|entry| denied(entry)).collect();
        denied.sort();
        denied.dedup();
        denied.truncate(5);
        let name = &judged.target.name;
        let message = format!("{name} rejected {} as user {user} {}: {}", self.client(host), times(total), denied.join(", "));
        let hint = format!("`redis-cli ACL GETUSER {user}`: add what the application needs, or correct its user");
        Some(self.server.finding(&REFUSED, Severity::Warn, judged.target, message).part("client", host).hint(hint))
    }
}

/// `the command flushall`, `a key`.
fn denied(entry: &AclEntry) -> String {
    match entry.reason.as_str() {
        "command" => format!("the command {}", entry.command),
        other => format!("a {other}"),
    }
}

fn times(n: u64) -> String {
    if n == 1 { "1 time".to_owned() } else { format!("{} times", count_of(n)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;

    use super::*;

    const NOW_MS: i64 = 1_795_262_400_000;

    fn entry(client: &str, count: u64, lasting_s: Option<i64>) -> AclEntry {
        AclEntry {
            reason: "auth".into(),
            user: "default".into(),
            count,
            age_s: 2.0,
            created_ms: lasting_s.map(|s| NOW_MS - s * 1000),
            client: client.into(),
            ..AclEntry::default()
        }
    }

    fn judge(e: Evidence) -> Vec<(Severity, String)> {
        let e = Evidence { users: vec!["default".into(), "app".into()], own_user: "default".into(), ..e };
        let target = Object::named(Kind::Redis, "cache");
        let judged = Judged { target: &target, taken_at: Timestamp::from_millisecond(NOW_MS).unwrap() };
        Refused.judge(&judged, &e).findings.into_iter().map(|f| (f.severity, f.message)).collect()
    }

    fn with(entries: Vec<AclEntry>) -> Evidence {
        Evidence { entries, containers: BTreeMap::from([("10.0.0.3".into(), "worker".into())]), ..Evidence::default() }
    }

    #[test]
    fn logins_with_a_changed_password() {
        let found = judge(with(vec![entry("10.0.0.3:40112", 900, Some(2700))]));
        assert_eq!(found[0].0, Severity::Crit);
        assert_eq!(
            found[0].1,
            "cache rejects the login of 10.0.0.3 (container worker) as user default (wrong password): 900 times in 45 min, the last 2 s ago"
        );
        assert_eq!(judge(with(vec![entry("10.0.0.3:40112", 40, Some(240))]))[0].0, Severity::Warn);
        // rotated in this minute, or mistyped
        assert!(judge(with(vec![entry("10.0.0.3:40112", 40, Some(50))])).is_empty());
        assert!(judge(with(vec![entry("10.0.0.3:40112", 2, Some(900))])).is_empty());
        assert_eq!(judge(with(vec![entry("8.8.8.8:40112", 4000, Some(9000))]))[0].0, Severity::Info, "a scan");
    }

    #[test]
    fn servers_without_the_time_of_the_first_rejection() {
        assert!(judge(with(vec![entry("10.0.0.3:1", 20, None)])).is_empty());
        assert_eq!(judge(with(vec![entry("10.0.0.3:1", 80, None)]))[0].0, Severity::Warn);
        let info = serde_json::from_value(serde_json::json!({"errorstat_WRONGPASS": "count=700"})).unwrap();
        let at = Timestamp::from_millisecond(NOW_MS - 1_800_000).unwrap();
        let before = Some(Sample::count("redis:x", METRIC, at, 20));
        let e = Evidence { info, before, ..with(vec![entry("10.0.0.3:1", 20, None)]) };
        assert_eq!(judge(e)[0].0, Severity::Crit);
    }

    #[test]
    fn unknown_user_is_not_shown() {
        let typed = AclEntry { user: "canary-password".into(), ..entry("10.0.0.3:1", 900, Some(2700)) };
        let found = judge(with(vec![typed]));
        assert!(found[0].1.contains("an unknown user") && !found[0].1.contains("canary"), "{found:?}");
    }

    #[test]
    fn own_logins_and_commands_are_left_out() {
        let e = Evidence { own_rejected: 1, ..with(vec![entry("127.0.0.1:1", 900, Some(2700))]) };
        assert!(judge(e).is_empty());
        let denied = |user: &str| AclEntry {
            reason: "command".into(),
            command: "flushall".into(),
            user: user.into(),
            ..entry("10.0.0.3:1", 9, None)
        };
        assert!(judge(with(vec![denied("default")])).is_empty());
        let found = judge(with(vec![denied("app")]));
        assert_eq!(found[0].1, "cache rejected 10.0.0.3 (container worker) as user app 9 times: the command flushall");
    }
}
