//! Programs run as another user with sudo: only the names of the user and of the program. Arguments and variables on a command
//! line may be passwords.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::logs;
use crate::model::{Change, ChangeKind};
use crate::probe::io::clock;
use crate::probe::{Io, ProbeError, blocking};

/// Log files of syslog: Debian and Red Hat.
const LOGS: &[&str] = &["/var/log/auth.log", "/var/log/secure"];

/// Entries of sudo itself, or of root: any user can write entries with this identifier (logger(1)).
const FROM_SUDO: &[&str] = &["SYSLOG_IDENTIFIER=sudo", "_EXE=/usr/bin/sudo", "+", "SYSLOG_IDENTIFIER=sudo", "_UID=0"];

pub(super) async fn read(since: Timestamp, timeout: Duration) -> Result<Vec<Change>, ProbeError> {
    // the journal contains the same lines with more precise times
    let (lines, unproven) = match logs::in_journal(FROM_SUDO, since).await? {
        Some(lines) => (lines.into_iter().map(|l| (l.at, l.text)).collect::<Vec<_>>(), false),
        None => (blocking::run("uses of sudo", LOGS[0], timeout, move |io| in_files(io, Path::new("/"), since)).await??, true),
    };
    Ok(changes(&lines, since, unproven))
}

fn in_files(io: &Io, root: &Path, since: Timestamp) -> Result<Vec<(Timestamp, String)>, ProbeError> {
    let zone = clock::zone(io, root);
    for log in LOGS {
        match logs::texts(io, &root.join(log.trim_start_matches('/')), since) {
            Ok(texts) => {
                let now = clock::now();
                return Ok(texts.iter().flat_map(|t| t.lines()).filter_map(|l| syslog(l, &zone, now)).collect());
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(ProbeError::io("uses of sudo", *log, &e)),
        }
    }
    Err(ProbeError::Skip("neither a journal nor /var/log/auth.log records uses of sudo".to_owned()))
}

/// `Nov 21 20:05:45 host sudo: …` or `2026-11-21T20:05:45.123456+01:00 host sudo[812]: …`.
pub(super) fn syslog(line: &str, zone: &TimeZone, now: Timestamp) -> Option<(Timestamp, String)> {
    let (head, message) = line.split_once(" sudo").and_then(|(head, rest)| Some((head, rest.split_once(": ")?.1)))?;
    let first = head.split_whitespace().next()?;
    let at = if let Ok(at) = first.parse::<Timestamp>() {
        at
    } else {
        // the traditional format has no year: use the latest one that is not in the future
        let text = head.get(..15)?.split_whitespace().collect::<Vec<_>>().join(" ");
        let year = now.to_zoned(zone.clone()).year();
        let of = |year: i16| {
            let local = jiff::civil::DateTime::strptime("%Y %b %d %H:%M:%S", format!("{year} {text}")).ok()?;
            Some(local.to_zoned(zone.clone()).ok()?.timestamp())
        };
        let tomorrow = now.checked_add(SignedDuration::from_hours(24)).unwrap_or(now);
        of(year).filter(|at| *at <= tomorrow).or_else(|| of(year - 1))?
    };
    Some((at, message.to_owned()))
}

/// `alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/apt install x`: user, target user and program.
pub(super) fn parse(message: &str) -> Option<(&str, &str, &str)> {
    let (caller, rest) = message.trim_start().split_once(" : ")?;
    let (fields, command) = rest.split_once("COMMAND=")?;
    // rejected by sudo: nothing was run
    if fields.contains("incorrect password") || fields.contains("NOT in sudoers") || fields.contains("not allowed") {
        return None;
    }
    let user = fields.split(';').find_map(|f| f.trim().strip_prefix("USER=")).unwrap_or("root");
    let program = command.split_whitespace().next()?.rsplit('/').next()?;
    let plain = |text: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@');
        !text.is_empty() && text.len() <= 64 && text.chars().all(fits)
    };
    (plain(caller) && plain(user) && plain(program)).then_some((caller, user, program))
}

/// One change per user and program, at its last time: a program run every minute is a single entry. `unproven` entries are from a log file of
/// syslog, which has no sender.
fn changes(lines: &[(Timestamp, String)], since: Timestamp, unproven: bool) -> Vec<Change> {
    let mut found: BTreeMap<(&str, &str, &str), (Timestamp, usize)> = BTreeMap::new();
    for (at, message) in lines.iter().filter(|(at, _)| *at >= since) {
        let Some(key) = parse(message) else { continue };
        let entry = found.entry(key).or_insert((*at, 0));
        *entry = (entry.0.max(*at), entry.1 + 1);
    }
    let change = |((caller, user, program), (at, times)): ((&str, &str, &str), (Timestamp, usize))| {
        let often = if times > 1 { format!(", {times} times") } else { String::new() };
        let source = if unproven { " (by the log of syslog, which any user can write)" } else { "" };
        let mut change = Change::new(at, ChangeKind::Sudo, program, format!("run as {user}{often}{source}")).by(Some(caller));
        // the log line does not name the object of the program
        change.concerns.clear();
        change
    };
    found.into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    const LINE: &str = "alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/mysql -pcanary-1 --token canary-2";

    #[test]
    fn only_user_and_program_are_kept() {
        assert_eq!(parse(LINE), Some(("alice", "root", "mysql")));
        assert_eq!(
            parse("  bob : PWD=/ ; USER=postgres ; ENV=PASSWORD=canary ; COMMAND=/bin/psql"),
            Some(("bob", "postgres", "psql"))
        );
        for not in [
            "pam_unix(sudo:session): session opened for user root(uid=0) by alice(uid=1000)",
            "mallory : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            "alice : 3 incorrect password attempts ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh",
            "alice : (command continued) canary",
            "alice : TTY=x ; COMMAND=PASSWORD=canary /bin/sh",
            "alice : COMMAND=",
        ] {
            assert_eq!(parse(not), None, "{not}");
        }
    }

    #[test]
    fn timestamps_with_and_without_year() {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let at = |line: &str| syslog(line, &TimeZone::UTC, now).map(|(at, _)| at.to_string());
        assert_eq!(at(&format!("Jan  1 20:05:45 web-1 sudo: {LINE}")).as_deref(), Some("2026-01-01T20:05:45Z"));
        assert_eq!(at(&format!("Dec 31 20:05:45 web-1 sudo: {LINE}")).as_deref(), Some("2025-12-31T20:05:45Z"));
        let new = format!("2026-01-01T20:05:45.5+01:00 web-1 sudo[812]: {LINE}");
        assert_eq!(at(&new).as_deref(), Some("2026-01-01T19:05:45.5Z"));
        assert_eq!(at("Jan  1 20:05:45 web-1 sshd[1]: Accepted publickey for alice"), None);
    }

    #[test]
    fn repeated_program_is_one_change() {
        let lines: Vec<_> = (0..3).map(|n| (Timestamp::from_second(n * 60).unwrap(), LINE.to_owned())).collect();
        let described: Vec<String> = changes(&lines, Timestamp::UNIX_EPOCH, false).iter().map(Change::summary).collect();
        assert_eq!(described, ["mysql run as root, 3 times (by alice)"]);
        assert!(changes(&lines, Timestamp::MAX, true).is_empty());
    }

    #[test]
    fn auth_log_is_read() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(in_files(&Io::for_test(), root.path(), Timestamp::UNIX_EPOCH), Err(ProbeError::Skip(_))));
        std::fs::create_dir_all(root.path().join("var/log")).unwrap();
        std::fs::write(root.path().join("var/log/auth.log"), format!("Jan  1 20:05:45 web-1 sudo: {LINE}\n\u{fffd}\n")).unwrap();
        assert_eq!(in_files(&Io::for_test(), root.path(), Timestamp::UNIX_EPOCH).unwrap().len(), 1);
    }
}
