//! The content of the configuration file. All keys are optional; the defaults are given here.

use std::collections::BTreeMap;

use opsctl_runbooks::Settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Spanned;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "opsctl configuration")]
pub struct Raw {
    /// Runbooks for alerts that no runbook lists, for `opsctl respond` and `opsctl listen`.
    pub alert: Vec<Alert>,
    /// Protection of the journal of changes.
    pub audit: Audit,
    /// Destinations of `opsctl report` and of responses to alerts, in addition to standard output.
    pub delivery: Vec<Delivery>,
    /// Addresses to check, and the expected responses.
    pub endpoint: Vec<Endpoint>,
    /// The container engine.
    pub engine: Engine,
    /// This host in the monitoring system: its labels, and whether it is scraped.
    pub host: Host,
    /// Addresses and authentication of `opsctl listen`.
    pub listen: Listen,
    /// Owners of subjects: the first match is the owner shown with a finding.
    pub owner: Vec<Owner>,
    /// Directories of opsctl.
    pub paths: Paths,
    /// Fixes that opsctl may apply without confirmation, and their rate limits.
    pub policy: Policy,
    /// Reminders, heartbeat and files of `opsctl report`.
    pub report: Report,
    /// Settings of a run.
    pub run: Run,
    /// Limits and expectations, one table per runbook.
    pub runbooks: Settings,
    /// Databases, caches and brokers that cannot be discovered, or need credentials.
    pub server: Vec<Server>,
    /// Silenced findings and planned maintenance; for temporary ones see `opsctl waive`.
    pub waiver: Vec<Waiver>,
}

/// `[[alert]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Name of the alert (the label `alertname`); `*` matches any text.
    #[schemars(example = "ShopCheckout*")]
    pub name: String,
    /// Runbooks to run for it.
    #[schemars(with = "Vec<String>", example = ["nginx", "postgres"])]
    pub runbooks: Vec<Spanned<String>>,
    /// The label with the subject, if it is not one of the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"pod")]
    pub subject_label: Option<String>,
}

/// `[audit]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// An Ed25519 key (PKCS#8) that every entry of the journal and every reported head is signed with; `opsctl audit key FILE` creates one.
    /// The file must belong to root with mode 0600, in directories that only root can write. Default: no signatures.
    #[schemars(with = "Option<String>", example = "/etc/opsctl/journal.key")]
    pub signing_key: Option<Spanned<String>>,
}

/// `[[delivery]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// `smtp://host:port`, `smtps://host`, the `https://` URL of a webhook, or `file:/path`. `${NAME}` is replaced with an environment
    /// variable.
    #[schemars(with = "String", example = &"smtp://mail.example.org:25")]
    pub to: Spanned<String>,
    /// Occasions: `change` (a new or resolved finding), `always` (every report), `day`, `week`, `month` (`opsctl report --digest`),
    /// `alert` (responses of `opsctl listen`).
    #[serde(default = "on_change")]
    #[schemars(with = "Vec<String>", example = ["change", "alert"])]
    pub when: Vec<Spanned<String>>,
    /// Only findings of this owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "team-x")]
    pub owner: Option<String>,
    /// Format of a webhook: slack, discord, teams, mattermost, or json for the report itself. Default: derived from the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"slack")]
    pub shape: Option<Spanned<String>>,
    /// Format of a file. Default: derived from its extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"html")]
    pub format: Option<Spanned<String>>,
    /// Recipients of mail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", example = ["ops@example.org"])]
    pub mail: Vec<Spanned<String>>,
    /// Sender of mail. Default: opsctl at this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "opsctl@web-1.example.org")]
    pub from: Option<Spanned<String>>,
    /// User name for the mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A file that contains only its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/opsctl/mail-password")]
    pub password_file: Option<String>,
}

fn on_change() -> Vec<Spanned<String>> {
    vec![Spanned::new(0..0, "change".to_owned())]
}

/// `[[endpoint]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// URL: `http://`, `https://`, `tcp://host:port`; for `smtp://` and `postgres://` only the certificate is checked.
    #[schemars(with = "String", example = &"https://shop.example.org/health/")]
    pub url: Spanned<String>,
    /// Accepted statuses. Default: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<u16>", example = [200])]
    pub expect_status: Vec<Spanned<u16>>,
    /// A text that the body must contain: detects an error page with status 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Welcome")]
    pub expect_body: Option<String>,
    /// Required values in a JSON body, by JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json_example())]
    pub expect_json: BTreeMap<String, String>,
    /// Limit of the response time, in milliseconds; a slower response is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1000)]
    pub latency_ms: Option<u64>,
    /// Source of the request: `host`, or a container by its name. Default: this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "nginx-proxy")]
    pub from: Option<String>,
    /// The fact proven by a correct response, as free text: endpoints that prove the same are compared with each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "deep health")]
    pub proves: Option<String>,
}

fn json_example() -> BTreeMap<String, String> {
    BTreeMap::from([("/status".to_owned(), "ok".to_owned())])
}

/// `[engine]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Endpoint of the engine, in the format of `DOCKER_HOST`: `unix://`, `tcp://`, `https://` or `ssh://`. Default: `$DOCKER_HOST`,
    /// `$DOCKER_CONTEXT`, then the current context of the Docker CLI and every usual socket of Docker and Podman.
    #[schemars(with = "Option<String>", example = "unix:///var/run/docker.sock")]
    pub endpoint: Option<Spanned<String>>,
}

/// `[host]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Whether Prometheus should scrape this host. Default: yes, if there are labels. `false` removes a retired host.
    #[schemars(example = true)]
    pub monitored: Option<bool>,
    /// The labels of this host in Prometheus, by name; alerts and dashboards use them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = labels_example())]
    pub labels: BTreeMap<String, String>,
    /// The scrape address. Default: the source address of this host's default route, and the port of its `node_exporter` or Alloy.
    #[schemars(with = "Option<String>", example = "192.168.0.101:9100")]
    pub address: Option<Spanned<String>>,
    /// The path of its metrics. Default: `/metrics`, or the path of the built-in exporter of Alloy.
    #[schemars(example = "/metrics")]
    pub metrics_path: Option<String>,
    /// The file with its entry. Default: a separate file in the target directory of a Prometheus of this host.
    #[schemars(with = "Option<String>", example = "/etc/prometheus/targets/web-server-01.json")]
    pub targets_file: Option<Spanned<String>>,
}

fn labels_example() -> BTreeMap<String, String> {
    let labels = [("environment", "production"), ("maintainers", "admin@example.org")];
    labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// `[[owner]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Name of the subject; `*` matches any text, `?` one character.
    #[serde(rename = "match")]
    #[schemars(example = "web*")]
    pub pattern: String,
    /// Shown with its findings.
    #[schemars(example = "team-x")]
    pub owner: String,
}

/// `[[server]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The name in `opsctl targets`, for the credentials of a discovered server; any name with `url`.
    #[schemars(with = "String", example = &"db")]
    pub name: Spanned<String>,
    /// URL, if it cannot be discovered: `postgres://`, `redis://` (`rediss://` with TLS), `amqp://`, `pgbouncer://`, or
    /// `prometheus://`, `alertmanager://`, `loki://`, `alloy://`, `grafana://` (`…+https://` with TLS, the path is a route prefix), then
    /// `user:password@host:port/database`. `${NAME}` is replaced with an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "postgres://monitor:${PG_PASSWORD}@10.0.0.5:5432/app")]
    pub url: Option<Spanned<String>>,
    /// User or role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password, preferably as `${NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "${PG_PASSWORD}")]
    pub password: Option<Spanned<String>>,
    /// A file that contains only the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/opsctl/pg-password")]
    pub password_file: Option<String>,
}

/// `[paths]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Journal, history and saved files. Default: `$OPSCTL_STATE_DIR`, then /var/lib/opsctl for root and ~/.local/state/opsctl for other users.
    #[schemars(with = "Option<String>", example = "/var/lib/opsctl")]
    pub state_dir: Option<Spanned<String>>,
}

/// `[policy]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Fixes that may be applied without confirmation, by id: by `opsctl listen` for an alert, and, if they have risk R3, by
    /// `--yes --risk R3`.
    #[schemars(with = "Vec<String>", example = ["disk.prune-dangling-images"])]
    pub allow: Vec<Spanned<String>>,
    /// Limit per hour of one fix for one subject; beyond it, the recurring fault needs manual investigation.
    pub max_fixes_per_hour: u32,
    /// Limit per hour of one fix on this host, for all subjects.
    pub max_fixes_per_hour_per_fix: u32,
    /// Limit per hour of all fixes on this host.
    pub max_fixes_per_hour_per_host: u32,
}

impl Default for Policy {
    fn default() -> Self {
        // judgement: a fault that recurs after three fixes has another cause. One fix: about three subjects; all fixes: twice
        // that. More is a fault of the host or of opsctl, not of the subjects
        Self { allow: Vec::new(), max_fixes_per_hour: 3, max_fixes_per_hour_per_fix: 10, max_fixes_per_hour_per_host: 20 }
    }
}

/// `[run]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// Deadline of a run, for example `10s` or `1m 30s`.
    #[schemars(with = "String")]
    pub deadline: Spanned<String>,
    /// Retention of samples of earlier runs, in days, for growth rates (the longest period of a check is a week).
    pub history_days: u16,
    /// Runbooks or checks that are never run, by id.
    #[schemars(with = "Vec<String>", example = ["healthcheck"])]
    pub skip: Vec<Spanned<String>>,
}

impl Default for Run {
    fn default() -> Self {
        Self { deadline: Spanned::new(0..0, "10s".to_owned()), history_days: 14, skip: Vec::new() }
    }
}

/// `[report]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// A URL that is requested after every report, for monitoring of the reports themselves. `${NAME}` is replaced with an environment
    /// variable.
    #[schemars(with = "Option<String>", example = "https://hc-ping.com/${HEARTBEAT}")]
    pub heartbeat: Option<Spanned<String>>,
    /// Open findings are reported again after this time without changes, for example `24h`.
    #[schemars(with = "String")]
    pub remind_after: Spanned<String>,
    /// The mode of reports in files, of `--output FORMAT=FILE` and of `[[delivery]]`: `0600`, `0640` or `0644`. With `0640` the group is
    /// that of a directory with the setgid bit. Metrics (`textfile`, and `.prom` files in the format prometheus) always are `0644`.
    #[schemars(with = "String")]
    pub file_mode: Spanned<String>,
    /// A file for the textfile collector of node_exporter, written with every report.
    #[schemars(with = "Option<String>", example = "/var/lib/prometheus/node-exporter/opsctl.prom")]
    pub textfile: Option<Spanned<String>>,
}

impl Default for Report {
    fn default() -> Self {
        // a day: open findings must not be forgotten, and not be repeated every quarter of an hour (judgement)
        let text = |value: &str| Spanned::new(0..0, value.to_owned());
        Self { heartbeat: None, remind_after: text("24h"), file_mode: text("0600"), textfile: None }
    }
}

/// `[listen]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The TCP address, or `off` for none. Clients send a token or a signature, also on loopback.
    #[schemars(with = "String")]
    pub address: Spanned<String>,
    /// A unix socket. Clients are authenticated by their user (`SO_PEERCRED`) and need neither token nor signature.
    #[schemars(with = "Option<String>", example = "/run/opsctl-listen.sock")]
    pub socket: Option<Spanned<String>>,
    /// Users that may connect to the unix socket besides root, by name or number.
    #[schemars(with = "Vec<String>", example = ["prometheus"])]
    pub socket_users: Vec<Spanned<String>>,
    /// Groups that may connect to the unix socket besides the group of the socket, by name or number.
    #[schemars(with = "Vec<String>", example = ["alerting"])]
    pub socket_groups: Vec<Spanned<String>>,
    /// A file with the token that clients send (`Authorization: Bearer`, or the password of basic authentication). Default, without
    /// a secret: the file `listen-token` beside the configuration, which the package and `opsctl listen --init` create.
    #[schemars(example = "/etc/opsctl/listen-token")]
    pub token_file: Option<String>,
    /// A file with the secret for request signatures: HMAC-SHA256 of `TIMESTAMP:BODY`, as in Grafana.
    #[schemars(example = "/etc/opsctl/listen-secret")]
    pub hmac_secret_file: Option<String>,
    /// The header of the signature, in hexadecimal digits.
    #[schemars(with = "String")]
    pub hmac_header: Spanned<String>,
    /// The header of the signed timestamp, in seconds since 1970. A request without it is rejected: it could be replayed.
    #[schemars(with = "String")]
    pub hmac_timestamp_header: Spanned<String>,
    /// Maximum difference between the timestamp and the clock of this host. Within this time each signature is accepted once.
    #[schemars(with = "String")]
    pub hmac_window: Spanned<String>,
    /// Names of this host in requests, besides its host name, `localhost` and the address: requests for another `Host` are rejected.
    #[schemars(example = ["web-1.example.org"])]
    pub hosts: Vec<String>,
    /// Accepted values of `Origin` for scripts of web pages; all other origins are rejected.
    #[schemars(with = "Vec<String>", example = ["https://ops.example.org"])]
    pub origins: Vec<Spanned<String>>,
    /// Maximum number of queued alerts; further ones are rejected with 503, and their sender retries.
    pub queue: u32,
    /// Maximum number of runs per minute for alerts; one run handles all queued alerts.
    pub runs_per_minute: u32,
    /// Time after a response during which the same alert is not handled again, for example `5m`.
    #[schemars(with = "String")]
    pub repeat_after: Spanned<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: Spanned::new(0..0, "127.0.0.1:9797".to_owned()),
            socket: None,
            socket_users: Vec::new(),
            socket_groups: Vec::new(),
            token_file: None,
            hmac_secret_file: None,
            // grafana.com/docs: configure the webhook notifier, HMAC signature
            hmac_header: Spanned::new(0..0, "X-Grafana-Alerting-Signature".to_owned()),
            hmac_timestamp_header: Spanned::new(0..0, "X-Grafana-Alerting-Timestamp".to_owned()),
            hmac_window: Spanned::new(0..0, "5m".to_owned()),
            hosts: Vec::new(),
            origins: Vec::new(),
            queue: 1000,
            // a run takes a few seconds, and bursts of alerts are handled together (judgement)
            runs_per_minute: 6,
            repeat_after: Spanned::new(0..0, "5m".to_owned()),
        }
    }
}

/// `[[waiver]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Findings: `CODE` or `CODE@SUBJECT`; `*` matches any text.
    #[serde(rename = "match")]
    #[schemars(with = "String", example = &"disk.space@/var")]
    pub which: Spanned<String>,
    /// Reason.
    #[schemars(example = "a larger disk is on order")]
    pub reason: String,
    /// Kind.
    #[serde(default)]
    pub tag: super::waiver::Tag,
    /// Start: a timestamp, or a time of day (UTC) for a recurring waiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "02:00")]
    pub from: Option<String>,
    /// End: a timestamp such as `2026-12-01T04:00:00Z`, or a time of day (UTC).
    #[schemars(with = "String", example = &"04:00")]
    pub until: Spanned<String>,
    /// With times of day: only on these days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["sun"])]
    pub days: Vec<String>,
}
