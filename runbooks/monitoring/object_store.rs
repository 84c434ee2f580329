//! The store of chunks and blocks of Loki, Tempo and Mimir: operations that fail, and the reason in their logs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::{Address, join};
use opsctl_core::model::log::{LogLine, ReasonKind, reason};
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, ends, quantity,
};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::proc::files::file_of;
use opsctl_core::probe::systemd::{self, Since};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::losses::period;
use super::peers::{self, Peer};
use super::status::started;
use crate::shared::dependencies::running_container;
use crate::shared::servers::{READ_TIMEOUT, Server};

const OBJECT_STORE: Code = Code {
    id: "monitoring.object-store",
    severities: &[Severity::Warn],
    when: "a Loki, Tempo or Mimir logged within 10 min that its bucket does not exist, rejects its credentials or cannot be reached, or over 2 operations of its store failed since the last run",
    hint: "data stays in memory and in the write-ahead log until the store accepts it: do not restart it; check the store at the address in its log",
    depends_on: &[&running_container("the store's"), &[DependsOn::likely(Role::Detached, KeyKind::Container, "the store's")]],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.object-store",
    title: "Object stores accept data",
    codes: &[OBJECT_STORE],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Failed operations. Not `loki_s3_request_duration_seconds`: its status is 500 also for an object that does not exist yet.
const FAILURES: &[&str] = &[
    // thanos-io/objstore: Mimir, and Loki with `use_thanos_objstore`; without the errors that the caller expects
    "thanos_objstore_bucket_operation_failures_total",
    "loki_objstore_bucket_operation_failures_total",
    "loki_ingester_chunks_flush_failures_total",
    "cortex_ingester_shipper_upload_failures_total",
    "tempo_ingester_failed_flushes_total",
    "tempodb_blocklist_poll_errors_total",
];

/// Failed operations that are retried without a finding (tempo-mixin `config.libsonnet`, `flushes_per_hour_failed`: 2).
const MAX_RETRIED: f64 = 2.0;

/// Older lines do not describe the present: Loki uploads its index every minute, Tempo reads its list of blocks every 5 min.
const LOG_MINUTES: u16 = 10;

/// Bytes and lines of the log.
const LOG_BYTES: u64 = 64 << 10;
const LOG_LINES: usize = 500;

pub(super) struct ObjectStore;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    failures: Counters,
    /// The last line about a failure of its store.
    failure: Option<StoreFailure>,
    /// The store, if it is on this host.
    peers: Vec<Peer>,
    gap: Option<String>,
}

/// A failure in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoreFailure {
    kind: FailureKind,
    at: Option<Timestamp>,
    line: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "address")]
enum FailureKind {
    BucketMissing,
    CredentialsRejected,
    Full,
    /// `host:port`, if the line names it.
    Unreachable(Option<String>),
}

impl Check for ObjectStore {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        [Product::Loki, Product::Tempo, Product::Mimir].into_iter().flat_map(|p| inventory.server_targets(p)).collect()
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let Some(process) = server.get().and_then(|s| s.process) else {
            return Err(ProbeError::Skip("it is not running".to_owned()));
        };
        let mut e = Evidence::default();
        let object = server.object(target);
        let (counters, lines) =
            tokio::join!(Box::pin(Counters::read(cx, target, &object, FAILURES, "operation")), Box::pin(log_lines(cx, &server)));
        match counters {
            Ok((counters, _)) => e.failures = counters,
            // a server that does not answer is reported by its own check; its log may still name the store
            Err(ProbeError::Skip(_)) => {}
            Err(why) => e.gap = Some(why.to_string()),
        }
        match lines {
            Ok(lines) => {
                let since = started(process).max(clock::now().checked_sub(SignedDuration::from_mins(LOG_MINUTES.into())).ok());
                e.failure = last_failure(&lines, since);
            }
            Err(why) => e.gap = e.gap.or_else(|| Some(why.to_string())),
        }
        if e.failure.is_some() || e.failures.now.values().any(|n| *n > MAX_RETRIED) {
            let mut addresses = configured_endpoints(cx, target, process.pid).await;
            if let Some(StoreFailure { kind: FailureKind::Unreachable(Some(address)), .. }) = &e.failure {
                addresses.push(address.clone());
            }
            e.peers = Box::pin(peers::resolve(cx, &server, addresses)).await;
            e.peers.retain(|p| p.container.is_some() || p.server.is_some());
        }
        Ok(Evidence { server, ..e })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, now) = (&judged.target.name, judged.taken_at);
        let grown: Vec<(&str, &str, f64)> = FAILURES
            .iter()
            .flat_map(|metric| e.failures.of(metric).map(|(operation, _, grown)| (*metric, operation, grown)))
            .filter(|(.., grown)| *grown > 0.0)
            .collect();
        let failed: f64 = grown.iter().map(|(.., grown)| grown).sum();
        let recent =
            |f: &&StoreFailure| f.at.is_some_and(|at| now.duration_since(at) <= SignedDuration::from_mins(LOG_MINUTES.into()));
        let mut judgement = Judgement {
            gaps: e.gap.iter().cloned().collect(),
            samples: e.failures.samples(&e.server.object(judged.target), now),
            ..Judgement::default()
        };
        let operations = format!("{failed:.0} operations of its store failed {}", period(&e.failures, now));
        let text = match e.failure.as_ref().filter(recent) {
            Some(failure) => format!("{name} {}", failure.kind.clause()),
            None if failed > MAX_RETRIED => format!("{name} cannot use its object store: {operations}"),
            None => return judgement,
        };
        let mut f = e.server.finding(&OBJECT_STORE, Severity::Warn, judged.target, text);
        if let Some(failure) = e.failure.as_ref().filter(recent) {
            let ago = failure.at.map_or_else(String::new, |at| format!(" ({})", quantity::ago(now, at)));
            f = f.cite("log", format!("{}{ago}", failure.line)).hint(failure.kind.hint());
            // a later retry may have succeeded
            f = if failed > 0.0 { f } else { f.likely() };
        }
        if failed > 0.0 {
            f = f.cite("failed operations", operations);
        }
        let mut names: Vec<&str> = grown.iter().map(|(.., operation, _)| *operation).filter(|o| !o.is_empty()).collect();
        names.dedup();
        f = f.cite_opt("operations", (!names.is_empty()).then(|| names.join(", ")));
        judgement.findings.push(peers::tie_all(&e.peers, f));
        judgement
    }
}

/// Values of `endpoint` in its configuration: `host:port` of an object store.
async fn configured_endpoints(cx: &ProbeCx, target: &Object, pid: i32) -> Vec<String> {
    let Some(file) = cx.flags(target).await.value("config.file").map(str::to_owned) else { return Vec::new() };
    let read = move |io: &Io| file_of(io, pid, &file).unwrap_or_default();
    let text = blocking::run("its configuration", &format!("process {pid}"), READ_TIMEOUT, read).await.unwrap_or_default();
    let value = |line: &str| {
        let value = line.trim().strip_prefix("endpoint:")?.trim().trim_matches(['"', '\'']);
        Address::parse(value)
            .host_port()
            .map(|at| join(&at.host, at.port))
            .or_else(|| Some(Address::parse(value).host().to_owned()))
    };
    text.lines().filter_map(value).filter(|host| !host.is_empty()).collect()
}

/// The recent log of a server in a container or a unit.
async fn log_lines(cx: &ProbeCx, server: &Server) -> Result<Vec<LogLine>, ProbeError> {
    let Some(server) = server.get() else { return Ok(Vec::new()) };
    if let (Some(id), Some(docker)) = (&server.container, &cx.docker) {
        let container = docker.inspect(id).await?;
        return Ok(docker.recent_log(&container, LOG_BYTES).await?.0);
    }
    let Some(unit) = &server.unit else { return Ok(Vec::new()) };
    let lines = systemd::own_lines(unit, Since::Minutes(LOG_MINUTES), LOG_LINES).await?;
    Ok(lines.into_iter().map(|l| LogLine { at: Some(l.at), text: l.text }).collect())
}

/// Words of lines about the store: a connection to another member or to a scheduler is not meant.
const STORE: &[&str] = &[
    "bucket",
    "object stor",
    "s3",
    "minio",
    "store put chunk",
    "failed to flush",
    "blocklist",
    "uploading table",
    "upload table",
    "upload block",
    "putobject",
    "listobjects",
];

/// The last failure of the store in these lines since then.
fn last_failure(lines: &[LogLine], since: Option<Timestamp>) -> Option<StoreFailure> {
    let of_time = |l: &&LogLine| l.at.is_some_and(|at| since.is_none_or(|since| at >= since));
    lines.iter().rev().filter(of_time).find_map(|line| {
        let kind = failure_of(&line.text)?;
        Some(StoreFailure { kind, at: line.at, line: ends(line.text.trim(), 300) })
    })
}

/// The failure in a line of a logger of the server itself. A query is text of a user, and can contain any words.
fn failure_of(text: &str) -> Option<FailureKind> {
    let lower = text.to_lowercase();
    let is_error = ["level=error", "level=warn", "\"level\":\"error\"", "\"level\":\"warn\""].iter().any(|l| lower.contains(l));
    let is_of_user = ["query=", "\"query\":", "param_query"].iter().any(|w| lower.contains(w));
    if !is_error || is_of_user || !STORE.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    // error codes of S3: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    if has(&["nosuchbucket", "specified bucket does not exist"]) {
        return Some(FailureKind::BucketMissing);
    }
    if has(&[
        "invalidaccesskeyid",
        "signaturedoesnotmatch",
        "accessdenied",
        "access denied",
        "nocredentialproviders",
        "requesttimetooskewed",
    ]) {
        return Some(FailureKind::CredentialsRejected);
    }
    if has(&["xminiostoragefull", "minimum free drive threshold", "minimum free disk threshold", "quotaexceeded"]) {
        return Some(FailureKind::Full);
    }
    let found = reason(text)?;
    let unreachable = matches!(
        found.kind,
        ReasonKind::Refused
            | ReasonKind::TimedOut
            | ReasonKind::Unreachable
            | ReasonKind::NameNotFound
            | ReasonKind::CertificateRejected
    );
    let address = found.peer().map(|(host, port)| port.map_or_else(|| host.to_owned(), |port| join(host, port)));
    unreachable.then_some(FailureKind::Unreachable(address))
}

impl FailureKind {
    /// The predicate after the name of the server.
    fn clause(&self) -> String {
        match self {
            Self::BucketMissing => "cannot store data: its bucket does not exist".to_owned(),
            Self::CredentialsRejected => "cannot store data: the object store rejects its credentials".to_owned(),
            Self::Full => "cannot store data: the object store is full".to_owned(),
            Self::Unreachable(Some(address)) => format!("cannot reach its object store {address}"),
            Self::Unreachable(None) => "cannot reach its object store".to_owned(),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::BucketMissing => {
                "create the bucket (`mc mb ALIAS/BUCKET`), or correct its name and the endpoint: the endpoint contains no bucket, and MinIO needs path-style requests"
            }
            Self::CredentialsRejected => {
                "compare access key, secret and policy of the bucket (`mc admin policy`); with RequestTimeTooSkewed check the clock"
            }
            Self::Full => "free space on the drives of the store: MinIO rejects writes below its minimum of free space",
            Self::Unreachable(_) => {
                "check the store at this address from the server's network; data stays in memory and in the write-ahead log until then"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_object_stores() {
        for (line, kind) in [
            // grafana/mimir issue 7723
            (
                "ts=2024-03-25T21:35:58Z caller=sanity_check.go:115 level=warn msg=\"Unable to successfully connect to configured object storage (will retry)\" err=\"blocks storage: unable to successfully send a request to object storage: The specified bucket does not exist.\"",
                FailureKind::BucketMissing,
            ),
            // AWS SDK in Loki
            (
                "level=error ts=2023-01-11T10:38:39Z caller=flush.go:144 org_id=fake msg=\"failed to flush\" err=\"failed to flush chunks: store put chunk: NoSuchBucket: The specified bucket does not exist\\n\\tstatus code: 404\"",
                FailureKind::BucketMissing,
            ),
            // defenseunicorns/zarf-package-software-factory issue 580
            (
                "level=error ts=2023-03-17T03:08:52Z caller=flush.go:144 org_id=fake msg=\"failed to flush\" err=\"failed to flush chunks: store put chunk: NoCredentialProviders\"",
                FailureKind::CredentialsRejected,
            ),
            (
                "level=error ts=2026-01-10T12:00:00Z caller=flush.go:146 msg=\"failed to flush user\" err=\"store put chunk: RequestError: send request failed\\ncaused by: Put \\\"http://minio:9000/loki/fake/1\\\": dial tcp 172.18.0.3:9000: connect: connection refused\"",
                FailureKind::Unreachable(Some("minio:9000".to_owned())),
            ),
        ] {
            assert_eq!(failure_of(line), Some(kind), "{line}");
        }
        let name = "level=error ts=2026-01-10T12:00:00Z caller=poller.go:1 msg=\"failed to poll or create index for tenant\" err=\"blocklist: Get \\\"http://minio:9000/tempo/\\\": dial tcp: lookup minio on 127.0.0.11:53: no such host\"";
        assert!(matches!(failure_of(name), Some(FailureKind::Unreachable(Some(host))) if host.starts_with("minio")), "{name}");
    }

    #[test]
    fn queries_of_users_and_other_connections() {
        for line in [
            "level=info ts=2026-01-10T12:00:00Z caller=metrics.go:1 query=\"{app=\\\"x\\\"} |= \\\"NoSuchBucket\\\"\"",
            "level=error ts=2026-01-10T12:00:00Z org_id=fake msg=\"failed\" query=\"{bucket=\\\"NoSuchBucket\\\"}\" err=\"x\"",
            "level=warn ts=2026-01-10T12:00:00Z caller=pool.go:1 msg=\"removing ingester failing healthcheck\" addr=172.18.0.4:9095 reason=\"connection refused\"",
            // an object that does not exist yet
            "level=warn ts=2026-01-10T12:00:00Z caller=compactor.go:1 msg=\"no bucket index\" err=\"The specified key does not exist.\"",
        ] {
            assert_eq!(failure_of(line), None, "{line}");
        }
    }
}
