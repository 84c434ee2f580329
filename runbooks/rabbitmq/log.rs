//! Channels closed because of a missing acknowledgement (`consumer_timeout`).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity, quantity::ago};
use opsctl_core::probe::proc::files::{file_tail, open_files};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use crate::shared::servers::{READ_TIMEOUT, Server};

const CONSUMER_TIMEOUT: Code = Code {
    id: "rabbitmq.consumer-timeout",
    severities: &[Severity::Crit],
    when: "within the last 24 h the broker closed a channel because a message was not acknowledged in time (30 min by default): the worker stops or loses its task",
    hint: "raise consumer_timeout above the longest task and countdown, or acknowledge early",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "rabbitmq.log",
    title: "RabbitMQ consumers acknowledge in time",
    codes: &[CONSUMER_TIMEOUT],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

/// Bytes read from the end of a log.
const LOG_TAIL_BYTES: u64 = 256 << 10;

/// Age up to which a timeout is reported.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct Log;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// Matching log lines, oldest first.
    lines: Vec<String>,
}

impl Check for Log {
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
        let lines =
            lines.into_iter().filter(|l| l.contains("delivery acknowledgement on channel") && l.contains("timed out")).collect();
        Ok(Evidence { server, lines })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let recent = |line: &&String| time_of(line).is_none_or(|t| judged.taken_at.duration_since(t) < RECENT);
        let recent: Vec<&String> = e.lines.iter().filter(recent).collect();
        let Some(last) = recent.last() else { return Judgement::default() };
        let at = time_of(last);
        let when = at.map_or_else(String::new, |t| format!(", {}", ago(judged.taken_at, t)));
        let message = format!("{} closed a channel because its consumer did not acknowledge in time{when}", judged.target.name);
        let finding = e.server.finding(&CONSUMER_TIMEOUT, Severity::Crit, judged.target, message);
        vec![finding.since(at).cite("log", last.as_str()).cite("occurrences in the last day", recent.len().to_string())].into()
    }
}

/// The end of the broker's log: of its container, or its log files, found among the open files of the process.
pub(super) async fn lines_of(cx: &ProbeCx, server: &Server) -> Result<Vec<String>, ProbeError> {
    let Some(process) = server.get().and_then(|s| s.process) else {
        return Err(ProbeError::Skip("its log is not on this machine".to_owned()));
    };
    if let (Some(id), Some(docker)) = (server.get().and_then(|s| s.container.as_ref()), &cx.docker) {
        return docker.log_tail(id, 500).await;
    }
    let pid = process.pid;
    let read = move |io: &Io| -> Vec<String> {
        open_files(io, pid, ".log").iter().flat_map(|path| file_tail(io, pid, path, LOG_TAIL_BYTES)).collect()
    };
    blocking::run("its log", &format!("process {pid}"), READ_TIMEOUT, read).await
}

/// `2026-11-21 11:00:35.123456+00:00 [error] <0.812.0> …`
pub(super) fn time_of(line: &str) -> Option<Timestamp> {
    let (date, rest) = line.trim_start().split_once(' ')?;
    let time = rest.split_once(' ')?.0;
    format!("{date}T{time}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_timestamp_is_parsed() {
        let line = "2026-11-21 11:00:35.123456+00:00 [error] <0.812.0> delivery acknowledgement on channel 1 timed out.";
        assert_eq!(time_of(line), "2026-11-21T11:00:35.123456Z".parse().ok());
        assert_eq!((time_of("no time here at all"), time_of("")), (None, None));
    }
}
