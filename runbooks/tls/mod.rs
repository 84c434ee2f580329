//! The tls runbook: are the certificates that are served good, do they last, and will the next ones come?

mod files;
mod lasts;
mod renewal;
mod served;
mod timer;

use opsctl_core::model::{KeyKind, Link, Runbook};
use opsctl_core::probe::tls::lineage_of;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.tls]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Days left that are warn, unless that is more than `warn_share` of the certificate's life (netdata health.d/x509check.conf: 14;
    /// awesome-prometheus-alerts: 20; certbot renews at a third of 90 days).
    pub warn_days: f64,
    /// Share of its life in percent that is warn when that is shorter (catalogue §10: 25; certbot renews at 33 or 50).
    pub warn_share: f64,
    /// Days left that are crit, unless that is more than `crit_share` of its life (netdata: 7).
    pub crit_days: f64,
    /// Share of its life in percent that is crit when that is shorter (catalogue §10: 10).
    pub crit_share: f64,
    /// Files of your own certificate authorities, besides those this machine trusts.
    #[schemars(example = ["/etc/ssl/company-ca.pem"])]
    pub ca_files: Vec<String>,
    /// Days without a run of certbot that are warn (catalogue §10: 2; its timer runs twice a day).
    pub silent_days: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { warn_days: 21.0, warn_share: 25.0, crit_days: 7.0, crit_share: 10.0, ca_files: Vec::new(), silent_days: 2 }
    }
}

/// What may cause what (catalogue §18).
const LINKS: &[Link] = &[
    Link::confirmed(
        "tls.renewal-hook",
        "tls.stale-served",
        KeyKind::Certificate,
        "nobody tells the server about a new certificate",
    )
    .treatable(),
    Link::confirmed("tls.stale-served", "tls.expiry", KeyKind::Certificate, "a newer one lies on disk and is not loaded"),
    Link::confirmed("tls.renewal-timer", "tls.expiry", KeyKind::Certificate, "nothing renews it").treatable(),
    Link::confirmed("tls.renewal-failing", "tls.expiry", KeyKind::Certificate, "its renewal fails"),
    Link::confirmed(
        "container.bind-broken",
        "tls.stale-served",
        KeyKind::Container,
        "the container sees the file from before it was replaced",
    ),
    Link::confirmed("nginx.config-test", "tls.stale-served", KeyKind::Server, "what does not pass its test is not loaded"),
    Link::confirmed(
        "tls.stale-served",
        "nginx.config-not-loaded",
        KeyKind::Server,
        "the new file is the certificate that is not loaded",
    )
    .treatable(),
    Link::confirmed("tls.key-mismatch", "nginx.config-test", KeyKind::Server, "a key does not fit its certificate"),
    Link::confirmed("tls.file", "nginx.config-test", KeyKind::Server, "a certificate file cannot be used"),
    Link::confirmed("nginx.stopped", "tls.handshake", KeyKind::Server, "nginx does not run"),
    Link::confirmed("nginx.listening", "tls.handshake", KeyKind::Server, "it does not listen there"),
    Link::confirmed("tls.handshake", "healthcheck.http", KeyKind::Certificate, "there is no TLS"),
    Link::likely("time.offset", "tls.not-yet-valid", KeyKind::Host, "the clock is wrong"),
    Link::likely("time.offset", "tls.expiry", KeyKind::Host, "the clock is wrong"),
    Link::likely("disk.space", "tls.renewal-failing", KeyKind::Filesystem, "there is no room for a new one"),
    Link::likely("disk.inodes", "tls.renewal-failing", KeyKind::Filesystem, "there is no room for a new one"),
    Link::likely("disk.readonly", "tls.renewal-failing", KeyKind::Filesystem, "its folder is read-only"),
    Link::likely("network.docker-chains", "tls.renewal-failing", KeyKind::Host, "the authority does not get to port 80"),
    Link::likely("network.forward-drop", "tls.renewal-failing", KeyKind::Host, "the authority does not get to port 80"),
];

/// The runbook with these settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "tls",
        about: "Certificates: those that are served, those on disk, and whether the next ones will come",
        checks: vec![
            Box::new(served::Served { settings: settings.clone() }),
            Box::new(files::Files { settings: settings.clone() }),
            Box::new(renewal::Renewal { settings: settings.clone() }),
            Box::new(timer::Timer { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
    }
}

/// What ties a certificate to those who meet it at `host:port`.
pub(crate) fn served_key(at: &str) -> String {
    format!("served:{at}")
}

/// What ties findings about one certificate: its lineage, or its file as its server sees it.
fn key_of(server: Option<&str>, path: &str) -> String {
    match lineage_of(path) {
        Some(name) => format!("lineage:{name}"),
        None => format!("file:{}:{path}", server.unwrap_or_default()),
    }
}
