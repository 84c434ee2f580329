//! Evidence of site checks: facts without evaluation.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use opsctl_core::model::{CertificateRef, CertificateSource, Object, Product, StartTls};
use opsctl_core::probe::endpoint;
use opsctl_core::probe::endpoint::{Endpoint, EndpointResult};
use opsctl_core::probe::io::command;
use opsctl_core::probe::io::command::{ResolvedPrograms, RunError};
use opsctl_core::probe::io::file;
use opsctl_core::probe::io::file::FileInfo;
use opsctl_core::probe::servers::prometheus::Series;
use opsctl_core::probe::servers::redis::{RedisCommandError, Reply};
use opsctl_core::probe::servers::{Secret, SessionError, postgres, secret_file};
use opsctl_core::probe::tls::{self, Certificate, HandshakeError, ServedCertificates};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking, environment};
use serde::{Deserialize, Serialize};

use super::log;
use crate::config::fill;
use crate::config::site::{SiteCheck, SiteProbe};

/// Time limit of reading a token file.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of characters of program output kept: the beginning has the result, as with monitoring plugins.
const MAX_OUTPUT_CHARS: usize = 2000;

/// Maximum number of series kept.
const MAX_SERIES: usize = 200;

/// The collected evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evidence {
    /// The facts.
    pub(super) seen: Seen,
    /// Findings that may be the cause: code and name of the subject.
    #[serde(default)]
    pub(super) causes: Vec<(String, String)>,
    /// The program of the fix.
    #[serde(default)]
    pub(super) fix: Option<ResolvedPrograms>,
}

/// The facts, one variant per kind of check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub(super) enum Seen {
    /// Result of an HTTP or TCP request.
    Asked(EndpointResult),
    /// The served certificate.
    Certificate {
        /// The leaf certificate.
        leaf: Option<Box<Certificate>>,
        /// Reason why the chain does not lead to a trusted authority.
        refused: Option<String>,
        /// Reason why no certificate was served.
        failed: Option<HandshakeError>,
    },
    /// Result of a server; `None` for NULL or a missing key.
    Answer {
        /// The server.
        server: String,
        /// The value as text.
        says: Option<String>,
    },
    /// A query returned no row or several rows.
    Rows {
        /// The server.
        server: String,
        /// Whether there was more than one.
        several: bool,
    },
    /// A server did not respond.
    Silent {
        /// The server.
        server: String,
        /// The reason.
        why: String,
    },
    /// Result of a Prometheus query.
    Series {
        /// The server.
        server: String,
        /// Up to 200 series.
        series: Vec<Series>,
    },
    /// A program exited.
    Ended {
        /// Its exit code; `None` if a signal terminated it.
        code: Option<i32>,
        /// The signal.
        signal: Option<i32>,
        /// The beginning of its output.
        stdout: String,
        /// The last line of its output.
        last_line: String,
    },
    /// A program was killed after this time in milliseconds.
    Killed(u64),
    /// A program could not be run, and the reason.
    NotRun(String),
    /// A file; `None` if it does not exist.
    File(Option<FileInfo>),
    /// Lines of a log.
    Lines {
        /// Number of matching lines.
        count: u64,
        /// The last matching lines.
        last: Vec<String>,
        /// Number of lines read.
        read: u64,
        /// Whether there were more lines than were read.
        cut: bool,
    },
}

/// Collects the evidence of a check.
pub(super) async fn probe(check: &SiteCheck, cx: &ProbeCx, ca_files: &[String]) -> Result<Evidence, ProbeError> {
    let mut causes = causes(check, cx);
    let fix = match &check.fix {
        Some(fix) => Some(command::find(&fix.argv, &fix.undo, fix.cwd.as_deref()).await?),
        None => None,
    };
    let seen = match &check.probe {
        SiteProbe::Endpoint { endpoint, header, bearer_file } => {
            let endpoint = with_headers(cx, endpoint, header, bearer_file.as_deref()).await?;
            let request = Box::pin(endpoint::request(cx, &endpoint, check.timeout, check.timeout));
            Seen::Asked(within(check.timeout, request).await.unwrap_or(Ok(EndpointResult::Timeout))?)
        }
        SiteProbe::Tls { host, port, name, first, from, .. } => {
            let served = Box::pin(async {
                let reference = reference(host, *port, name, *first, from.clone());
                tls::served(cx, &reference, ca_files).await.map(|certificates| certificate(&certificates))
            });
            let late = Seen::Certificate { leaf: None, refused: None, failed: Some(HandshakeError::Timeout) };
            within(check.timeout, served).await.unwrap_or(Ok(late))?
        }
        SiteProbe::Sql { server: name, database, query, .. } => {
            let target = server(cx, Product::Postgres, name.as_deref())?;
            causes.push(("postgres.up".to_owned(), target.name.clone()));
            let request = Box::pin(postgres::value(cx, &target, database.as_deref(), query, check.timeout));
            match within(check.timeout + Duration::from_millis(200), request).await {
                Some(answer) => sql(&target.name, answer?)?,
                None => silent(&target.name, no_answer_within(check.timeout)),
            }
        }
        SiteProbe::Redis { server: name, database, command, .. } => {
            let target = server(cx, Product::Redis, name.as_deref())?;
            causes.push(("redis.up".to_owned(), target.name.clone()));
            match within(check.timeout, Box::pin(redis(cx, &target, *database, command))).await {
                Some(seen) => seen?,
                None => silent(&target.name, no_answer_within(check.timeout)),
            }
        }
        SiteProbe::Metric { server: name, query } => {
            let target = server(cx, Product::Prometheus, name.as_deref())?;
            let (label, from) = ("a query", target.to_string());
            let result = within(check.timeout, Box::pin(cx.query(&target, query))).await;
            let mut series = match result {
                Some(Ok(series)) => series,
                // Prometheus is the data source and not the object of the check
                Some(Err(ProbeError::Skip(why))) => return Err(ProbeError::failed(label, from, &why)),
                Some(Err(e)) => return Err(e),
                None => return Err(ProbeError::Timeout { subject: label.to_owned(), from, after: check.timeout }),
            };
            series.truncate(MAX_SERIES);
            Seen::Series { server: target.name, series }
        }
        SiteProbe::Command { argv, cwd, .. } => Box::pin(run(argv, cwd.as_deref(), check.timeout)).await?,
        SiteProbe::File { path, contains, lacks, .. } => {
            Seen::File(file::inspect(path, &[contains.as_slice(), lacks].concat(), check.timeout).await?)
        }
        SiteProbe::Log { source, pattern, within } => Box::pin(log::log(cx, source, pattern, *within, check.timeout)).await?,
    };
    Ok(Evidence { seen, causes, fix })
}

/// The result of a future if it completes in time.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

fn no_answer_within(limit: Duration) -> String {
    format!("no answer within {}", opsctl_core::model::quantity::duration(limit.try_into().unwrap_or_default()))
}

/// A path is replaced by the filesystem it is on, and a unit may be named without its suffix.
fn causes(check: &SiteCheck, cx: &ProbeCx) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (code, name) in &check.causes {
        all.push((code.clone(), name.clone()));
        let holds = |m: &&opsctl_core::model::MountRef| std::path::Path::new(name).starts_with(&m.mountpoint);
        let mount = cx.inventory.mounts.iter().filter(holds).max_by_key(|m| m.mountpoint.len());
        let mount = mount.filter(|m| name.starts_with('/') && m.mountpoint != *name).map(|m| m.mountpoint.clone());
        let unit = code.starts_with("systemd.") && !name.contains('.');
        all.extend(mount.or_else(|| unit.then(|| format!("{name}.service"))).map(|other| (code.clone(), other)));
    }
    all
}

/// Inserts secret headers, and registers the secrets for redaction.
async fn with_headers(
    cx: &ProbeCx,
    endpoint: &Endpoint,
    header: &[(String, String)],
    bearer_file: Option<&str>,
) -> Result<Endpoint, ProbeError> {
    let failed = |why: String| ProbeError::failed("an answer", endpoint.url.clone(), &why);
    let variable = |name: &str| {
        let value = environment(name)?;
        cx.redactor.learn(&value);
        Some(value)
    };
    let mut endpoint = endpoint.clone();
    for (name, value) in header {
        endpoint.headers.push((name.clone(), fill(value, &variable).map_err(failed)?));
    }
    if let Some(path) = bearer_file {
        let (file, redactor) = (path.to_owned(), cx.redactor.clone());
        let read = move |io: &Io| secret_file(io, &file, &redactor);
        let token: Secret = blocking::run("a token", path, TOKEN_TIMEOUT, read).await?.map_err(failed)?;
        endpoint.headers.push(("Authorization".to_owned(), format!("Bearer {}", token.reveal())));
    }
    Ok(endpoint)
}

fn reference(host: &str, port: u16, name: &str, first: Option<StartTls>, from: Option<String>) -> CertificateRef {
    CertificateRef {
        name: name.to_owned(),
        id: format!("site:{host}:{port}:{name}"),
        names: vec![name.to_owned()],
        source: CertificateSource::Endpoint { host: host.to_owned(), port, first, from },
    }
}

fn certificate(certificates: &ServedCertificates) -> Seen {
    let one = certificates.served.first();
    let chain = one.and_then(|s| certificates.chains.get(s.chain?));
    Seen::Certificate {
        leaf: chain.and_then(|c| c.leaf()).cloned().map(Box::new),
        refused: chain.and_then(|c| c.refused_in_time.clone()),
        failed: one.and_then(|s| s.failed.clone()),
    }
}

/// The server of this name, or the only one.
fn server(cx: &ProbeCx, product: Product, name: Option<&str>) -> Result<Object, ProbeError> {
    let all = cx.inventory.server_targets(product);
    let kind = product.kind();
    if let Some(name) = name {
        let why = format!("no {kind} has this name (`opsctl targets` lists all)");
        return all.into_iter().find(|t| t.matches(name)).ok_or_else(|| ProbeError::failed("an answer", name, &why));
    }
    match all.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(ProbeError::Skip(format!("no {kind} on this host"))),
        several => {
            let names: Vec<&str> = several.iter().map(|t| t.name.as_str()).collect();
            let why = format!("there are several; select one with `server`: {}", names.join(", "));
            Err(ProbeError::failed("an answer", kind.to_string(), &why))
        }
    }
}

fn silent(server: &str, why: impl Into<String>) -> Seen {
    Seen::Silent { server: server.to_owned(), why: why.into() }
}

/// Reason why there is no session: a fault of the server, or of opsctl.
fn no_session(server: &str, why: &SessionError) -> Result<Seen, ProbeError> {
    Ok(silent(
        server,
        match why {
            SessionError::Login { message, .. } => {
                return Err(ProbeError::failed(
                    "an answer",
                    server,
                    &format!("login required, opsctl has no credentials: {message}"),
                ));
            }
            SessionError::Unproven { why, .. } => {
                return Err(ProbeError::failed("an answer", server, &format!("its identity is not proven: {why}")));
            }
            SessionError::NotRunning => "it is not running".to_owned(),
            SessionError::NotListening => "it has no listening socket".to_owned(),
            SessionError::Refused { address } => format!("{address} refuses connections"),
            SessionError::Unreachable { address, why } => format!("{address} cannot be reached: {why}"),
            SessionError::Hung { address, .. } => format!("{address} does not answer"),
            SessionError::Closed { address, .. } => format!("{address} closes the connection"),
            SessionError::Garbage { address, .. } => format!("{address} speaks another protocol"),
            SessionError::Rejected { message, .. } => message.clone(),
        },
    ))
}

fn sql(server: &str, answer: Result<postgres::Value, postgres::QueryError>) -> Result<Seen, ProbeError> {
    use postgres::{PostgresError, QueryError, Value};
    let named = || server.to_owned();
    match answer {
        Ok(Value::One(text)) => Ok(Seen::Answer { server: named(), says: text.map(|s| s.chars().take(200).collect()) }),
        Ok(Value::Empty) => Ok(Seen::Rows { server: named(), several: false }),
        Ok(Value::Several) => Ok(Seen::Rows { server: named(), several: true }),
        Err(QueryError::NoSession(why)) => no_session(server, &why),
        // 57014: statement_timeout
        Err(QueryError::Failed(PostgresError::Server { sqlstate, .. })) if sqlstate == "57014" => {
            Ok(silent(server, "the query exceeded the time limit of the check"))
        }
        // class 42: an error in the query, or no read privilege; 25: it would write. Not a fault of the server
        Err(QueryError::Failed(PostgresError::Server { sqlstate, message }))
            if sqlstate.starts_with("42") || sqlstate.starts_with("25") =>
        {
            Err(ProbeError::failed("an answer", server, &message))
        }
        Err(QueryError::Failed(why)) => Ok(silent(server, why.to_string())),
    }
}

async fn redis(cx: &ProbeCx, target: &Object, database: u32, command: &[String]) -> Result<Seen, ProbeError> {
    let name = &target.name;
    let session = match cx.redis(target).await? {
        Ok(session) => session,
        Err(why) => return no_session(name, &why),
    };
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let reply = match words.as_slice() {
        ["INFO", field] => session.info().await.map(|info| info.get(*field).cloned().map_or(Reply::Nothing, Reply::Text)),
        words => session.reply(database, words).await,
    };
    match reply {
        Ok(Reply::Nothing) => Ok(Seen::Answer { server: name.clone(), says: None }),
        Ok(Reply::Number(n)) => Ok(Seen::Answer { server: name.clone(), says: Some(n.to_string()) }),
        Ok(Reply::Text(text)) => Ok(Seen::Answer { server: name.clone(), says: Some(text) }),
        Err(RedisCommandError::Lost(why)) => no_session(name, &why),
        // the server rejects all commands; any other error concerns this command
        Err(RedisCommandError::Rejected(error))
            if matches!(error.code.as_str(), "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN") =>
        {
            Ok(silent(name, format!("{} {}", error.code, error.message)))
        }
        Err(RedisCommandError::Rejected(error)) => {
            Err(ProbeError::failed("an answer", name, &format!("{} {}", error.code, error.message)))
        }
    }
}

async fn run(argv: &[String], cwd: Option<&str>, timeout: Duration) -> Result<Seen, ProbeError> {
    let found = command::find(argv, &[], cwd).await?;
    let program = match (found.program, found.directory) {
        (Ok(program), None) => program,
        (Err(why), _) | (_, Some(why)) => return Ok(Seen::NotRun(why)),
    };
    Ok(match command::run_own(&program, argv, cwd, true, timeout).await {
        Ok(ended) => Seen::Ended {
            code: ended.status.code(),
            signal: ended.status.signal(),
            last_line: ended.last_line().chars().take(300).collect(),
            stdout: ended.stdout.chars().take(MAX_OUTPUT_CHARS).collect(),
        },
        Err(RunError::Timeout(after)) => Seen::Killed(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        Err(RunError::NotRun(why)) => Seen::NotRun(why),
    })
}
