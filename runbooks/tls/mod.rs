//! The tls runbook: served certificates, certificate files, and their renewal.

mod files;
mod renewal;
mod served;
mod timer;
mod validity;

use opsctl_core::model::{KeyKind, Link, Runbook};
use opsctl_core::probe::tls::lineage_of;

use crate::shared::settings::settings;

settings! {
    /// `[runbooks.tls]`.
    pub struct Settings {
        /// Days left that are warn, unless that is more than `warn_share` of the certificate's lifetime (netdata
        /// health.d/x509check.conf: 14;
        /// awesome-prometheus-alerts: 20; certbot renews at a third of 90 days).
        warn_days: f64 = 21.0,
        /// Share of its lifetime in percent that is warn if that is shorter (judgement: 25; certbot renews at 33 or 50).
        warn_share: f64 = 25.0,
        /// Days left that are crit, unless that is more than `crit_share` of its lifetime (netdata: 7).
        crit_days: f64 = 7.0,
        /// Share of its lifetime in percent that is crit if that is shorter (judgement: 10).
        crit_share: f64 = 10.0,
        /// Files of private certificate authorities, in addition to the host's trust store.
        #[schemars(example = ["/etc/ssl/company-ca.pem"])]
        ca_files: Vec<String> = Vec::new(),
        /// Days without a run of certbot that are warn (judgement: 2; its timer runs twice a day).
        silent_days: i64 = 2,
    }
}

/// Causal links between findings; docs/causes.md lists all links.
const LINKS: &[Link] = &[
    Link::confirmed("tls.renewal-hook", "tls.stale-served", KeyKind::Certificate, "the server is not reloaded after a renewal")
        .treatable(),
    Link::confirmed("tls.stale-served", "tls.expiry", KeyKind::Certificate, "a newer certificate is on disk and not loaded"),
    Link::confirmed("tls.renewal-timer", "tls.expiry", KeyKind::Certificate, "no renewal is scheduled").treatable(),
    Link::confirmed("tls.renewal-failing", "tls.expiry", KeyKind::Certificate, "its renewal fails"),
    Link::confirmed(
        "nginx.config-test",
        "tls.stale-served",
        KeyKind::Server,
        "nginx does not load a configuration that fails its test",
    ),
    Link::confirmed(
        "tls.stale-served",
        "nginx.config-not-loaded",
        KeyKind::Server,
        "the new file is the certificate that is not loaded",
    )
    .treatable(),
    Link::confirmed("tls.key-mismatch", "nginx.config-test", KeyKind::Server, "a private key does not match its certificate"),
    Link::confirmed("tls.file", "nginx.config-test", KeyKind::Server, "a certificate file cannot be used"),
    Link::confirmed("nginx.listening", "tls.handshake", KeyKind::Server, "nginx does not listen at that address"),
];

/// Builds the runbook from its settings.
#[must_use]
pub fn runbook(settings: &Settings) -> Runbook {
    let settings = settings.clone();
    Runbook {
        id: "tls",
        about: "Certificates: served, on disk, and their renewal",
        checks: vec![
            Box::new(served::Served { settings: settings.clone() }),
            Box::new(files::Files { settings: settings.clone() }),
            Box::new(renewal::Renewal { settings: settings.clone() }),
            Box::new(timer::Timer { settings }),
        ],
        links: &[LINKS],
        doc: include_str!("RUNBOOK.md"),
        ..Runbook::default()
    }
}

/// The key that links a certificate to its clients at `host:port`.
pub(crate) fn served_key(at: &str) -> String {
    format!("served:{at}")
}

/// The key that links findings about one certificate: its lineage, or its file path as seen by its server.
fn key_of(server: Option<&str>, path: &str) -> String {
    match lineage_of(path) {
        Some(name) => format!("lineage:{name}"),
        None => format!("file:{}:{path}", server.unwrap_or_default()),
    }
}
