//! Logins of clients that the server rejects, by its log.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::log::LogLine;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity};
use opsctl_core::probe::proc::files::{file_tail, open_files};
use opsctl_core::probe::proc::process::children_of;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::session::{row, rows, session};
use crate::shared::refusals::{Refused, Rejection, grouped};
use crate::shared::servers::{READ_TIMEOUT, Server};

const REFUSED: Code = Code {
    id: "postgres.refused-clients",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "the log contains at least 5 rejected logins of a role for one reason, the last less than 2 min ago, over 3 min (warn) or 10 min (crit): wrong or expired password, pg_hba.conf, NOLOGIN; at most warn for a superuser, info for a role that does not exist: a scan",
    hint: "compare the password, address and TLS setting of the client with the role (`\\du+`), its VALID UNTIL and pg_hba.conf: a secret that was changed in one place only, or the first password of an old volume",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.refused",
    title: "PostgreSQL accepts the logins of its clients",
    codes: &[REFUSED],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Lines of a container's log that are read.
const MAX_LINES: u32 = 1000;

/// Bytes of the end of a log file that are read.
const LOG_TAIL_BYTES: u64 = 256 << 10;

/// The offset of the times in the log from UTC, in seconds.
const LOG_OFFSET: &str = "SELECT extract(epoch FROM date_trunc('second', clock_timestamp() AT TIME ZONE current_setting('log_timezone')) \
    - date_trunc('second', clock_timestamp() AT TIME ZONE 'UTC'))::bigint AS s";

const ROLES: &str =
    "SELECT rolname AS name, rolsuper AS superuser, coalesce(rolvaliduntil < now(), false) AS expired FROM pg_roles LIMIT 1000";

pub(super) struct RefusedClients;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Role {
    name: String,
    superuser: bool,
    /// Its password is past VALID UNTIL.
    expired: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Offset {
    s: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    refused: Vec<Refused>,
    /// The roles of rejected logins that exist.
    roles: Vec<Role>,
    /// Roles that opsctl itself tried in vain.
    own: Vec<String>,
    gaps: Vec<String>,
}

impl Check for RefusedClients {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let mut e = Evidence { server: Server::of(cx, target)?, own: session.rejected_users.clone(), ..Evidence::default() };
        let lines = lines(cx, &e.server).await?;
        if !lines.iter().any(|line| is_rejection(&line.text)) {
            return Ok(e);
        }
        let Some(offset) = row::<Offset>(&session, "the time zone of the log", LOG_OFFSET, &mut e.gaps).await else {
            return Ok(e);
        };
        e.refused = grouped(rejections(&lines, offset.s));
        let roles: Vec<Role> = rows(&session, "roles", ROLES, &mut e.gaps).await;
        e.roles = roles.into_iter().filter(|role| e.refused.iter().any(|r| r.user == role.name)).collect();
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = e.refused.iter().filter_map(|r| finding(judged, e, r)).collect();
        Judgement { findings, gaps: e.gaps.clone(), ..Judgement::default() }
    }
}

/// The end of the server's log.
async fn lines(cx: &ProbeCx, server: &Server) -> Result<Vec<LogLine>, ProbeError> {
    let of = server.get();
    if let (Some(id), Some(docker)) = (of.and_then(|s| s.container.as_ref()), &cx.docker) {
        return docker.log_lines(id, MAX_LINES).await;
    }
    let Some(process) = of.and_then(|s| s.process) else {
        return Err(ProbeError::Skip("its log is not on this machine".to_owned()));
    };
    let read = move |io: &Io| -> Vec<LogLine> {
        // the log file is open in the logging collector, or is the server's own output
        let pids = children_of(io, process.pid).into_iter().chain([process.pid]);
        let files: std::collections::BTreeSet<String> = pids.flat_map(|pid| open_files(io, pid, ".log")).collect();
        let lines = files.iter().flat_map(|file| file_tail(io, process.pid, file, LOG_TAIL_BYTES));
        lines.map(|text| LogLine { at: None, text }).collect()
    };
    blocking::run("its log", &format!("process {}", process.pid), READ_TIMEOUT, read).await
}

const PASSWORD: &str = "authentication failed for user \"";
const NO_ENTRY: &str = "no pg_hba.conf entry for ";
const REJECTED: &str = "pg_hba.conf rejects connection for ";
const NO_LOGIN: &str = "is not permitted to log in";

fn is_rejection(text: &str) -> bool {
    text.contains("FATAL:") && [PASSWORD, NO_ENTRY, REJECTED, NO_LOGIN].iter().any(|words| text.contains(words))
}

/// The rejected logins in these lines. A missing role or database outside of a login is not one of them: `pg_isready` of health
/// tests leaves such lines.
fn rejections(lines: &[LogLine], offset_s: i64) -> Vec<Rejection> {
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_rejection(&line.text)) {
        let Some(time) = time_of(line, offset_s) else { continue };
        // the detail is one of the next lines, with the same process id
        let detail = lines[at + 1..].iter().take(3).find(|next| next.text.contains("DETAIL:"));
        let detail = detail.filter(|next| process_of(&next.text) == process_of(&line.text)).map_or("", |next| next.text.as_str());
        let Some((user, client, why)) = parts(&line.text, detail) else { continue };
        found.push(Rejection { at: time, user, client, why });
    }
    found
}

/// User, client and reason of a rejection.
fn parts(text: &str, detail: &str) -> Option<(String, String, String)> {
    let named = |text: &str, before: &str| Some(text.split_once(before)?.1.split('"').next()?.to_owned());
    let client = named(text, "host \"").or_else(|| named(text, "host ")).unwrap_or_default();
    let client = client.split([',', ' ']).next().unwrap_or_default().to_owned();
    if text.contains(PASSWORD) {
        let why = match detail {
            d if d.contains("has an expired password") => "its password is past VALID UNTIL",
            d if d.contains("does not exist") => "no such role",
            d if d.contains("has no password assigned") => "the role has no password",
            _ if text.contains("password") => "wrong password",
            _ => "the method of pg_hba.conf rejects it",
        };
        return Some((named(text, PASSWORD)?, String::new(), why.to_owned()));
    }
    if text.contains(NO_LOGIN) {
        return Some((named(text, "role \"")?, String::new(), "the role is NOLOGIN".to_owned()));
    }
    let database = named(text, "database \"").unwrap_or_default();
    let unencrypted = if text.contains("no encryption") || text.contains("SSL off") { " without TLS" } else { "" };
    let why = if text.contains(NO_ENTRY) { "no line of pg_hba.conf permits" } else { "a line of pg_hba.conf rejects" };
    Some((named(text, "user \"")?, client, format!("{why} database {database}{unencrypted}")))
}

/// The time of the engine, or that at the beginning of a line: `2026-11-21 11:00:35.123 CET [812] app@shop FATAL: …`.
fn time_of(line: &LogLine, offset_s: i64) -> Option<Timestamp> {
    line.at.or_else(|| {
        let text = line.text.get(..19)?;
        let at: Timestamp = format!("{}Z", text.replace(' ', "T")).parse().ok()?;
        at.checked_sub(SignedDuration::from_secs(offset_s)).ok()
    })
}

/// `[812]` of the default `log_line_prefix`.
fn process_of(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split(']').next()
}

fn finding(judged: &Judged<'_>, e: &Evidence, r: &Refused) -> Option<Finding> {
    let severity = r.severity(judged.taken_at)?;
    // each run of opsctl leaves these lines
    if e.own.contains(&r.user) {
        return None;
    }
    let name = &judged.target.name;
    let from = if r.client.is_empty() { String::new() } else { format!(" from {}", r.client) };
    let role = e.roles.iter().find(|role| role.name == r.user);
    let (severity, user) = match role {
        // a scan tries the administrator's name
        Some(role) if role.superuser => (severity.min(Severity::Warn), format!("role {}", r.user)),
        Some(_) => (severity, format!("role {}", r.user)),
        // the name may be a password in the wrong place
        None => (Severity::Info, "a role that does not exist".to_owned()),
    };
    let why = match role {
        Some(role) if role.expired && r.why == "wrong password" => "its password is past VALID UNTIL",
        _ => &r.why,
    };
    let message = format!("{name} rejects the login of {user}{from} ({why}): {}", r.times(judged.taken_at));
    let finding = e.server.finding(&REFUSED, severity, judged.target, message).since(Some(r.first));
    let finding = if role.is_some() { finding.part("role", &r.user) } else { finding.part("client", "of no role") };
    Some(if why.contains("VALID UNTIL") {
        finding.hint(format!("ALTER ROLE {} VALID UNTIL 'infinity', or set a new password with a later date", r.user))
    } else {
        finding
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;

    use super::*;

    fn line(second: i64, text: &str) -> LogLine {
        let at = Timestamp::from_second(1_795_262_400 - second).unwrap();
        LogLine { at: Some(at), text: text.to_owned() }
    }

    /// Severities and messages for these lines, logged every 3 s for this long.
    fn judge(lasting_s: i64, texts: &[&str], e: Evidence) -> Vec<(Severity, String)> {
        let lines: Vec<LogLine> =
            (0..=lasting_s / 3).rev().flat_map(|i| texts.iter().map(move |text| line(i * 3, text))).collect();
        let app = Role { name: "app".into(), ..Role::default() };
        let roles = vec![app, Role { name: "postgres".into(), superuser: true, ..Role::default() }];
        let e = Evidence { refused: grouped(rejections(&lines, 0)), roles, ..e };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: Timestamp::from_second(1_795_262_400).unwrap() };
        RefusedClients.judge(&judged, &e).findings.into_iter().map(|f| (f.severity, f.message)).collect()
    }

    const FAILED: &str = "2026-11-21 11:00:35.123 UTC [812] FATAL:  password authentication failed for user \"app\"";

    #[test]
    fn rejected_logins_with_their_reason() {
        let expired = "2026-11-21 11:00:35.123 UTC [812] DETAIL:  User \"app\" has an expired password.";
        let found = judge(1539, &[FAILED, expired], Evidence::default());
        assert_eq!(
            found[0],
            (
                Severity::Crit,
                "db rejects the login of role app (its password is past VALID UNTIL): 514 times in 26 min, the last 0 s ago"
                    .into()
            )
        );
        let found = judge(
            1539,
            &[FAILED, "2026-11-21 11:00:35.123 UTC [9] DETAIL:  User \"x\" has an expired password."],
            Evidence::default(),
        );
        assert!(found[0].1.contains("(wrong password)"), "the detail of another process: {found:?}");
        let entry = "FATAL:  no pg_hba.conf entry for host \"172.18.0.5\", user \"app\", database \"shop\", no encryption";
        let found = judge(600, &[entry], Evidence::default());
        assert!(
            found[0].1.contains("role app from 172.18.0.5 (no line of pg_hba.conf permits database shop without TLS)"),
            "{found:?}"
        );
        assert!(
            judge(600, &["FATAL:  role \"app\" is not permitted to log in"], Evidence::default())[0].1.contains("is NOLOGIN")
        );
    }

    #[test]
    fn typing_errors_health_tests_and_scans() {
        assert!(judge(9, &[FAILED], Evidence::default()).is_empty(), "four in 9 s");
        // `pg_isready -U app` and `pg_isready` as root, every 10 s
        let health = ["FATAL:  database \"app\" does not exist", "FATAL:  role \"root\" does not exist"];
        assert!(judge(3600, &health, Evidence::default()).is_empty());
        let scan = "FATAL:  password authentication failed for user \"admin\"";
        let found = judge(3600, &[scan, "DETAIL:  Role \"admin\" does not exist."], Evidence::default());
        assert!(found[0].0 == Severity::Info && !found[0].1.contains("admin"), "{found:?}");
        let superuser = "FATAL:  password authentication failed for user \"postgres\"";
        assert_eq!(judge(3600, &[superuser], Evidence::default())[0].0, Severity::Warn);
        assert!(judge(3600, &[superuser], Evidence { own: vec!["postgres".into()], ..Evidence::default() }).is_empty());
    }

    #[test]
    fn times_in_the_zone_of_the_log() {
        let at = |offset| time_of(&LogLine { at: None, text: "2026-11-21 12:00:35.123 CET [812] FATAL: x".into() }, offset);
        assert_eq!(at(3600), "2026-11-21T11:00:35Z".parse().ok());
        assert_eq!(time_of(&LogLine { at: None, text: "FATAL: x".into() }, 0), None);
    }
}
