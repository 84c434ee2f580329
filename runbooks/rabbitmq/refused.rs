//! Logins of clients that the broker rejects, by its log.

use std::time::Duration;

use opsctl_core::model::address::split_port;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::log::{lines_of, time_of};
use crate::shared::refusals::{Refused, Rejection, grouped};
use crate::shared::servers::Server;

const REFUSED: Code = Code {
    id: "rabbitmq.refused-clients",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the log contains at least 5 rejected AMQP logins of a user from one client, the last less than 2 min ago, over 3 min (warn) or 10 min (crit): wrong password, `guest` from another host, no access to the virtual host; info if the client has a public address",
    hint: "compare the user, password and virtual host in the URL of the client with `rabbitmqctl list_users` and `list_permissions -p VHOST`; `guest` may connect from the broker's own host only",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "rabbitmq.refused",
    title: "RabbitMQ accepts the logins of its clients",
    codes: &[REFUSED],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct RefusedClients;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    refused: Vec<Refused>,
}

impl Check for RefusedClients {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Rabbitmq)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let lines = lines_of(cx, &server).await?;
        Ok(Evidence { server, refused: grouped(rejections(&lines)) })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let finding = |r: &Refused| -> Option<Finding> {
            let severity = r.severity(judged.taken_at)?;
            let is_public = r.client.parse().is_ok_and(crate::redis::is_public);
            let severity = if is_public { Severity::Info } else { severity };
            let from = if r.client.is_empty() { String::new() } else { format!(" from {}", r.client) };
            let (name, times) = (&judged.target.name, r.times(judged.taken_at));
            let message = format!("{name} rejects the login of user {}{from} ({}): {times}", r.user, r.why);
            Some(e.server.finding(&REFUSED, severity, judged.target, message).part("user", &r.user).since(Some(r.first)))
        };
        e.refused.iter().filter_map(finding).collect::<Vec<_>>().into()
    }
}

/// The rejected AMQP logins in these lines. The address is in the line before, of the same Erlang process:
///
/// ```text
/// 2026-11-21 11:00:35.123456+00:00 [error] <0.812.0> Error on AMQP connection <0.812.0> (172.18.0.5:40112 -> 172.18.0.2:5672, state: starting):
/// 2026-11-21 11:00:35.123456+00:00 [error] <0.812.0> PLAIN login refused: user 'guest' can only connect via localhost
/// ```
fn rejections(lines: &[String]) -> Vec<Rejection> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let (Some(time), Some((user, why))) = (time_of(line), parts(line)) else { continue };
        let of_process = |earlier: &&String| process_of(earlier).is_some() && process_of(earlier) == process_of(line);
        let connection = lines[..at].iter().rev().take(4).filter(of_process).find_map(|earlier| client_of(earlier));
        let client = client_of(line).or(connection).unwrap_or_default();
        found.push(Rejection { at: time, user, client, why });
    }
    found
}

/// User and reason of a rejected login over AMQP. Those of the management API are left out: opsctl may cause them.
fn parts(line: &str) -> Option<(String, String)> {
    let quoted = |text: &str| Some(text.split_once('\'')?.1.split('\'').next()?.to_owned());
    if let Some((_, rest)) = line.split_once(" login refused: user ") {
        let why = if rest.contains("can only connect via localhost") {
            "it may connect from the broker's own host only"
        } else {
            "wrong user or password"
        };
        return Some((quoted(rest)?, why.to_owned()));
    }
    // `access to vhost 'shop' refused for user 'app'`
    let (before, rest) = line.split_once(" refused for user ")?;
    let vhost = quoted(before.split_once("access to vhost ")?.1)?;
    Some((quoted(rest)?, format!("no access to the virtual host {vhost}")))
}

/// `<0.812.0>` after the severity.
fn process_of(line: &str) -> Option<&str> {
    line.split_once("] <")?.1.split('>').next()
}

/// The client in `(172.18.0.5:40112 -> 172.18.0.2:5672`.
fn client_of(line: &str) -> Option<String> {
    let (before, _) = line.split_once(" -> ")?;
    let (_, client) = before.rsplit_once('(')?;
    Some(split_port(client).0.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use jiff::Timestamp;
    use opsctl_core::model::Kind;

    use super::*;

    /// Severities and messages for these texts, logged every 3 s for 20 min.
    fn judge(texts: &[&str], client: &str) -> Vec<(Severity, String)> {
        let now = Timestamp::from_second(1_795_262_400).unwrap();
        let line = |ago: i64, text: &str| {
            let at = now.checked_sub(jiff::SignedDuration::from_secs(ago)).unwrap().strftime("%Y-%m-%d %H:%M:%S.000000+00:00");
            format!("{at} [error] <0.812.0> {text}")
        };
        let connection = format!("Error on AMQP connection <0.812.0> ({client}:40112 -> 172.18.0.2:5672, state: starting):");
        let lines: Vec<String> = (0..=400)
            .rev()
            .flat_map(|i| std::iter::once(connection.as_str()).chain(texts.iter().copied()).map(move |text| line(i * 3, text)))
            .collect();
        let e = Evidence { refused: grouped(rejections(&lines)), ..Evidence::default() };
        let target = Object::named(Kind::Rabbitmq, "broker");
        let judged = Judged { target: &target, taken_at: now };
        RefusedClients.judge(&judged, &e).findings.into_iter().map(|f| (f.severity, f.message)).collect()
    }

    #[test]
    fn rejected_logins_with_client_and_reason() {
        let found = judge(&["PLAIN login refused: user 'app' - invalid credentials"], "172.18.0.5");
        assert_eq!(
            found,
            [(
                Severity::Crit,
                "broker rejects the login of user app from 172.18.0.5 (wrong user or password): 401 times in 20 min, the last 0 s ago".into()
            )]
        );
        let guest = judge(&["PLAIN login refused: user 'guest' can only connect via localhost"], "172.18.0.5");
        assert!(guest[0].1.contains("(it may connect from the broker's own host only)"), "{guest:?}");
        let vhost = judge(&["access to vhost 'shop' refused for user 'app'"], "172.18.0.5");
        assert!(vhost[0].1.contains("(no access to the virtual host shop)"), "{vhost:?}");
    }

    #[test]
    fn scans_and_the_management_api() {
        let refused = "PLAIN login refused: user 'admin' - invalid credentials";
        assert_eq!(judge(&[refused], "8.8.8.8")[0].0, Severity::Info);
        assert!(judge(&["HTTP access denied: user 'guest' - invalid credentials"], "172.18.0.5").is_empty());
    }
}
