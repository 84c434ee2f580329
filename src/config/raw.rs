//! The configuration as the file says it. Every key is optional; a missing one has the default given here.

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
    /// Which runbooks answer an alert that no runbook lists, for `opsctl respond` and `opsctl listen`.
    pub alert: Vec<Alert>,
    /// How the journal of changes is protected.
    pub audit: Audit,
    /// Where `opsctl report` and the answers to alerts go, beside standard output.
    pub delivery: Vec<Delivery>,
    /// Addresses that are asked, and what they should answer.
    pub endpoint: Vec<Endpoint>,
    /// Which container engine to talk to.
    pub engine: Engine,
    /// What this host is to the monitoring system: its labels, and whether it is watched at all.
    pub host: Host,
    /// How `opsctl listen` is reached and who may call it.
    pub listen: Listen,
    /// Who owns what: the first match gives the owner shown with a finding.
    pub owner: Vec<Owner>,
    /// Where opsctl keeps its own files.
    pub paths: Paths,
    /// What `opsctl fix` may do without a person.
    pub policy: Policy,
    /// What `opsctl report` leaves beside what it delivers.
    pub report: Report,
    /// How a run behaves.
    pub run: Run,
    /// Limits and expectations, one table per runbook.
    pub runbooks: Settings,
    /// Databases, caches and brokers that cannot be found, or not be logged in to, without help.
    pub server: Vec<Server>,
    /// What is known and does not count for a while, and planned maintenance; `opsctl waive` is for what comes up at night.
    pub waiver: Vec<Waiver>,
}

/// `[[alert]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Name of the alert (the label `alertname`); `*` stands for any text.
    #[schemars(example = "ShopCheckout*")]
    pub name: String,
    /// Runbooks that answer it.
    #[schemars(with = "Vec<String>", example = ["nginx", "postgres"])]
    pub runbooks: Vec<Spanned<String>>,
    /// The label that says what it is about, if it is an unusual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"pod")]
    pub subject_label: Option<String>,
}

/// `[audit]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// An Ed25519 key (PKCS#8) that every entry of the journal and every reported head is signed with; `opsctl audit key FILE` creates one.
    /// The file must belong to root with mode 0600, in directories that root alone may write. Without it: no signatures.
    #[schemars(with = "Option<String>", example = "/etc/opsctl/journal.key")]
    pub signing_key: Option<Spanned<String>>,
}

/// `[[delivery]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// `smtp://host:port`, `smtps://host`, the `https://` address of a webhook, or `file:/path`. `${NAME}` stands for a variable
    /// of the environment.
    #[schemars(with = "String", example = &"smtp://mail.example.org:25")]
    pub to: Spanned<String>,
    /// When: `change` (something is new or over), `always` (every report), `day`, `week`, `month` (`opsctl report --digest`),
    /// `alert` (answers of `opsctl listen`).
    #[serde(default = "on_change")]
    #[schemars(with = "Vec<String>", example = ["change", "alert"])]
    pub when: Vec<Spanned<String>>,
    /// Only what belongs to this owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "team-x")]
    pub owner: Option<String>,
    /// Shape of a webhook: slack, discord, teams, mattermost, or json for the report itself. Without it: by the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"slack")]
    pub shape: Option<Spanned<String>>,
    /// Format of a file. Without it: by its ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = &"html")]
    pub format: Option<Spanned<String>>,
    /// Who mail is sent to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>", example = ["ops@example.org"])]
    pub mail: Vec<Spanned<String>>,
    /// Who mail comes from. Without it: opsctl at this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "opsctl@web-1.example.org")]
    pub from: Option<Spanned<String>>,
    /// User of the mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A file that holds its password and nothing else.
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
    /// What is asked: `http://`, `https://`, `tcp://host:port`; of `smtp://` and `postgres://` only the certificate is looked at.
    #[schemars(with = "String", example = &"https://shop.example.org/health/")]
    pub url: Spanned<String>,
    /// Statuses that are right. Without it: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<u16>", example = [200])]
    pub expect_status: Vec<Spanned<u16>>,
    /// A text that stands in the body: a page that says "not found" with status 200 is told so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"Welcome")]
    pub expect_body: Option<String>,
    /// Values in a JSON body, by JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = json_example())]
    pub expect_json: BTreeMap<String, String>,
    /// How long an answer may take, in milliseconds; longer is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1000)]
    pub latency_ms: Option<u64>,
    /// From where it is asked: `host`, or a container by its name. Without it: this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "nginx-proxy")]
    pub from: Option<String>,
    /// What a right answer proves, in your words: endpoints that prove the same are compared with each other.
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
    /// Where the engine listens, as `DOCKER_HOST` has it. Without it: `$DOCKER_HOST`, then the usual sockets.
    #[schemars(with = "Option<String>", example = "unix:///var/run/docker.sock")]
    pub endpoint: Option<Spanned<String>>,
}

/// `[host]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Whether a Prometheus is to scrape this host. Without it: yes, as soon as there are labels. `false` takes it out: it is retired.
    #[schemars(example = true)]
    pub monitored: Option<bool>,
    /// The labels it is to have there, by name; alerts and dashboards go by them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = labels_example())]
    pub labels: BTreeMap<String, String>,
    /// The address it is scraped at. Without it: the address this host reaches others from, and the port of its `node_exporter` or Alloy.
    #[schemars(with = "Option<String>", example = "192.168.0.101:9100")]
    pub address: Option<Spanned<String>>,
    /// The path of its metrics. Without it: `/metrics`, and what Alloy's own exporter has for Alloy.
    #[schemars(example = "/metrics")]
    pub metrics_path: Option<String>,
    /// The file with its entry. Without it: a file of its own where a Prometheus of this host looks for targets.
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
    /// Name of the subject; `*` stands for any text, `?` for one character.
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
    /// As `opsctl targets` shows it, to log in to one that was found; any name with `url`.
    #[schemars(with = "String", example = &"shared_postgres")]
    pub name: Spanned<String>,
    /// Where it is, if it cannot be found: `postgres://`, `redis://` (`rediss://` with TLS), `amqp://`, `pgbouncer://`, or
    /// `prometheus://`, `alertmanager://`, `loki://`, `alloy://`, `grafana://` (`…+https://` with TLS, the path is a route prefix), then
    /// `user:password@host:port/database`. `${NAME}` stands for a variable of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "postgres://monitor:${PG_PASSWORD}@10.0.0.5:5432/app")]
    pub url: Option<Spanned<String>>,
    /// User or role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password, best as `${NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", example = "${PG_PASSWORD}")]
    pub password: Option<Spanned<String>>,
    /// A file that holds the password and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "/etc/opsctl/pg-password")]
    pub password_file: Option<String>,
}

/// `[paths]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Paths {
    /// Journal, history and saved files. Without it: `$OPSCTL_STATE_DIR`, then /var/lib/opsctl for root and ~/.local/state/opsctl for others.
    #[schemars(with = "Option<String>", example = "/var/lib/opsctl")]
    pub state_dir: Option<Spanned<String>>,
}

/// `[policy]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Fixes that may be applied without a person, by id: by `opsctl listen` when an alert asks for one, and, where they are of
    /// risk R3, by `--yes --risk R3`.
    #[schemars(with = "Vec<String>", example = ["disk.prune-dangling-images"])]
    pub allow: Vec<Spanned<String>>,
    /// How often one fix may be applied to one subject within an hour; then a person has to find out why it does not last.
    pub max_fixes_per_hour: u32,
    /// How often one fix may be applied on this host within an hour, whatever it is applied to.
    pub max_fixes_per_hour_per_fix: u32,
    /// How many fixes may be applied on this host within an hour.
    pub max_fixes_per_hour_per_host: u32,
}

impl Default for Policy {
    fn default() -> Self {
        // catalogue §0, guard protocol: the band-aid breaker. Of one fix three subjects' worth, of all fixes twice that: more is a fault of the
        // host or of opsctl, not of the subjects (judgement)
        Self { allow: Vec::new(), max_fixes_per_hour: 3, max_fixes_per_hour_per_fix: 10, max_fixes_per_hour_per_host: 20 }
    }
}

/// `[run]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Run {
    /// How long a whole run may take, for example `10s` or `1m 30s`.
    #[schemars(with = "String")]
    pub deadline: Spanned<String>,
    /// How many days numbers of earlier runs are kept to tell growth by (the longest growth a check looks at is a week).
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
    /// An address that is asked after every report, so that somebody notices when none is made any more. `${NAME}` stands for a
    /// variable of the environment.
    #[schemars(with = "Option<String>", example = "https://hc-ping.com/${HEARTBEAT}")]
    pub heartbeat: Option<Spanned<String>>,
    /// What is open and known is told again after this long without news, for example `24h`.
    #[schemars(with = "String")]
    pub remind_after: Spanned<String>,
    /// The mode of reports in files, of `--output FORMAT=FILE` and of `[[delivery]]`: `0600`, `0640` or `0644`. With `0640` the group is
    /// that of a directory with the setgid bit. Metrics (`textfile`, and `.prom` files in the format prometheus) always are `0644`.
    #[schemars(with = "String")]
    pub file_mode: Spanned<String>,
    /// A file for the textfile collector of node_exporter, written at every report.
    #[schemars(with = "Option<String>", example = "/var/lib/prometheus/node-exporter/opsctl.prom")]
    pub textfile: Option<Spanned<String>>,
}

impl Default for Report {
    fn default() -> Self {
        // a day: what is known and open must not be forgotten, and not be said every quarter of an hour (judgement)
        let text = |value: &str| Spanned::new(0..0, value.to_owned());
        Self { heartbeat: None, remind_after: text("24h"), file_mode: text("0600"), textfile: None }
    }
}

/// `[listen]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// The TCP address, or `off` for none. Callers send a token or a signature, on loopback too.
    #[schemars(with = "String")]
    pub address: Spanned<String>,
    /// A unix socket. Its callers are known by their user (`SO_PEERCRED`) and need neither token nor signature.
    #[schemars(with = "Option<String>", example = "/run/opsctl-listen.sock")]
    pub socket: Option<Spanned<String>>,
    /// Users who may call over the unix socket besides root, by name or number.
    #[schemars(with = "Vec<String>", example = ["prometheus"])]
    pub socket_users: Vec<Spanned<String>>,
    /// Groups whose members may call over the unix socket besides the group of the socket, by name or number.
    #[schemars(with = "Vec<String>", example = ["alerting"])]
    pub socket_groups: Vec<Spanned<String>>,
    /// A file that holds the token callers send (`Authorization: Bearer`, or the password of basic authentication). Without it, and without
    /// a secret: the file `listen-token` beside the configuration, which the package and `opsctl listen --init` create.
    #[schemars(example = "/etc/opsctl/listen-token")]
    pub token_file: Option<String>,
    /// A file that holds the secret callers sign their request with: HMAC-SHA256 of `TIMESTAMP:BODY`, as Grafana does.
    #[schemars(example = "/etc/opsctl/listen-secret")]
    pub hmac_secret_file: Option<String>,
    /// The header of the signature, in hexadecimal digits.
    #[schemars(with = "String")]
    pub hmac_header: Spanned<String>,
    /// The header of the timestamp that is signed too, in seconds since 1970. A request without it is refused: it could be sent again later.
    #[schemars(with = "String")]
    pub hmac_timestamp_header: Spanned<String>,
    /// How far the timestamp may be from the clock of this host, before and after. Within this time each signature is accepted once.
    #[schemars(with = "String")]
    pub hmac_window: Spanned<String>,
    /// Names by which callers reach this host, besides its host name, `localhost` and the address: requests for another `Host` are refused.
    #[schemars(example = ["web-1.example.org"])]
    pub hosts: Vec<String>,
    /// Web pages (`Origin`) whose scripts may call; requests of all others are refused.
    #[schemars(with = "Vec<String>", example = ["https://ops.example.org"])]
    pub origins: Vec<Spanned<String>>,
    /// How many alerts may wait; more are refused with 503 until there is room, and their sender tries again.
    pub queue: u32,
    /// How often within a minute this host is checked for alerts; one check answers all alerts that wait.
    pub runs_per_minute: u32,
    /// How long after its answer the same alert is not answered again, for example `5m`.
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
            // a check takes a few seconds, and bursts of alerts are answered together (judgement)
            runs_per_minute: 6,
            repeat_after: Spanned::new(0..0, "5m".to_owned()),
        }
    }
}

/// `[[waiver]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Which findings: `CODE` or `CODE@SUBJECT`; `*` stands for any text.
    #[serde(rename = "match")]
    #[schemars(with = "String", example = &"disk.space@/var")]
    pub which: Spanned<String>,
    /// Why.
    #[schemars(example = "a larger disk is on order")]
    pub reason: String,
    /// What kind it is.
    #[serde(default)]
    pub tag: crate::waive::Tag,
    /// When it begins: a moment, or a time of day (UTC) for what comes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = "02:00")]
    pub from: Option<String>,
    /// When it ends: a moment such as `2026-12-01T04:00:00Z`, or a time of day (UTC).
    #[schemars(with = "String", example = &"04:00")]
    pub until: Spanned<String>,
    /// With times of day: only on these days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(example = ["sun"])]
    pub days: Vec<String>,
}
