//! Lines of a container's log with their times.

use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{Container, Docker};
use crate::model::log::{LogLine, MAX_TEXT};
use crate::probe::io::Root;
use crate::probe::{Io, ProbeError, blocking};

/// Log drivers with logs that the engine can read (<https://docs.docker.com/engine/logging/dual-logging/>); other drivers only
/// with its cache, which is on by default since Docker 20.10.
const READABLE: &[&str] = &["json-file", "local", "journald", "k8s-file"];

/// Log drivers that store no log at all (`docker run --log-driver none`; podman-run(1), `--log-driver passthrough`).
const STORE_NOTHING: &[&str] = &["none", "passthrough", "passthrough-tty"];

/// Reason of a log that the engine cannot read.
const NO_LOG: &str = "its log driver keeps no log that the engine can read";

/// Drivers with a log, for the reason.
const WITH_LOG: &str = "drivers with one: json-file, local, journald; others only through the cache of Docker 20.10 and later";

/// Timeout of reading a log file.
const FILE_TIMEOUT: Duration = Duration::from_secs(1);

/// Mean length of a line, in bytes, where only a number of lines can be requested.
const BYTES_PER_LINE: u64 = 128;

/// Time after a start within which a program logs its first line.
const FIRST_LINE: SignedDuration = SignedDuration::from_mins(5);

/// Size limit of one read, in bytes.
const MAX_BYTES: usize = 4 << 20;

impl Docker {
    /// The last lines of a container's log, oldest first. `tail` and not `since`: the engine applies `tail` before the times,
    /// and finds the end of a long log immediately.
    pub async fn log_lines(&self, id: &str, tail: u32) -> Result<Vec<LogLine>, ProbeError> {
        let subject = format!("the log of container {}", id.get(..12).unwrap_or(id));
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).tail(&tail.to_string()).build();
        let read = || async {
            let (mut lines, mut bytes) = (Vec::new(), 0);
            let mut stream = self.of(id).client().logs(id, Some(options));
            while let Some(piece) = stream.next().await {
                let piece = piece?.into_bytes();
                bytes += piece.len();
                lines.extend(String::from_utf8_lossy(piece.as_ref()).lines().map(parse));
                if bytes > MAX_BYTES {
                    break;
                }
            }
            Ok::<_, bollard::errors::Error>(lines)
        };
        self.of(id).request(&subject, read).await
    }

    /// [`Docker::log_lines`] of a container with a log; otherwise an error of type [`ProbeError::Skip`] that names its driver.
    pub async fn log_of(&self, container: &Container, tail: u32) -> Result<Vec<LogLine>, ProbeError> {
        let driver = container.log.driver.as_str();
        if STORE_NOTHING.contains(&driver) {
            return Err(without_log(driver));
        }
        self.log_lines(&container.id, tail).await.map_err(|error| match error {
            ProbeError::Failed { why, .. } if is_without_log(&why) => without_log(driver),
            error => error,
        })
    }

    /// The last lines of a container's log within about `bytes`, and whether earlier ones exist. The file of json-file is read
    /// itself: hundreds of requests would cost more than the run has.
    pub async fn recent_log(&self, container: &Container, bytes: u64) -> Result<(Vec<LogLine>, bool), ProbeError> {
        let (path, listener) = (container.log.path.clone(), self.of(&container.id).listener());
        if container.log.driver == "json-file" && !path.is_empty() && listener.is_here && listener.uid == Some(0) {
            let file = path.clone();
            let read = blocking::run("a container's log", &path, FILE_TIMEOUT, move |io| read_end(io, &file, bytes)).await?;
            if let Ok((lines, cut)) = read {
                let cut = cut || is_rotated(container, &lines);
                return Ok((lines, cut));
            }
        }
        let tail = u32::try_from(bytes / BYTES_PER_LINE).unwrap_or(u32::MAX);
        let lines = self.log_of(container, tail).await?;
        let cut = lines.len() >= tail as usize || is_rotated(container, &lines);
        Ok((lines, cut))
    }

    /// The reason why a log cannot be read, by its driver.
    #[must_use]
    pub fn unreadable_log(driver: &str, error: &ProbeError) -> String {
        if READABLE.contains(&driver) || driver.is_empty() || matches!(error, ProbeError::Skip(_)) {
            error.to_string()
        } else {
            format!("its log driver {driver} does not keep a log on this host: {error}")
        }
    }
}

/// Whether an engine has no log of a container: HTTP 501 of Docker (daemon/logger, `ErrReadLogsNotSupported`), HTTP 500 of Podman
/// (libpod, `ErrNoLogs`).
fn is_without_log(message: &str) -> bool {
    let signs = ["does not support reading", "is not logging output", "cannot read logs", "no log driver named 'none'"];
    signs.iter().any(|sign| message.contains(sign))
}

/// Podman's Docker API reports json-file for all drivers.
fn without_log(driver: &str) -> ProbeError {
    let named =
        if READABLE.contains(&driver) { NO_LOG.to_owned() } else { NO_LOG.replace("driver", &format!("driver {driver}")) };
    ProbeError::Skip(format!("{named} ({WITH_LOG})"))
}

/// Whether rotation can have removed the first lines of the run.
fn is_rotated(container: &Container, lines: &[LogLine]) -> bool {
    let rotates = container.log.driver != "json-file" || container.log.max_size.is_some();
    let first = lines.iter().find_map(|line| line.at);
    rotates && container.state.started_at.zip(first).is_some_and(|(started, first)| first.duration_since(started) > FIRST_LINE)
}

/// The lines at the end of a file of the engine, and whether earlier ones exist.
fn read_end(io: &Io, path: &str, bytes: u64) -> std::io::Result<(Vec<LogLine>, bool)> {
    let mut file = Root::own(io)?.file(path)?;
    let start = file.metadata()?.len().saturating_sub(bytes);
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(bytes).read_to_end(&mut end)?;
    let cut = start > 0;
    let text = String::from_utf8_lossy(&end);
    // the first line may be incomplete
    Ok((text.lines().skip(usize::from(cut)).filter_map(parse_json).collect(), cut))
}

/// `{"log":"message\n","stream":"stderr","time":"2026-11-30T10:00:00Z"}` (moby daemon/logger/jsonfilelog).
fn parse_json(line: &str) -> Option<LogLine> {
    #[derive(Deserialize)]
    struct Entry {
        log: String,
        #[serde(default)]
        time: String,
    }
    let entry: Entry = serde_json::from_str(line).ok()?;
    Some(LogLine { at: entry.time.parse().ok(), text: entry.log.trim_end().chars().take(MAX_TEXT * 4).collect() })
}

/// `2026-11-30T10:00:00.000000000Z message`; a message of several lines has one time.
fn parse(line: &str) -> LogLine {
    let timed = line.split_once(' ').and_then(|(at, text)| Some((at.parse::<Timestamp>().ok()?, text)));
    let (at, text) = timed.map_or((None, line), |(at, text)| (Some(at), text));
    // a stack frame or an object of one line can be megabytes long
    LogLine { at, text: text.trim_end().chars().take(MAX_TEXT * 4).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_separated_from_the_message() {
        let line = parse("2026-11-30T10:00:00.123456789Z  indented\r");
        assert_eq!((line.at.map(Timestamp::as_second), line.text.as_str()), (Some(1_796_032_800), " indented"));
        assert_eq!(parse("no time"), LogLine { at: None, text: "no time".to_owned() });
    }

    // spantaleev/matrix-docker-ansible-deploy#274, docker/compose#9030, Hal0ai/hal0#1429, moby/moby#29915
    #[test]
    fn driver_without_a_log_is_recognized() {
        for message in [
            "configured logging driver does not support reading",
            "this container is using the 'none' log driver, cannot read logs: this container is not logging output",
            "Failed to get logging factory: logger: no log driver named 'none' is registered",
        ] {
            assert!(is_without_log(message), "{message}");
        }
        assert!(!is_without_log("open /var/lib/docker/containers/ab/ab-json.log: input/output error"));
    }

    #[test]
    fn driver_without_a_log_is_named() {
        let text = |driver| without_log(driver).to_string();
        assert!(
            text("splunk")
                .starts_with("its log driver splunk keeps no log that the engine can read (drivers with one: json-file")
        );
        assert!(text("json-file").starts_with("its log driver keeps no log"));
    }
}
