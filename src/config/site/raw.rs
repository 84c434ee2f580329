//! The content of the file of a site runbook. Each check has one probe with keys for its expected result.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// A file of `runbooks.d`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "opsctl runbook")]
pub(in crate::config) struct File {
    /// The runbook.
    pub runbook: Runbook,
    /// Its checks, each a row of the report.
    #[serde(default)]
    pub check: Vec<Check>,
}

/// `[runbook]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Runbook {
    /// Name: the subcommand and the prefix of its codes.
    #[schemars(with = "String", example = &"shop")]
    pub name: Spanned<String>,
    /// Title, one line.
    #[schemars(example = "The shop")]
    pub title: String,
    /// Background for the engineer on call; Markdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Owner, shown with its findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "team-x")]
    pub owner: Option<String>,
    /// Alerts of this runbook, for `opsctl respond`, `listen` and `explain`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["ShopDown"])]
    pub alerts: Vec<String>,
}

/// `[[check]]`: exactly one of `http`, `tcp`, `tls`, `sql`, `redis`, `metric`, `command`, `file` and `log`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Check {
    /// Name; with the prefix of the runbook it is the code: `shop.health`.
    #[schemars(with = "String", example = &"health")]
    pub name: Spanned<String>,
    /// A statement that is true if the check passes: "the backend answers".
    #[schemars(example = "the backend answers")]
    pub title: String,
    /// An HTTP request. Its number is the response time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Http>")]
    pub http: Option<Spanned<Http>>,
    /// A TCP connection that is accepted and stays open. Its number is the connect time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Tcp>")]
    pub tcp: Option<Spanned<Tcp>>,
    /// A served certificate. Its number is the days until expiry; without limits: below 14 a warning, below 3 critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Tls>")]
    pub tls: Option<Spanned<Tls>>,
    /// A query to a PostgreSQL server. Its number is the result of the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Sql>")]
    pub sql: Option<Spanned<Sql>>,
    /// A command to a Redis server. Its number is the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Redis>")]
    pub redis: Option<Spanned<Redis>>,
    /// A query to Prometheus. Its number is the value of each series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Metric>")]
    pub metric: Option<Spanned<Metric>>,
    /// A program. With limits, its number is the first one in its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Command>")]
    pub command: Option<Spanned<Command>>,
    /// Properties of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OneFile>")]
    pub file: Option<Spanned<OneFile>>,
    /// Lines of a log. Its number is that of the matching lines; without limits: any match is a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Log>")]
    pub log: Option<Spanned<Log>>,
    /// Severity of a failure: `info`, `warn` or `crit`.
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
    /// Unit of its number: `count`, `percent`, `bytes` or `seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"bytes")]
    pub unit: Option<Spanned<String>>,
    /// Time limit; a probe without a response by then has failed.
    #[serde(default = "two_seconds")]
    #[schemars(with = "String", example = "2s")]
    pub timeout: Spanned<String>,
    /// Recommended action, one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "check the web logs, not the database")]
    pub hint: Option<String>,
    /// Alerts of this check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["ShopHealthFailing"])]
    pub alerts: Vec<String>,
    /// Findings that cause it while they are open: `CODE NAME` for a built-in one, for example `postgres.up db`; `CODE` for
    /// one about this host as a whole, or of a site runbook.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", example = ["postgres.up db", "shop.health"])]
    pub explained_by: Vec<Spanned<String>>,
    /// Fix, applied through the guard like all fixes.
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
    /// URL.
    #[schemars(with = "String", example = "http://127.0.0.1:8000/health/")]
    pub url: Spanned<String>,
    /// Accepted statuses. Default: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<u16>", example = [200])]
    pub status: Vec<Spanned<u16>>,
    /// A text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Welcome")]
    pub contains: Option<String>,
    /// Texts that the body must not contain: those of an error page with status 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["page not found"])]
    pub lacks: Vec<String>,
    /// Required values in a JSON body, by JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, String>,
    /// Texts that response headers must contain, by header name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answer_header: BTreeMap<String, String>,
    /// Request headers; `${NAME}` is replaced with an environment variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub header: BTreeMap<String, Spanned<String>>,
    /// A file that contains only a token, which is sent as `Authorization: Bearer …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "/etc/opsctl/shop-token")]
    pub bearer_file: Option<Spanned<String>>,
    /// The IP address to connect to instead of resolving the host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "127.0.0.1")]
    pub address: Option<Spanned<String>>,
    /// The container that is the source of the request. Default: this host.
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
    /// The container that is the source of the request. Default: this host.
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
    /// Server name (SNI), which the certificate must match. Default: the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// STARTTLS protocol: `smtp` or `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"smtp")]
    pub starttls: Option<Spanned<String>>,
    /// Whether the certificate must chain to a CA that this host trusts.
    #[serde(default = "yes")]
    pub trusted: bool,
    /// The container that is the source of the request. Default: this host.
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
    /// The server, as listed by `opsctl targets`. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"db")]
    pub server: Option<String>,
    /// The database. Default: the most used one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shop")]
    pub database: Option<String>,
    /// One `SELECT` of one row and one column, run in a read-only transaction. Names need their schema: `public.orders`.
    #[schemars(with = "String", example = "SELECT count(*) FROM public.orders WHERE state = 'stuck'")]
    pub query: Spanned<String>,
    /// Expected result, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"true")]
    pub equals: Option<String>,
}

/// `redis = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Redis {
    /// The server, as listed by `opsctl targets`. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"cache")]
    pub server: Option<String>,
    /// Database number.
    #[serde(default)]
    pub database: u32,
    /// A read-only command: `LLEN`, `GET`, `SCARD`, `ZCARD`, `DBSIZE`, `TTL`, `EXISTS`, `INFO` with a field, and similar ones.
    #[schemars(with = "Vec<String>", example = ["LLEN", "celery"])]
    pub command: Vec<Spanned<String>>,
    /// Expected result, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
}

/// `metric = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Metric {
    /// The Prometheus server, as listed by `opsctl targets`. Default: the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"monitoring_prometheus")]
    pub server: Option<String>,
    /// PromQL. A result without series is unknown: use `… or vector(0)` to define it.
    #[schemars(example = "sum(rate(shop_errors_total[5m])) or vector(0)")]
    pub query: String,
}

/// `command = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Command {
    /// Program (an absolute path, or a name in the usual directories) and arguments. No shell is used.
    #[schemars(with = "Vec<String>", example = ["/usr/lib/nagios/plugins/check_ntp_time", "-H", "127.0.0.1"])]
    pub argv: Vec<Spanned<String>>,
    /// Working directory. Default: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "/opt/shop")]
    pub cwd: Option<Spanned<String>>,
    /// Meaning of its exit code: `zero` (0 is success, others are failures) or `nagios` (0 ok, 1 warn, 2 crit, 3 unknown).
    #[serde(default = "zero")]
    #[schemars(with = "String", example = &"nagios")]
    pub exit: Spanned<String>,
    /// A text that the output must contain.
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
    /// Path; for a pattern the newest matching file is used.
    #[schemars(with = "String", example = "/opt/backups/*.sql.gz")]
    pub path: Spanned<String>,
    /// Whether it must exist.
    #[serde(default = "yes")]
    pub exists: bool,
    /// Maximum age of the last write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "26h")]
    pub max_age: Option<Spanned<String>>,
    /// Minimum size, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    /// Maximum size, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"root")]
    pub owner: Option<String>,
    /// Texts that it must contain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Texts that it must not contain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
}

/// `log = { … }`: exactly one of `container`, `unit` and `file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Log {
    /// The log of this container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"shop_web")]
    pub container: Option<String>,
    /// The log of this unit.
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
    /// Period. Default: 10 minutes; for a file its last MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "10m")]
    pub within: Option<Spanned<String>>,
}

/// `[check.fix]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Fix {
    /// Name; with the prefix of the runbook it is the fix id: `shop.restart`.
    #[schemars(with = "String", example = &"restart")]
    pub name: Spanned<String>,
    /// Title in the imperative, one line.
    #[schemars(example = "restart the backend")]
    pub title: String,
    /// Program (an absolute path, or a name in the usual directories) and arguments. No shell is used; secrets are not allowed.
    #[schemars(with = "Vec<String>", example = ["make", "restart", "ENV=prod"])]
    pub argv: Vec<Spanned<String>>,
    /// Working directory. Default: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "/opt/shop")]
    pub cwd: Option<Spanned<String>>,
    /// Risk: `R1` interrupts nothing, `R2` one object, `R3` many objects or loses data.
    #[schemars(with = "String", example = &"R2")]
    pub risk: Spanned<String>,
    /// Duration of the interruption, as text.
    #[serde(default = "unknown")]
    #[schemars(example = "10 s")]
    pub downtime: String,
    /// Other effects, as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["requests that are being answered fail"])]
    pub affects: Vec<String>,
    /// Command that reverts it, as `argv`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub undo: Vec<Spanned<String>>,
    /// Time limit.
    #[serde(default = "two_minutes")]
    #[schemars(with = "String", example = "2m")]
    pub timeout: Spanned<String>,
    /// Time to wait for the check to pass.
    #[serde(default = "one_minute")]
    #[schemars(with = "String", example = "1m")]
    pub verify_within: Spanned<String>,
}

fn unknown() -> String {
    "not specified".to_owned()
}

fn two_minutes() -> Spanned<String> {
    Spanned::new(0..0, "2m".to_owned())
}

fn one_minute() -> Spanned<String> {
    Spanned::new(0..0, "1m".to_owned())
}
