//! A team's own runbook as its file says it. Checks are lists of few words; what is right is said in the words of each kind.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// A file of `runbooks.d`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "opsctl runbook")]
pub(in crate::config) struct File {
    /// What is watched.
    pub runbook: Runbook,
    /// How: each a row of the report.
    #[serde(default)]
    pub check: Vec<Check>,
}

/// `[runbook]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Runbook {
    /// A word, the subcommand and the prefix of its codes.
    #[schemars(with = "String", example = &"shop")]
    pub name: Spanned<String>,
    /// What it watches, in a line.
    #[schemars(example = "The shop")]
    pub title: String,
    /// What somebody needs to know who is woken by it; Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Who owns it: shown with its findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "team-x")]
    pub owner: Option<String>,
    /// Alerts that it answers, for `opsctl respond`, `listen` and `explain`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["ShopDown"])]
    pub alerts: Vec<String>,
}

/// `[[check]]`: exactly one of `http`, `tcp`, `tls`, `sql`, `redis`, `metric`, `command`, `file` and `log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Check {
    /// A word; with the runbook's name in front it is the code: `shop.health`.
    #[schemars(with = "String", example = &"health")]
    pub name: Spanned<String>,
    /// Reads true when all is well: "the backend answers".
    #[schemars(example = "the backend answers")]
    pub title: String,
    /// An address is asked over HTTP. Its number is the time it takes, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Http>")]
    pub http: Option<Spanned<Http>>,
    /// A TCP connection is made and stays. Its number is the time it takes, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Tcp>")]
    pub tcp: Option<Spanned<Tcp>>,
    /// A certificate that is served. Its number is the days it lasts; without limits: below 14 a warning, below 3 critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Tls>")]
    pub tls: Option<Spanned<Tls>>,
    /// A PostgreSQL server is asked. Its number is what the query answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Sql>")]
    pub sql: Option<Spanned<Sql>>,
    /// A Redis is asked. Its number is what the command answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Redis>")]
    pub redis: Option<Spanned<Redis>>,
    /// A Prometheus is asked. Its number is the value of each series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Metric>")]
    pub metric: Option<Spanned<Metric>>,
    /// A program is run. With limits its number is the first one that it prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Command>")]
    pub command: Option<Spanned<Command>>,
    /// A file is as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OneFile>")]
    pub file: Option<Spanned<OneFile>>,
    /// Lines of a log. Its number is how many have the pattern; without limits: any is a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Log>")]
    pub log: Option<Spanned<Log>>,
    /// How bad it is that it fails: `info`, `warn` or `crit`.
    #[serde(default = "crit")]
    #[schemars(with = "String", example = &"warn")]
    pub severity: Spanned<String>,
    /// A larger number is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_above: Option<f64>,
    /// A larger number is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crit_above: Option<f64>,
    /// A smaller number is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_below: Option<f64>,
    /// A smaller number is critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crit_below: Option<f64>,
    /// What its number counts: `count`, `percent`, `bytes` or `seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"bytes")]
    pub unit: Option<Spanned<String>>,
    /// How long an answer may take; what has not answered by then has failed.
    #[serde(default = "two_seconds")]
    #[schemars(with = "String", example = "2s")]
    pub timeout: Spanned<String>,
    /// What to do about it, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "look at the web logs, not at the database")]
    pub hint: Option<String>,
    /// Alerts that it answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["ShopHealthFailing"])]
    pub alerts: Vec<String>,
    /// Findings that cause it when they are open: `CODE NAME` of a built-in one, for example `postgres.up shared_postgres`; `CODE` of
    /// one about this host as a whole, or of a runbook of your own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", example = ["postgres.up shared_postgres", "shop.health"])]
    pub explained_by: Vec<Spanned<String>>,
    /// What helps, through the guard of every fix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

fn crit() -> Spanned<String> {
    Spanned::new(0..0, "crit".to_owned())
}

fn two_seconds() -> Spanned<String> {
    Spanned::new(0..0, "2s".to_owned())
}

/// `http = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Http {
    /// What is asked.
    #[schemars(with = "String", example = "http://127.0.0.1:8000/health/")]
    pub url: Spanned<String>,
    /// Statuses that are right. Without it: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<u16>", example = [200])]
    pub status: Vec<Spanned<u16>>,
    /// A text that stands in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Welcome")]
    pub contains: Option<String>,
    /// Texts that do not stand in it: those of an error page that comes with status 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["page not found"])]
    pub lacks: Vec<String>,
    /// Values in a JSON body, by JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, String>,
    /// Texts that stand in headers of the answer, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answer_header: BTreeMap<String, String>,
    /// Headers that are sent; `${NAME}` stands for a variable of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub header: BTreeMap<String, Spanned<String>>,
    /// A file that holds a token and nothing else: it is sent as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "/etc/opsctl/shop-token")]
    pub bearer_file: Option<Spanned<String>>,
    /// The address that is connected to instead of what the host's name leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "127.0.0.1")]
    pub address: Option<Spanned<String>>,
    /// The container it is asked from. Without it: this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "nginx-proxy")]
    pub from: Option<String>,
}

/// `tcp = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tcp {
    /// `host:port`.
    #[schemars(with = "String", example = "127.0.0.1:5672")]
    pub address: Spanned<String>,
    /// The container it is asked from. Without it: this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// `tls = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tls {
    /// `host:port`.
    #[schemars(with = "String", example = "shop.example.org:443")]
    pub address: Spanned<String>,
    /// The name it is asked for and has to be for. Without it: the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is said before TLS begins: `smtp` or `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"smtp")]
    pub starttls: Option<Spanned<String>>,
    /// Whether it has to lead to an authority that this host trusts.
    #[serde(default = "yes")]
    pub trusted: bool,
    /// The container it is asked from. Without it: this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

fn yes() -> bool {
    true
}

/// `sql = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Sql {
    /// The server, as `opsctl targets` shows it. Without it: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shared_postgres")]
    pub server: Option<String>,
    /// The database. Without it: the one that is used most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shop")]
    pub database: Option<String>,
    /// One `SELECT` of one row and one column, run in a read-only transaction. Names need their schema: `public.orders`.
    #[schemars(with = "String", example = "SELECT count(*) FROM public.orders WHERE state = 'stuck'")]
    pub query: Spanned<String>,
    /// What it has to answer, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"true")]
    pub equals: Option<String>,
}

/// `redis = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Redis {
    /// The server, as `opsctl targets` shows it. Without it: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shared_redis")]
    pub server: Option<String>,
    /// The number of the database.
    #[serde(default)]
    pub database: u32,
    /// A command that only reads: `LLEN`, `GET`, `SCARD`, `ZCARD`, `DBSIZE`, `TTL`, `EXISTS`, `INFO` with a field, and others like them.
    #[schemars(with = "Vec<String>", example = ["LLEN", "celery"])]
    pub command: Vec<Spanned<String>>,
    /// What it has to answer, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
}

/// `metric = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Metric {
    /// The Prometheus, as `opsctl targets` shows it. Without it: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"monitoring_prometheus")]
    pub server: Option<String>,
    /// PromQL. An answer without series is unknown: `… or vector(0)` says what it means.
    #[schemars(example = "sum(rate(shop_errors_total[5m])) or vector(0)")]
    pub query: String,
}

/// `command = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Command {
    /// Program (an absolute path, or a name in the usual folders) and arguments. There is no shell.
    #[schemars(with = "Vec<String>", example = ["/usr/lib/nagios/plugins/check_ntp_time", "-H", "127.0.0.1"])]
    pub argv: Vec<Spanned<String>>,
    /// The folder it is run in. Without it: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "/opt/shop")]
    pub cwd: Option<Spanned<String>>,
    /// What its exit code means: `zero` (0 is well, the rest has failed) or `nagios` (0 ok, 1 warn, 2 crit, 3 unknown).
    #[serde(default = "zero")]
    #[schemars(with = "String", example = &"nagios")]
    pub exit: Spanned<String>,
    /// A text that it prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
}

fn zero() -> Spanned<String> {
    Spanned::new(0..0, "zero".to_owned())
}

/// `file = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct OneFile {
    /// Its path; of a pattern the newest file counts.
    #[schemars(with = "String", example = "/opt/backups/*.sql.gz")]
    pub path: Spanned<String>,
    /// Whether it has to be there.
    #[serde(default = "yes")]
    pub exists: bool,
    /// It was written within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "26h")]
    pub max_age: Option<Spanned<String>>,
    /// It is at least this large, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    /// It is at most this large, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"root")]
    pub owner: Option<String>,
    /// Texts that stand in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Texts that do not stand in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// `log = { … }`: exactly one of `container`, `unit` and `file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// What this container printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shop_web")]
    pub container: Option<String>,
    /// What this unit printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "shop.service")]
    pub unit: Option<String>,
    /// A file: its last MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "/var/log/shop/error.log")]
    pub file: Option<Spanned<String>>,
    /// A regular expression.
    #[schemars(with = "String", example = "ERROR|Traceback")]
    pub pattern: Spanned<String>,
    /// How far back. Without it: 10 minutes; of a file all that is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "10m")]
    pub within: Option<Spanned<String>>,
}

/// `[check.fix]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Fix {
    /// A word; with the runbook's name in front it is the fix: `shop.restart`.
    #[schemars(with = "String", example = &"restart")]
    pub name: Spanned<String>,
    /// Imperative, a line.
    #[schemars(example = "restart the backend")]
    pub title: String,
    /// Program (an absolute path, or a name in the usual folders) and arguments. There is no shell; secrets do not belong here.
    #[schemars(with = "Vec<String>", example = ["make", "restart", "ENV=prod"])]
    pub argv: Vec<Spanned<String>>,
    /// The folder it is run in. Without it: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "/opt/shop")]
    pub cwd: Option<Spanned<String>>,
    /// What it may interrupt: `R1` nothing, `R2` one object, `R3` many objects, or data is lost.
    #[schemars(with = "String", example = &"R2")]
    pub risk: Spanned<String>,
    /// For how long, in words.
    #[serde(default = "unknown")]
    #[schemars(example = "10 s")]
    pub downtime: String,
    /// Who else feels it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["requests that are being answered fail"])]
    pub affects: Vec<String>,
    /// What takes it back, as `argv`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub undo: Vec<Spanned<String>>,
    /// How long it may run.
    #[serde(default = "two_minutes")]
    #[schemars(with = "String", example = "2m")]
    pub timeout: Spanned<String>,
    /// How long to wait for the check to be well again.
    #[serde(default = "one_minute")]
    #[schemars(with = "String", example = "1m")]
    pub verify_within: Spanned<String>,
}

fn unknown() -> String {
    "not said".to_owned()
}

fn two_minutes() -> Spanned<String> {
    Spanned::new(0..0, "2m".to_owned())
}

fn one_minute() -> Spanned<String> {
    Spanned::new(0..0, "1m".to_owned())
}
