//! Mapping of an alert to runbooks and objects.

use opsctl_core::model::address::Address;

use crate::catalog::Catalog;
use crate::config;

use super::Alert;

/// Labels that name the object of an alert, the most specific first.
const SUBJECT_LABELS: &[&str] = &[
    "container",
    "container_name",
    "container_label_com_docker_compose_service",
    "name",
    "unit",
    "systemd_unit",
    "mountpoint",
    "queue",
    "queue_name",
    "domain",
    "target",
    "instance",
    "host",
    "service",
];

/// Labels that determine the runbook.
const RUNBOOK_LABELS: &[(&str, &str)] = &[
    ("container", "container"),
    ("container_name", "container"),
    ("container_label_com_docker_compose_service", "container"),
    ("unit", "systemd"),
    ("systemd_unit", "systemd"),
    ("mountpoint", "disk"),
    ("queue_name", "celery"),
    ("datname", "postgres"),
];

/// The mapping of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whether a runbook or the configuration handles this alert name.
    pub known: bool,
    /// The runbooks for the alert; empty for all.
    pub runbooks: Vec<String>,
    /// Candidate names of the object, from the labels.
    pub words: Vec<String>,
}

/// Maps an alert.
#[must_use]
pub fn route(alert: &Alert, catalog: &Catalog, configured: &[config::Alert]) -> Route {
    let own = configured.iter().find(|a| a.is_for(&alert.name));
    let listed = catalog.alerts().into_iter().filter(|(name, _)| name.eq_ignore_ascii_case(&alert.name));
    let listed = || listed.map(|(_, runbook)| runbook.id.to_owned()).collect();
    let mut runbooks: Vec<String> = own.map_or_else(listed, |own| own.runbooks.clone());
    // rules of opsctl (packaging/prometheus): the alert is a finding, and has its code
    let code = alert.labels.get("code").filter(|code| catalog.codes().iter().any(|c| c.id == code.as_str()));
    if let Some((runbook, _)) = code.and_then(|code| catalog.runbook_of(code))
        && !runbooks.iter().any(|r| r == runbook.id)
    {
        runbooks.push(runbook.id.to_owned());
    }
    let known = !runbooks.is_empty() || own.is_some();
    let by_label = RUNBOOK_LABELS.iter().filter(|(label, _)| alert.labels.get(*label).is_some_and(|v| !v.is_empty()));
    for (_, runbook) in by_label {
        if !runbooks.iter().any(|r| r == runbook) {
            runbooks.push((*runbook).to_owned());
        }
    }
    let labels = own.and_then(|o| o.subject_label.as_deref()).into_iter().chain(SUBJECT_LABELS.iter().copied());
    let mut words: Vec<String> = Vec::new();
    for value in labels.filter_map(|label| alert.labels.get(label)) {
        // cAdvisor prefixes names with a slash; an instance is `host:port` or a URL
        let name = value.trim_start_matches('/');
        let address = Address::parse(name);
        let host = (address.scheme.is_some() || address.port().is_some()).then(|| address.host());
        for word in [Some(value.as_str()), Some(name), host].into_iter().flatten().filter(|w| !w.is_empty()) {
            if !words.iter().any(|w| w == word) {
                words.push(word.to_owned());
            }
        }
    }
    Route { known, runbooks, words }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn alert(labels: &[(&str, &str)]) -> Alert {
        let labels: std::collections::BTreeMap<String, String> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let name = labels.get("alertname").cloned().unwrap_or_default();
        Alert { name, resolved: false, labels, annotations: std::collections::BTreeMap::default(), starts_at: None }
    }

    fn runbooks(labels: &[(&str, &str)]) -> (bool, String) {
        let route = route(&alert(labels), &Catalog::new(), &[]);
        (route.known, route.runbooks.join(" "))
    }

    /// The alert names of the wiki runbooks that opsctl replaces, each with its runbook.
    #[test]
    fn every_alert_of_the_replaced_pages_has_a_runbook() {
        for (name, runbook) in [
            ("ContainerDown", "container"),
            ("ContainerRestarted", "container"),
            ("HeliosContainerDown", "container"),
            ("HeliosContainerRestarting", "container"),
            ("SystemdUnitFailed", "systemd"),
            ("HighCpuUsage", "cpu"),
            ("ContainerHighCpu", "container"),
            ("HighMemoryUsage", "memory"),
            ("ContainerHighMemory", "container"),
            ("DiskSpaceLow", "disk"),
            ("PostgresConnectionsHigh", "postgres"),
            ("PostgresDown", "postgres"),
            ("CeleryQueueBacklog", "celery"),
            ("CeleryWorkerDown", "celery"),
            ("CeleryHighFailRate", "celery"),
            ("SslCertExpiringSoon", "tls"),
            ("HeliosSSLExpiringSoon", "tls"),
            ("HealthCheckFailing", "healthcheck"),
            ("HeliosHealthCheckFailing", "healthcheck"),
            ("NginxHigh5xxRate", "nginx"),
            ("RedisDown", "redis"),
        ] {
            let (known, found) = runbooks(&[("alertname", name)]);
            assert!(known && found.split(' ').any(|r| r == runbook), "{name}: {found}");
        }
    }

    #[test]
    fn labels_add_runbooks_to_the_alert_name() {
        assert_eq!(runbooks(&[("alertname", "diskspacelow"), ("container", "web")]), (true, "disk container".into()));
        assert_eq!(runbooks(&[("alertname", "Whatever"), ("unit", "nginx.service")]), (false, "systemd".into()));
        assert_eq!(runbooks(&[("alertname", "Whatever")]), (false, String::new()));
        // a finding received as an alert
        let opsctl_alert =
            [("alertname", "OpsctlRootCauseCritical"), ("code", "disk.space"), ("kind", "mount"), ("name", "/var")];
        assert_eq!(runbooks(&opsctl_alert), (true, "disk".into()));
        assert_eq!(runbooks(&[("alertname", "Whatever"), ("code", "503")]), (false, String::new()));
    }

    #[test]
    fn host_of_an_instance() {
        for (instance, words) in [
            ("db-2:9100", &["db-2:9100", "db-2"][..]),
            ("[fd00::2]:9100", &["[fd00::2]:9100", "fd00::2"]),
            ("https://shop.example.org/health", &["https://shop.example.org/health", "shop.example.org"]),
            ("/web", &["/web", "web"]),
            ("/var/lib", &["/var/lib", "var/lib"]),
            ("web", &["web"]),
        ] {
            let found = route(&alert(&[("alertname", "Whatever"), ("instance", instance)]), &Catalog::new(), &[]);
            assert_eq!(found.words, words);
        }
    }

    #[test]
    fn configured_alert_comes_first() {
        let own = config::Alert { name: "Disk*".into(), runbooks: vec!["postgres".into()], subject_label: Some("pod".into()) };
        let found =
            route(&alert(&[("alertname", "DiskSpaceLow"), ("pod", "db"), ("instance", "db-2:9100")]), &Catalog::new(), &[own]);
        assert_eq!(
            (found.runbooks, found.words),
            (vec!["postgres".to_owned()], vec!["db".into(), "db-2:9100".into(), "db-2".into()])
        );
    }
}
