//! What a check looks at, one kind each.

use std::ops::Range;

use jiff::SignedDuration;
use opsctl_core::model::StartTls;
use opsctl_core::probe::endpoint::Endpoint;
use regex::Regex;
use toml::Spanned;

use super::argv::{argv, folder};
use super::raw;
use crate::config::names::did_you_mean;
use crate::config::problem::Problem;
use crate::config::server::fill;
use crate::config::{endpoint, length};

/// What is looked at, and what is right.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// HTTP or TCP.
    Endpoint {
        /// What is asked, and what it should answer.
        endpoint: Box<Endpoint>,
        /// Headers that are sent, with their variables still in them.
        header: Vec<(String, String)>,
        /// A file that holds a token.
        bearer_file: Option<String>,
    },
    /// A certificate that is served.
    Tls {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// What it is asked for and has to be for.
        name: String,
        /// What is said before TLS begins.
        first: Option<StartTls>,
        /// It has to lead to an authority that is trusted here.
        trusted: bool,
        /// The container it is asked from.
        from: Option<String>,
    },
    /// A query.
    Sql {
        /// The server; none is the only one.
        server: Option<String>,
        /// The database.
        database: Option<String>,
        /// The statement.
        query: String,
        /// What it has to answer.
        equals: Option<String>,
    },
    /// A command that reads.
    Redis {
        /// The server; none is the only one.
        server: Option<String>,
        /// The database.
        database: u32,
        /// Its words.
        command: Vec<String>,
        /// What it has to answer.
        equals: Option<String>,
    },
    /// PromQL.
    Metric {
        /// The server; none is the only one.
        server: Option<String>,
        /// The query.
        query: String,
    },
    /// A program.
    Command {
        /// Its name and arguments.
        argv: Vec<String>,
        /// Where it is run.
        cwd: Option<String>,
        /// What its exit code means.
        exit: Exit,
        /// What it has to print.
        contains: Option<String>,
    },
    /// A file.
    File {
        /// Its path, or a pattern.
        path: String,
        /// It has to be there.
        exists: bool,
        /// It was written within this time.
        max_age: Option<SignedDuration>,
        /// At least this large, in bytes.
        min_size: Option<u64>,
        /// At most this large, in bytes.
        max_size: Option<u64>,
        /// Whose it is.
        owner: Option<String>,
        /// Texts that stand in it.
        contains: Vec<String>,
        /// Texts that do not.
        lacks: Vec<String>,
    },
    /// Lines of a log.
    Log {
        /// Whose.
        source: Source,
        /// A regular expression.
        pattern: String,
        /// How far back; none is all of what is looked at.
        within: Option<SignedDuration>,
    },
}

/// What an exit code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0 is well.
    Zero,
    /// As monitoring plugins have it: 0 ok, 1 warn, 2 crit, 3 unknown.
    Nagios,
}

/// Whose log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A container, by name.
    Container(String),
    /// A unit, by its full name.
    Unit(String),
    /// A file.
    File(String),
}

/// What only reads, in one step or in few (<https://redis.io/commands>). Of `INFO` a field is asked.
const READS: &[&str] = &[
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

/// How far back a log is read that has no end of its own.
const WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// The one kind of look of a check, and whether it has a number with limits of its own.
pub(super) fn validate(check: &raw::Check, limits: bool) -> Result<Look, Problem> {
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
                "`{name}` in [[check]] looks at nothing: it needs one of `http`, `tcp`, `tls`, `sql`, `redis`, `metric`, `command`, `file` and `log`"
            );
            Err(Problem::new(check.name.span(), why))
        }
        (Some((first, ..)), Some((second, span, _))) => {
            Err(Problem::new(span, format!("`{second}` in [[check]]: `{first}` is there too; a check looks at one thing")))
        }
        (Some((_, _, look)), None) => look,
    }
}

/// A kind that a check has: its key, its place, and what it means.
type Kind = (&'static str, Range<usize>, Result<Look, Problem>);

fn kind<T>(key: &'static str, raw: Option<&Spanned<T>>, read: impl FnOnce(&T) -> Result<Look, Problem>) -> Option<Kind> {
    raw.map(|raw| (key, raw.span(), read(raw.get_ref())))
}

fn http(raw: &raw::Http) -> Result<Look, Problem> {
    let problem = |at: Range<usize>, why: String| Problem::new(at, why);
    if !raw.url.get_ref().contains("://") {
        let why = "`url` in [check.http]: not a URL such as `http://127.0.0.1:8000/health/`";
        return Err(problem(raw.url.span(), why.to_owned()));
    }
    let mut endpoint = asked(&raw.url, raw.from.as_ref(), "http")?;
    if !matches!(endpoint.scheme.as_str(), "http" | "https") {
        return Err(problem(raw.url.span(), format!("`url` in [check.http]: {}:// is not asked over HTTP", endpoint.scheme)));
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
        let said = |why: &str| problem(value.span(), format!("`{name}` in [check.http.header]: {why}"));
        let word = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || !name.chars().all(word) || value.get_ref().contains(['\r', '\n']) {
            return Err(said("not a header"));
        }
        fill(value.get_ref(), &|_| Some(String::new())).map_err(|why| said(&why))?;
        let secret = ["authorization", "cookie", "token", "key", "secret"].iter().any(|w| name.to_lowercase().contains(w));
        if secret && !value.get_ref().contains("${") {
            return Err(said(
                "a secret does not belong here: `${NAME}` stands for a variable of the environment, `bearer_file` for a token in a file",
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
    Ok(Look::Endpoint {
        endpoint: Box::new(endpoint),
        header: raw.header.iter().map(|(name, value)| (name.clone(), value.get_ref().clone())).collect(),
        bearer_file: raw.bearer_file.as_ref().map(|f| f.get_ref().clone()),
    })
}

fn asked(url: &Spanned<String>, from: Option<&String>, kind: &str) -> Result<Endpoint, Problem> {
    let key = if kind == "http" { "url" } else { "address" };
    let mut endpoint =
        endpoint(url.get_ref()).map_err(|why| Problem::new(url.span(), format!("`{key}` in [check.{kind}]: {why}")))?;
    endpoint.from = from.filter(|f| *f != "host").cloned();
    Ok(endpoint)
}

fn tcp(raw: &raw::Tcp) -> Result<Look, Problem> {
    address(&raw.address, "tcp")?;
    let url = Spanned::new(raw.address.span(), format!("tcp://{}", raw.address.get_ref()));
    let endpoint = asked(&url, raw.from.as_ref(), "tcp")?;
    Ok(Look::Endpoint { endpoint: Box::new(endpoint), header: Vec::new(), bearer_file: None })
}

/// `host:port`.
fn address(text: &Spanned<String>, kind: &str) -> Result<(String, u16), Problem> {
    let wrong = || Problem::new(text.span(), format!("`address` in [check.{kind}]: not `host:port`"));
    let (host, port) = text.get_ref().rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|p| *p > 0).ok_or_else(wrong)?;
    let host = host.trim_matches(['[', ']']);
    if host.is_empty() || host.contains(['/', ' ']) { Err(wrong()) } else { Ok((host.to_owned(), port)) }
}

fn tls(raw: &raw::Tls) -> Result<Look, Problem> {
    let (host, port) = address(&raw.address, "tls")?;
    let first = match raw.starttls.as_ref().map(|s| (s.get_ref().as_str(), s.span())) {
        None => None,
        Some(("smtp", _)) => Some(StartTls::Smtp),
        Some(("postgres", _)) => Some(StartTls::Postgres),
        Some((other, span)) => {
            return Err(Problem::new(span, format!("`starttls` in [check.tls]: `{other}` is neither `smtp` nor `postgres`")));
        }
    };
    let name = raw.name.clone().unwrap_or_else(|| host.clone());
    Ok(Look::Tls { host, port, name, first, trusted: raw.trusted, from: raw.from.clone().filter(|f| f != "host") })
}

fn sql(raw: &raw::Sql, limits: bool) -> Result<Look, Problem> {
    let said = |why: &str| Problem::new(raw.query.span(), format!("`query` in [check.sql]: {why}"));
    let query = raw.query.get_ref().trim().trim_end_matches(';');
    let first = query.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !matches!(first.as_str(), "SELECT" | "WITH" | "VALUES" | "TABLE") {
        return Err(said("not a `SELECT`"));
    }
    if query.contains(';') {
        return Err(said("more than one statement"));
    }
    if raw.equals.is_none() && !limits {
        return Err(said("nothing says what is right: `equals`, or a limit of the check such as `crit_above`"));
    }
    let (server, database, equals) = (raw.server.clone(), raw.database.clone(), raw.equals.clone());
    Ok(Look::Sql { server, database, query: query.to_owned(), equals })
}

fn redis(raw: &raw::Redis, limits: bool) -> Result<Look, Problem> {
    let Some(first) = raw.command.first() else {
        return Err(Problem::new(0..0, "`command` in [check.redis]: empty"));
    };
    let said = |why: String| Problem::new(first.span(), format!("`command` in [check.redis]: {why}"));
    let name = first.get_ref().to_ascii_uppercase();
    if !READS.contains(&name.as_str()) {
        let hint = match did_you_mean(&name, READS.iter().copied()) {
            hint if hint.is_empty() => format!(": one of {}", READS.join(", ")),
            hint => hint,
        };
        return Err(said(format!("`{name}` is none of the commands that only read{hint}")));
    }
    if name == "INFO" && raw.command.len() != 2 {
        return Err(said("of INFO one field: `[\"INFO\", \"used_memory\"]`".to_owned()));
    }
    if raw.equals.is_none() && !limits {
        return Err(said("nothing says what is right: `equals`, or a limit of the check such as `crit_above`".to_owned()));
    }
    let words = std::iter::once(name).chain(raw.command.iter().skip(1).map(|w| w.get_ref().clone()));
    let (server, equals) = (raw.server.clone(), raw.equals.clone());
    Ok(Look::Redis { server, database: raw.database, command: words.collect(), equals })
}

fn metric(raw: &raw::Metric, limits: bool, name: &Spanned<String>) -> Result<Look, Problem> {
    if !limits {
        let why = format!("`{}` in [[check]]: nothing says what is right: it needs a limit such as `crit_above`", name.get_ref());
        return Err(Problem::new(name.span(), why));
    }
    Ok(Look::Metric { server: raw.server.clone(), query: raw.query.clone() })
}

fn command(raw: &raw::Command) -> Result<Look, Problem> {
    let exit = match raw.exit.get_ref().as_str() {
        "zero" => Exit::Zero,
        "nagios" => Exit::Nagios,
        other => {
            let why = format!("`exit` in [check.command]: `{other}` is neither `zero` nor `nagios`");
            return Err(Problem::new(raw.exit.span(), why));
        }
    };
    let argv = argv(&raw.argv, "argv", "check.command")?;
    Ok(Look::Command { argv, cwd: folder(raw.cwd.as_ref(), "check.command")?, exit, contains: raw.contains.clone() })
}

fn file(raw: &raw::OneFile, limits: bool) -> Result<Look, Problem> {
    let said = |why: &str| Problem::new(raw.path.span(), format!("`path` in [check.file]: {why}"));
    if !raw.path.get_ref().starts_with('/') {
        return Err(said("not an absolute path"));
    }
    if limits {
        return Err(said("a file has no number for a limit: say `max_age`, `min_size` or `max_size`"));
    }
    let wants = raw.max_age.is_some() || raw.min_size.or(raw.max_size).is_some() || raw.owner.is_some();
    if !raw.exists && (wants || !raw.contains.is_empty() || !raw.lacks.is_empty()) {
        return Err(said("with `exists = false` nothing else can be said of it"));
    }
    let max_age = raw.max_age.as_ref().map(|age| time(age, "max_age", "check.file")).transpose()?;
    Ok(Look::File {
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

fn time(text: &Spanned<String>, key: &str, table: &str) -> Result<SignedDuration, Problem> {
    length(text.get_ref()).map_err(|why| Problem::new(text.span(), format!("`{key}` in [{table}]: {why}")))
}

fn log(raw: &raw::Log) -> Result<Look, Problem> {
    let said = |why: &str| Problem::new(raw.pattern.span(), format!("`pattern` in [check.log]: {why}"));
    let source = match (&raw.container, &raw.unit, &raw.file) {
        (Some(name), None, None) => Source::Container(name.clone()),
        (None, Some(name), None) if name.contains('.') => Source::Unit(name.clone()),
        (None, Some(name), None) => Source::Unit(format!("{name}.service")),
        (None, None, Some(path)) if path.get_ref().starts_with('/') => Source::File(path.get_ref().clone()),
        (None, None, Some(path)) => {
            return Err(Problem::new(path.span(), "`file` in [check.log]: not an absolute path"));
        }
        _ => return Err(said("in whose log? One of `container`, `unit` and `file`")),
    };
    // the parser draws several lines; the last one says it
    Regex::new(raw.pattern.get_ref()).map_err(|e| {
        let why = e.to_string();
        said(&format!("not a regular expression: {}", why.lines().last().unwrap_or_default().trim_start_matches("error: ")))
    })?;
    let within = raw.within.as_ref().map(|w| time(w, "within", "check.log")).transpose()?;
    let within = within.or(if matches!(source, Source::File(_)) { None } else { Some(WITHIN) });
    Ok(Look::Log { source, pattern: raw.pattern.get_ref().clone(), within })
}
