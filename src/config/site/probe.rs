//! The probes of checks, one kind each.

use std::ops::Range;

use jiff::SignedDuration;
use opsctl_core::model::StartTls;
use opsctl_core::model::address::{join, split_port};
use opsctl_core::probe::endpoint::Endpoint;
use regex::Regex;
use toml::Spanned;

use super::argv::{argv, directory};
use super::raw;
use crate::config::names::did_you_mean;
use crate::config::problem::ValidationError;
use crate::config::server::fill;
use crate::config::{endpoint, length};

/// A probe and its expected result.
#[derive(Debug, Clone, PartialEq)]
pub enum SiteProbe {
    /// HTTP or TCP.
    Endpoint {
        /// URL and expected response.
        endpoint: Box<Endpoint>,
        /// Request headers, with unsubstituted variables.
        header: Vec<(String, String)>,
        /// A file with a token.
        bearer_file: Option<String>,
    },
    /// A certificate that is served.
    Tls {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Server name (SNI), which the certificate must match.
        name: String,
        /// STARTTLS protocol.
        first: Option<StartTls>,
        /// The certificate must chain to a CA that this host trusts.
        trusted: bool,
        /// The container that is the source of the request.
        from: Option<String>,
    },
    /// A query.
    Sql {
        /// The server; `None` if there is only one.
        server: Option<String>,
        /// The database.
        database: Option<String>,
        /// The statement.
        query: String,
        /// Expected result.
        equals: Option<String>,
    },
    /// A read-only command.
    Redis {
        /// The server; `None` if there is only one.
        server: Option<String>,
        /// The database.
        database: u32,
        /// Command and arguments.
        command: Vec<String>,
        /// Expected result.
        equals: Option<String>,
    },
    /// PromQL.
    Metric {
        /// The server; `None` if there is only one.
        server: Option<String>,
        /// The query.
        query: String,
    },
    /// A program.
    Command {
        /// Its name and arguments.
        argv: Vec<String>,
        /// Working directory.
        cwd: Option<String>,
        /// Meaning of its exit code.
        exit: Exit,
        /// Required output.
        contains: Option<String>,
    },
    /// A file.
    File {
        /// Its path, or a pattern.
        path: String,
        /// It must exist.
        exists: bool,
        /// Maximum age.
        max_age: Option<SignedDuration>,
        /// Minimum size, in bytes.
        min_size: Option<u64>,
        /// Maximum size, in bytes.
        max_size: Option<u64>,
        /// Owner.
        owner: Option<String>,
        /// Texts that it must contain.
        contains: Vec<String>,
        /// Texts that it must not contain.
        lacks: Vec<String>,
    },
    /// Lines of a log.
    Log {
        /// Source.
        source: Source,
        /// A regular expression.
        pattern: String,
        /// Period; `None` for all lines read.
        within: Option<SignedDuration>,
    },
}

/// Meaning of an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0 is success.
    Zero,
    /// As in monitoring plugins: 0 ok, 1 warn, 2 crit, 3 unknown.
    Nagios,
}

/// Source of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A container, by name.
    Container(String),
    /// A unit, by its full name.
    Unit(String),
    /// A file.
    File(String),
}

/// Read-only commands of constant or low complexity (<https://redis.io/commands>). `INFO` requires a field.
const READ_ONLY_COMMANDS: &[&str] = &[
    "DBSIZE",
    "EXISTS",
    "GET",
    "HEXISTS",
    "HGET",
    "HLEN",
    "INFO",
    "LASTSAVE",
    "LLEN",
    "PING",
    "PTTL",
    "SCARD",
    "SISMEMBER",
    "STRLEN",
    "TTL",
    "TYPE",
    "XLEN",
    "ZCARD",
    "ZCOUNT",
    "ZSCORE",
];

/// Default period of a log of a container or unit.
const DEFAULT_PERIOD: SignedDuration = SignedDuration::from_mins(10);

/// Validates the probe of a check; `limits` is whether the check has limits for its number.
pub(super) fn validate(check: &raw::Check, limits: bool) -> Result<SiteProbe, ValidationError> {
    let mut kinds = [
        kind("http", check.http.as_ref(), http),
        kind("tcp", check.tcp.as_ref(), tcp),
        kind("tls", check.tls.as_ref(), tls),
        kind("sql", check.sql.as_ref(), |raw| sql(raw, limits)),
        kind("redis", check.redis.as_ref(), |raw| redis(raw, limits)),
        kind("metric", check.metric.as_ref(), |raw| metric(raw, limits, &check.name)),
        kind("command", check.command.as_ref(), command),
        kind("file", check.file.as_ref(), |raw| file(raw, limits)),
        kind("log", check.log.as_ref(), log),
    ]
    .into_iter()
    .flatten();
    match (kinds.next(), kinds.next()) {
        (None, _) => {
            let name = check.name.get_ref();
            let why = format!(
                "`{name}` in [[check]] has no probe: it needs one of `http`, `tcp`, `tls`, `sql`, `redis`, `metric`, `command`, `file` and `log`"
            );
            Err(ValidationError::new(check.name.span(), why))
        }
        (Some((first, ..)), Some((second, span, _))) => {
            Err(ValidationError::new(span, format!("`{second}` in [[check]]: `{first}` is set too; a check has one probe")))
        }
        (Some((_, _, probe)), None) => probe,
    }
}

/// The probe of a check: its key, its position, and the validated value.
type Kind = (&'static str, Range<usize>, Result<SiteProbe, ValidationError>);

fn kind<T>(
    key: &'static str,
    raw: Option<&Spanned<T>>,
    read: impl FnOnce(&T) -> Result<SiteProbe, ValidationError>,
) -> Option<Kind> {
    raw.map(|raw| (key, raw.span(), read(raw.get_ref())))
}

fn http(raw: &raw::Http) -> Result<SiteProbe, ValidationError> {
    let problem = |at: Range<usize>, why: String| ValidationError::new(at, why);
    if !raw.url.get_ref().contains("://") {
        let why = "`url` in [check.http]: not a URL such as `http://127.0.0.1:8000/health/`";
        return Err(problem(raw.url.span(), why.to_owned()));
    }
    let mut endpoint = endpoint_from(&raw.url, raw.from.as_ref(), "http")?;
    if !matches!(endpoint.scheme.as_str(), "http" | "https") {
        return Err(problem(raw.url.span(), format!("`url` in [check.http]: {}:// is not supported here", endpoint.scheme)));
    }
    if let Some(status) = raw.status.iter().find(|s| !(100..=599).contains(s.get_ref())) {
        let why = format!("`status` in [check.http]: {} is no HTTP status (100 to 599)", status.get_ref());
        return Err(problem(status.span(), why));
    }
    if let Some(pointer) = raw.json.keys().find(|p| !p.is_empty() && !p.starts_with('/')) {
        let why = format!("`json` in [check.http]: `{pointer}` is no JSON pointer such as `/status`");
        return Err(problem(raw.url.span(), why));
    }
    for (name, value) in &raw.header {
        let invalid = |why: &str| problem(value.span(), format!("`{name}` in [check.http.header]: {why}"));
        let word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || !name.chars().all(word) || value.get_ref().contains(['\r', '\n']) {
            return Err(invalid("not a header"));
        }
        fill(value.get_ref(), &|_| Some(String::new())).map_err(|why| invalid(&why))?;
        let secret = ["authorization", "cookie", "token", "key", "secret"].iter().any(|w| name.to_lowercase().contains(w));
        if secret && !value.get_ref().contains("${") {
            return Err(invalid(
                "secrets are not allowed here: use `${NAME}` for an environment variable, or `bearer_file` for a token in a file",
            ));
        }
    }
    if let Some(file) = raw.bearer_file.as_ref().filter(|f| !f.get_ref().starts_with('/')) {
        return Err(problem(file.span(), "`bearer_file` in [check.http]: not an absolute path".to_owned()));
    }
    endpoint.address = raw.address.as_ref().map(|a| a.get_ref().clone());
    endpoint.expect.status = raw.status.iter().map(|s| *s.get_ref()).collect();
    endpoint.expect.body.clone_from(&raw.contains);
    endpoint.expect.lacks.clone_from(&raw.lacks);
    endpoint.expect.json.clone_from(&raw.json);
    endpoint.expect.headers.clone_from(&raw.answer_header);
    Ok(SiteProbe::Endpoint {
        endpoint: Box::new(endpoint),
        header: raw.header.iter().map(|(name, value)| (name.clone(), value.get_ref().clone())).collect(),
        bearer_file: raw.bearer_file.as_ref().map(|f| f.get_ref().clone()),
    })
}

fn endpoint_from(url: &Spanned<String>, from: Option<&String>, kind: &str) -> Result<Endpoint, ValidationError> {
    let key = if kind == "http" { "url" } else { "address" };
    let mut endpoint =
        endpoint(url.get_ref()).map_err(|why| ValidationError::new(url.span(), format!("`{key}` in [check.{kind}]: {why}")))?;
    endpoint.from = from.filter(|f| *f != "host").cloned();
    Ok(endpoint)
}

fn tcp(raw: &raw::Tcp) -> Result<SiteProbe, ValidationError> {
    let (host, port) = address(&raw.address, "tcp")?;
    let url = Spanned::new(raw.address.span(), format!("tcp://{}", join(&host, port)));
    let endpoint = endpoint_from(&url, raw.from.as_ref(), "tcp")?;
    Ok(SiteProbe::Endpoint { endpoint: Box::new(endpoint), header: Vec::new(), bearer_file: None })
}

/// `host:port`.
fn address(text: &Spanned<String>, kind: &str) -> Result<(String, u16), ValidationError> {
    let wrong = || ValidationError::new(text.span(), format!("`address` in [check.{kind}]: not `host:port`"));
    let (host, port) = split_port(text.get_ref());
    let port = port.filter(|p| *p > 0).ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', ' ']) { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

fn tls(raw: &raw::Tls) -> Result<SiteProbe, ValidationError> {
    let (host, port) = address(&raw.address, "tls")?;
    let first = match raw.starttls.as_ref().map(|s| (s.get_ref().as_str(), s.span())) {
        None => None,
        Some(("smtp", _)) => Some(StartTls::Smtp),
        Some(("postgres", _)) => Some(StartTls::Postgres),
        Some((other, span)) => {
            return Err(ValidationError::new(
                span,
                format!("`starttls` in [check.tls]: `{other}` is neither `smtp` nor `postgres`"),
            ));
        }
    };
    let name = raw.name.clone().unwrap_or_else(|| host.clone());
    Ok(SiteProbe::Tls { host, port, name, first, trusted: raw.trusted, from: raw.from.clone().filter(|f| f != "host") })
}

fn sql(raw: &raw::Sql, limits: bool) -> Result<SiteProbe, ValidationError> {
    let invalid = |why: &str| ValidationError::new(raw.query.span(), format!("`query` in [check.sql]: {why}"));
    let query = raw.query.get_ref().trim().trim_end_matches(';');
    let first = query.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !matches!(first.as_str(), "SELECT" | "WITH" | "VALUES" | "TABLE") {
        return Err(invalid("not a `SELECT`"));
    }
    if query.contains(';') {
        return Err(invalid("more than one statement"));
    }
    if raw.equals.is_none() && !limits {
        return Err(invalid("no expected result: set `equals`, or a limit of the check such as `crit_above`"));
    }
    let (server, database, equals) = (raw.server.clone(), raw.database.clone(), raw.equals.clone());
    Ok(SiteProbe::Sql { server, database, query: query.to_owned(), equals })
}

fn redis(raw: &raw::Redis, limits: bool) -> Result<SiteProbe, ValidationError> {
    let Some(first) = raw.command.first() else {
        return Err(ValidationError::new(0..0, "`command` in [check.redis]: empty"));
    };
    let invalid = |why: String| ValidationError::new(first.span(), format!("`command` in [check.redis]: {why}"));
    let name = first.get_ref().to_ascii_uppercase();
    if !READ_ONLY_COMMANDS.contains(&name.as_str()) {
        let hint = match did_you_mean(&name, READ_ONLY_COMMANDS.iter().copied()) {
            hint if hint.is_empty() => format!(": one of {}", READ_ONLY_COMMANDS.join(", ")),
            hint => hint,
        };
        return Err(invalid(format!("`{name}` is not one of the read-only commands{hint}")));
    }
    if name == "INFO" && raw.command.len() != 2 {
        return Err(invalid("INFO needs one field: `[\"INFO\", \"used_memory\"]`".to_owned()));
    }
    if raw.equals.is_none() && !limits {
        return Err(invalid("no expected result: set `equals`, or a limit of the check such as `crit_above`".to_owned()));
    }
    let words = std::iter::once(name).chain(raw.command.iter().skip(1).map(|w| w.get_ref().clone()));
    let (server, equals) = (raw.server.clone(), raw.equals.clone());
    Ok(SiteProbe::Redis { server, database: raw.database, command: words.collect(), equals })
}

fn metric(raw: &raw::Metric, limits: bool, name: &Spanned<String>) -> Result<SiteProbe, ValidationError> {
    if !limits {
        let why = format!("`{}` in [[check]]: no expected result: set a limit such as `crit_above`", name.get_ref());
        return Err(ValidationError::new(name.span(), why));
    }
    Ok(SiteProbe::Metric { server: raw.server.clone(), query: raw.query.clone() })
}

fn command(raw: &raw::Command) -> Result<SiteProbe, ValidationError> {
    let exit = match raw.exit.get_ref().as_str() {
        "zero" => Exit::Zero,
        "nagios" => Exit::Nagios,
        other => {
            let why = format!("`exit` in [check.command]: `{other}` is neither `zero` nor `nagios`");
            return Err(ValidationError::new(raw.exit.span(), why));
        }
    };
    let argv = argv(&raw.argv, "argv", "check.command")?;
    Ok(SiteProbe::Command { argv, cwd: directory(raw.cwd.as_ref(), "check.command")?, exit, contains: raw.contains.clone() })
}

fn file(raw: &raw::OneFile, limits: bool) -> Result<SiteProbe, ValidationError> {
    let invalid = |why: &str| ValidationError::new(raw.path.span(), format!("`path` in [check.file]: {why}"));
    if !raw.path.get_ref().starts_with('/') {
        return Err(invalid("not an absolute path"));
    }
    if limits {
        return Err(invalid("limits do not apply to a file: set `max_age`, `min_size` or `max_size`"));
    }
    let constrained = raw.max_age.is_some() || raw.min_size.or(raw.max_size).is_some() || raw.owner.is_some();
    if !raw.exists && (constrained || !raw.contains.is_empty() || !raw.lacks.is_empty()) {
        return Err(invalid("`exists = false` excludes all other keys"));
    }
    let max_age = raw.max_age.as_ref().map(|age| time(age, "max_age", "check.file")).transpose()?;
    Ok(SiteProbe::File {
        path: raw.path.get_ref().clone(),
        exists: raw.exists,
        max_age,
        min_size: raw.min_size,
        max_size: raw.max_size,
        owner: raw.owner.clone(),
        contains: raw.contains.clone(),
        lacks: raw.lacks.clone(),
    })
}

fn time(text: &Spanned<String>, key: &str, table: &str) -> Result<SignedDuration, ValidationError> {
    length(text.get_ref()).map_err(|why| ValidationError::new(text.span(), format!("`{key}` in [{table}]: {why}")))
}

fn log(raw: &raw::Log) -> Result<SiteProbe, ValidationError> {
    let invalid = |why: &str| ValidationError::new(raw.pattern.span(), format!("`pattern` in [check.log]: {why}"));
    let source = match (&raw.container, &raw.unit, &raw.file) {
        (Some(name), None, None) => Source::Container(name.clone()),
        (None, Some(name), None) if name.contains('.') => Source::Unit(name.clone()),
        (None, Some(name), None) => Source::Unit(format!("{name}.service")),
        (None, None, Some(path)) if path.get_ref().starts_with('/') => Source::File(path.get_ref().clone()),
        (None, None, Some(path)) => {
            return Err(ValidationError::new(path.span(), "`file` in [check.log]: not an absolute path"));
        }
        _ => return Err(invalid("no source: set one of `container`, `unit` and `file`")),
    };
    // the parser prints several lines; the last one contains the error
    Regex::new(raw.pattern.get_ref()).map_err(|e| {
        let why = e.to_string();
        invalid(&format!("not a regular expression: {}", why.lines().last().unwrap_or_default().trim_start_matches("error: ")))
    })?;
    let within = raw.within.as_ref().map(|w| time(w, "within", "check.log")).transpose()?;
    let within = within.or(if matches!(source, Source::File(_)) { None } else { Some(DEFAULT_PERIOD) });
    Ok(SiteProbe::Log { source, pattern: raw.pattern.get_ref().clone(), within })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, u16)> {
        address(&Spanned::new(0..0, text.to_owned()), "tls").ok()
    }

    #[test]
    fn address_is_a_host_and_a_port() {
        for (text, host, port) in [("db:5432", "db", 5432), ("10.0.0.1:80", "10.0.0.1", 80), ("[fd00::2]:80", "fd00::2", 80)] {
            assert_eq!(parsed(text), Some((host.to_owned(), port)));
        }
    }

    #[test]
    fn incomplete_address_is_rejected() {
        for text in ["", "db", ":443", "db:0", "db:https", "db:99999", "[fd00::2]", "[]:443", "http://db:443", "d b:443"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
