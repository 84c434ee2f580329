//! Mapping of an alert to runbooks and objects.

use opsctl_core::model::address::Address;

use crate::catalog::{Catalog, by_words};
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

/// Labels that Kubernetes' scrape configuration sets to the scraped container: the exporter, not the object of the alert
/// (kube-prometheus, `NodeMemoryHighUtilization{container="node-exporter"}`).
const SCRAPE_LABELS: &[&str] = &["container", "container_name", "name", "service"];

/// The mapping of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Whether a runbook, the list of public names or the configuration handles this alert name.
    pub known: bool,
    /// The runbooks for the alert; empty for all.
    pub runbooks: Vec<String>,
    /// Codes that answer the alert; empty for all of the runbooks.
    pub codes: Vec<String>,
    /// Subject of the alert if opsctl does not check it, and its check by hand.
    pub out_of_scope: Option<String>,
    /// Candidate names of the object, from the labels.
    pub words: Vec<String>,
}

/// Maps an alert.
#[must_use]
pub fn route(alert: &Alert, catalog: &Catalog, configured: &[config::Alert]) -> Route {
    let own = configured.iter().find(|a| a.is_for(&alert.name));
    let listed = catalog.alert(&alert.name).filter(|_| own.is_none());
    let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let mut runbooks = match (own, &listed) {
        (Some(own), _) => own.runbooks.clone(),
        (None, Some(listed)) => owned(&listed.runbooks),
        (None, None) => owned(by_words(&alert.name)),
    };
    let mut codes = listed.as_ref().map(|a| owned(&a.codes)).unwrap_or_default();
    // rules of opsctl (packaging/prometheus): the alert is a finding, and has its code
    let code = alert.labels.get("code").filter(|code| catalog.codes().iter().any(|c| c.id == code.as_str()));
    if let Some((code, (runbook, _))) = code.and_then(|code| Some((code, catalog.runbook_of(code)?))) {
        codes.push(code.clone());
        if !runbooks.iter().any(|r| r == runbook.id) {
            runbooks.push(runbook.id.to_owned());
        }
    }
    let out_of_scope = listed.as_ref().and_then(|a| a.out_of_scope).filter(|_| runbooks.is_empty()).map(str::to_owned);
    let known = !runbooks.is_empty() || own.is_some() || out_of_scope.is_some();
    let label =
        |name: &str| alert.labels.get(name).filter(|v| !(v.is_empty() || SCRAPE_LABELS.contains(&name) && is_exporter(v)));
    for (_, runbook) in RUNBOOK_LABELS.iter().filter(|(name, _)| label(name).is_some()) {
        if !runbooks.iter().any(|r| r == runbook) && out_of_scope.is_none() {
            runbooks.push((*runbook).to_owned());
        }
    }
    let labels = own.and_then(|o| o.subject_label.as_deref()).into_iter().chain(SUBJECT_LABELS.iter().copied());
    let mut words: Vec<String> = Vec::new();
    for value in labels.filter_map(label) {
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
    Route { known, runbooks, codes, out_of_scope, words }
}

/// Whether a container or service is a scraped exporter.
fn is_exporter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("exporter") || ["cadvisor", "kube-state-metrics", "kubelet"].contains(&name.as_str())
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
    fn label_of_the_exporter_is_not_the_object() {
        let node = [("alertname", "NodeMemoryHighUtilization"), ("container", "node-exporter"), ("instance", "10.0.0.1:9100")];
        let found = route(&alert(&node), &Catalog::new(), &[]);
        assert_eq!((found.runbooks.join(" "), found.words.join(" ")), ("memory".into(), "10.0.0.1:9100 10.0.0.1".into()));
        assert_eq!(runbooks(&[("alertname", "Whatever"), ("container", "postgres_exporter")]), (false, String::new()));
    }

    #[test]
    fn every_public_alert_name_is_answered() {
        let catalog = Catalog::new();
        for listed in catalog.alerts() {
            let found = route(&alert(&[("alertname", &listed.name.to_lowercase())]), &catalog, &[]);
            assert!(found.known && found.runbooks.is_empty() == found.out_of_scope.is_some(), "{listed:?}: {found:?}");
        }
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
