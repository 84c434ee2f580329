//! The journal, through journalctl: without libsystemd its files have no other stable interface.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{Io, ProbeError, blocking};
use crate::probe::io::clock;
use crate::probe::io::command;
use crate::probe::io::command::Argv;
use crate::probe::kernel::host;

/// Catalogue id of "scheduled restart job" (systemd/sd-messages.h, `SD_MESSAGE_UNIT_RESTART_SCHEDULED`).
const RESTART_SCHEDULED: &str = "MESSAGE_ID=5eb03494b6584870a536b337290809b3";

/// Name of the source in errors.
const JOURNAL: &str = "the journal";

/// Timeout of journalctl; sufficient for a journal of several gigabytes on a slow disk.
const JOURNALCTL_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of lines up to which messages of more than 4096 bytes are read: a stack trace that an application logs as one message.
const MAX_FULL_LINES: usize = 200;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// Time of reception.
    pub at: Timestamp,
    /// The message.
    pub text: String,
    /// Logged by systemd about a unit; otherwise by the unit itself.
    #[serde(default)]
    pub by_systemd: bool,
}

/// Period of the query.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    /// The beginning of this boot.
    Boot,
    /// This many minutes ago.
    Minutes(u16),
    /// Between two times, to the second.
    Between(Timestamp, Timestamp),
}

/// The last `n` lines of a unit in this boot, oldest first: from the unit itself and from systemd about it. Not limited to its
/// last run: a start refused by systemd is a run too and does not show why earlier ones ended.
pub async fn journal_of_unit(unit: &str, n: usize) -> Result<Vec<JournalLine>, ProbeError> {
    // UNIT= can be forged, _PID=1 cannot
    journal(&[&format!("_SYSTEMD_UNIT={unit}"), "+", "_PID=1", &format!("UNIT={unit}")], Since::Boot, n).await
}

/// The lines of all services since `since`, by unit, oldest first; at most the last `n` lines of the journal.
pub async fn journal_of_services(since: Since, n: usize) -> Result<BTreeMap<String, Vec<JournalLine>>, ProbeError> {
    let argv = arguments(&[], since, n).map_err(|why| ProbeError::failed("log lines", JOURNAL, &why))?;
    let argv = argv.option("--output-fields=MESSAGE,_PID,_SYSTEMD_UNIT");
    let mut by_unit: BTreeMap<String, Vec<JournalLine>> = BTreeMap::new();
    for line in run(&argv).await?.lines() {
        let Ok(fields) = serde_json::from_str::<Value>(line) else { continue };
        // the trusted unit of a line (systemd.journal-fields(7))
        let unit = fields.get("_SYSTEMD_UNIT").and_then(Value::as_str).filter(|u| u.ends_with(".service"));
        if let (Some(unit), Some(line)) = (unit, line_of(&fields)) {
            by_unit.entry(unit.to_owned()).or_default().push(line);
        }
    }
    Ok(by_unit)
}

/// The last `n` lines that a unit itself logged since `since`, oldest first.
pub async fn own_lines(unit: &str, since: Since, n: usize) -> Result<Vec<JournalLine>, ProbeError> {
    journal(&[&format!("_SYSTEMD_UNIT={unit}")], since, n).await
}

/// Times of automatic restarts of a unit in the last hour, oldest first.
pub async fn restarts(unit: &str) -> Result<Vec<Timestamp>, ProbeError> {
    let lines = journal(&[RESTART_SCHEDULED, &format!("UNIT={unit}")], Since::Minutes(60), 1000).await?;
    Ok(lines.into_iter().map(|l| l.at).collect())
}

/// The last `n` lines that match (journalctl(1), MATCHES).
pub async fn journal(matches: &[&str], since: Since, n: usize) -> Result<Vec<JournalLine>, ProbeError> {
    let argv = arguments(matches, since, n).map_err(|why| ProbeError::failed("log lines", JOURNAL, &why))?;
    Ok(run(&argv).await?.lines().filter_map(parse).collect())
}

/// The same, with the time since boot of each line in microseconds, by a clock that cannot be set and stops during suspend.
pub(super) async fn journal_with_monotonic(
    matches: &[&str],
    since: Since,
    n: usize,
) -> Result<Vec<(JournalLine, u64)>, ProbeError> {
    let argv = arguments(matches, since, n).map_err(|why| ProbeError::failed("log lines", JOURNAL, &why))?;
    let both = |line: &str| {
        let fields: Value = serde_json::from_str(line).ok()?;
        let monotonic = fields.get("__MONOTONIC_TIMESTAMP")?;
        Some((line_of(&fields)?, monotonic.as_u64().or_else(|| monotonic.as_str()?.parse().ok())?))
    };
    Ok(run(&argv).await?.lines().filter_map(both).collect())
}

/// The output of journalctl.
async fn run(argv: &Argv) -> Result<String, ProbeError> {
    if !host::is_root() && !blocking::run("log lines", JOURNAL, JOURNALCTL_TIMEOUT, may_read).await? {
        return Err(ProbeError::Denied {
            subject: "log lines".to_owned(),
            from: JOURNAL.to_owned(),
            needs: "root or group systemd-journal".to_owned(),
        });
    }
    let ended = command::run(argv, JOURNALCTL_TIMEOUT).await.map_err(|why| ProbeError::failed("log lines", JOURNAL, &why))?;
    if !ended.status.success() && ended.stdout.trim().is_empty() && !ended.stderr.trim().is_empty() {
        return Err(ProbeError::failed("log lines", JOURNAL, &ended.last_line()));
    }
    Ok(ended.stdout)
}

/// The command line of journalctl(1). Returns an error for an invalid match.
fn arguments(matches: &[&str], since: Since, n: usize) -> Result<Argv, String> {
    let argv = Argv::new("journalctl", &["--quiet", "--no-pager", "--output=json", "--output-fields=MESSAGE,_PID", "--lines"]);
    let argv = argv.number(n as u64);
    // long messages of a whole day would not fit into the captured output
    let argv = if n <= MAX_FULL_LINES { argv.option("--all") } else { argv };
    let argv = match since {
        Since::Boot => argv.option("--boot"),
        Since::Minutes(minutes) => {
            let start = clock::now().checked_sub(i64::from(minutes).minutes()).unwrap_or(Timestamp::UNIX_EPOCH);
            argv.option("--since").operand(&format!("@{}", start.as_second()))?
        }
        Since::Between(from, until) => {
            let argv = argv.option("--since").operand(&format!("@{}", from.as_second()))?;
            argv.option("--until").operand(&format!("@{}", until.as_second().saturating_add(1)))?
        }
    };
    matches.iter().try_fold(argv, |argv, one| argv.operand(one))
}

/// Whether a journal directory can be read: only then journalctl shows system messages.
fn may_read(io: &Io) -> bool {
    ["/var/log/journal", "/run/log/journal"].iter().any(|dir| {
        let machines = io.read_dir(dir).into_iter().flatten().flatten();
        machines.into_iter().any(|machine| io.open(machine.path().join("system.journal")).is_ok())
    })
}

/// Parses one JSON object per line.
pub(super) fn parse(line: &str) -> Option<JournalLine> {
    line_of(&serde_json::from_str(line).ok()?)
}

/// Text of a message that journalctl leaves out.
const LONG_MESSAGE: &str = "(a message of more than 4096 bytes)";

/// The line of these fields. A line without a message has no text to show.
fn line_of(value: &Value) -> Option<JournalLine> {
    let time = value.get("__REALTIME_TIMESTAMP")?;
    let usec = time.as_i64().or_else(|| time.as_str()?.parse().ok())?;
    let text = text_of(value.get("MESSAGE")?)?;
    // one line of a stack trace is sufficient, and a message may be megabytes long
    let text = text.chars().take(500).collect();
    let by_systemd = value.get("_PID").and_then(|p| p.as_str()) == Some("1");
    Some(JournalLine { at: Timestamp::from_microsecond(usec).ok()?, text, by_systemd })
}

/// A field in the form of journalctl(1), "json": text, an array of bytes if it is not printable, `null` if it is longer than 4096
/// bytes, and an array of these if the entry has the field several times; the first one that is text counts.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => Some(LONG_MESSAGE.to_owned()),
        Value::Array(bytes) if bytes.iter().all(Value::is_number) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Value::Array(values) => values.iter().filter(|v| !v.is_null()).find_map(text_of),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_byte_messages_are_parsed() {
        let line = parse(r#"{"__REALTIME_TIMESTAMP":"1000000","MESSAGE":"it died"}"#);
        assert_eq!(line.map(|l| (l.at.as_second(), l.text)), Some((1, "it died".to_owned())));
        let bytes = parse(r#"{"__REALTIME_TIMESTAMP":"1000000","MESSAGE":[104,105]}"#);
        assert_eq!(bytes.map(|l| l.text), Some("hi".to_owned()));
        for bad in ["", "{}", r#"{"__REALTIME_TIMESTAMP":"x","MESSAGE":"y"}"#, r#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":{}}"#] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn long_message_is_a_line_without_its_text() {
        let line = parse(r#"{"__REALTIME_TIMESTAMP":"1000000","MESSAGE":null,"_PID":"1"}"#);
        assert_eq!(line.map(|l| (l.text, l.by_systemd)), Some((LONG_MESSAGE.to_owned(), true)));
    }

    #[test]
    fn first_of_several_messages_counts() {
        let text = |message: &str| parse(&format!(r#"{{"__REALTIME_TIMESTAMP":1000000,"MESSAGE":{message}}}"#)).map(|l| l.text);
        assert_eq!(text(r#"["one", "two"]"#).as_deref(), Some("one"));
        assert_eq!(text(r#"[null, [104, 105], "two"]"#).as_deref(), Some("hi"));
        assert_eq!(text("[]").as_deref(), Some(""));
    }

    #[test]
    fn corpus_of_journal() {
        crate::corpus::check("journal", 6, |text| {
            let lines: Vec<JournalLine> = text.lines().filter_map(parse).collect();
            let first = lines.first().map(|l| format!("{} {}", l.at, l.text.chars().take(60).collect::<String>()));
            let systemd = lines.iter().filter(|l| l.by_systemd).count();
            vec![("lines", lines.len().to_string()), ("first", first.unwrap_or_default()), ("by_systemd", systemd.to_string())]
        });
    }
}
