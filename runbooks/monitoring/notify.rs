//! Delivery of alerts from Prometheus. It lists a dead Alertmanager as active, so each is queried from the network of Prometheus.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::{Address, join};
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, KeyKind, Object, Product, Severity, quantity};
use opsctl_core::probe::names;
use opsctl_core::probe::needs::{ConnectResult, Consumer, Neighbours, ScrapeResult};
use opsctl_core::probe::servers::prometheus::without_secrets;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::loaded;
use super::status::{engine_of_names, fresh_since, prometheus_server};
use super::{Settings, some_of};
use crate::shared::dependencies::{ENGINE, running_container};
use crate::shared::servers::Server;

const NOTIFY: Code = Code {
    id: "monitoring.notify",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it has alert rules and no Alertmanager, or none of the Alertmanagers it lists as active answers (crit, without alert rules info); one of several does not answer, or alerts could not be sent since the last run (warn); alerts could not be sent earlier since its start (info)",
    hint: "it lists a dead Alertmanager as active: check the Alertmanager with `opsctl monitoring`, then the network path to it",
    depends_on: &[&running_container("the Alertmanager\'s"), ENGINE],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.notify",
    title: "Prometheus reaches its Alertmanagers",
    codes: &[NOTIFY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const COUNTERS: &[&str] = &["prometheus_notifications_errors_total", "prometheus_notifications_dropped_total"];

/// API path of the list of Alertmanagers.
pub(super) const LIST: &str = "/api/v1/alertmanagers";

/// Service discovery of Alertmanagers may be incomplete for this time.
const DISCOVERY_GRACE: SignedDuration = SignedDuration::from_mins(2);

pub(super) struct Notify {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    /// Time of its start or of its last configuration load.
    fresh_since: Option<Timestamp>,
    alert_rules: usize,
    receivers: Vec<Receiver>,
    counters: Counters,
    /// The engine behind its DNS resolver, if an Alertmanager does not answer.
    names_by: Option<String>,
}

/// An Alertmanager that it lists as active.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Receiver {
    url: String,
    host: String,
    port: u16,
    /// Why it does not answer; `None` if it answers.
    silent: Option<String>,
    /// Why the check was not possible.
    gap: Option<String>,
    /// Full id of its container, if on this host.
    container: Option<String>,
    /// The server's id, if on this host.
    server: Option<String>,
}

impl Check for Notify {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = prometheus_server(cx, target, "which has no alerts").await?;
        let rules = cx.json(target, "/api/v1/rules?type=alert").await?;
        let groups = rules.pointer("/data/groups").and_then(|g| g.as_array()).into_iter().flatten();
        let alert_rules = groups.filter_map(|g| g.get("rules")?.as_array()).map(Vec::len).sum();
        let mut urls = active(&cx.json(target, LIST).await?);
        if urls.is_empty() && alert_rules > 0 && loaded::names_alertmanagers(cx, target).await? {
            // each reload, also one that fails, empties the list for up to 5 s
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if let Ok(answer) = cx.fresh_response(target, LIST).await? {
                    urls = serde_json::from_str(&answer.body).map(|v| active(&v)).unwrap_or_default();
                }
                if !urls.is_empty() {
                    break;
                }
            }
        }
        if alert_rules == 0 && urls.is_empty() {
            return Err(ProbeError::Skip("it has neither alert rules nor an Alertmanager".to_owned()));
        }
        let needs = cx.needs().await?;
        let process = server.get().and_then(|s| s.process);
        let own = server.get().and_then(|s| s.container.clone());
        let mut receivers = Vec::new();
        for url in urls {
            let Some((host, port, secured)) = parse_url(&url) else { continue };
            let consumer =
                Consumer { container: own.clone(), name: target.name.clone(), pid: process.map_or(0, |p| p.pid), unit: None };
            let (container, server) = server_at(cx, &needs.neighbours, own.as_deref(), &host);
            let (silent, gap) = match process {
                Some(_) => match check_receiver(cx, &consumer, &url, &host, port, secured).await {
                    Ok(silent) => (silent, None),
                    Err(why) => (None, Some(why.to_string())),
                },
                None => (None, None),
            };
            receivers.push(Receiver { url, host, port, silent, gap, container, server });
        }
        let (counters, _) = Counters::read(cx, target, &server.object(target), COUNTERS, "alertmanager").await?;
        let fresh_since = fresh_since(cx, target, process).await;
        let silent = receivers.iter().any(|r| r.silent.is_some());
        let names_by = if silent { engine_of_names(cx, process).await } else { None };
        Ok(Evidence { server, fresh_since, alert_rules, receivers, counters, names_by })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, now) = (&judged.target.name, judged.taken_at);
        let young = SignedDuration::from_secs(self.settings.starting_s);
        if e.fresh_since.is_some_and(|t| now.duration_since(t) < young) && e.receivers.is_empty() {
            return Judgement {
                pending: vec![format!("{name} to find its Alertmanagers")],
                ..Judgement::skip("it started or loaded its configuration less than 2 min ago")
            };
        }
        let mut judgement = Judgement {
            gaps: e.receivers.iter().filter_map(|r| r.gap.clone()).collect(),
            samples: e.counters.samples(&e.server.object(judged.target), now),
            ..Judgement::default()
        };
        let finding = |severity, text: String| {
            let mut f = e.server.finding(&NOTIFY, severity, judged.target, text);
            // its own container is not that of the Alertmanager
            f.keys.retain(|k| k.kind == KeyKind::Server);
            f
        };
        let silent: Vec<&Receiver> = e.receivers.iter().filter(|r| r.silent.is_some()).collect();
        if e.receivers.is_empty() && e.alert_rules > 0 {
            let text = format!(
                "{name} has {} but no Alertmanager: no notifications are sent",
                quantity::count(e.alert_rules, "alert rule")
            );
            judgement.findings.push(finding(Severity::Crit, text).hint("add it under `alerting:` in its configuration"));
        } else if let Some(first) = silent.first() {
            let all = silent.len() == e.receivers.len();
            // the packaged configuration names an Alertmanager and has no rules
            let severity = match () {
                () if e.alert_rules == 0 => Severity::Info,
                () if all => Severity::Crit,
                () => Severity::Warn,
            };
            let addresses: Vec<String> = silent.iter().map(|r| join(&r.host, r.port)).collect();
            let why = first.silent.as_deref().unwrap_or_default();
            let text = format!(
                "{name} lists {} as active, but it does not answer ({why}): its alerts reach {}",
                some_of(&addresses),
                if all { "no Alertmanager" } else { "only the others" }
            );
            let mut f = finding(severity, text);
            // its name could not be resolved
            if let Some(endpoint) = e.names_by.as_ref().filter(|_| why.starts_with("looking up")) {
                f = f.key(KeyKind::Engine, endpoint);
            }
            for r in &silent {
                f = f.cite(&r.url, r.silent.clone().unwrap_or_default());
                f = r.container.iter().fold(f, |f, id| f.key(KeyKind::Container, id));
                f = r.server.iter().fold(f, |f, id| f.key(KeyKind::Server, id));
            }
            judgement.findings.push(f);
        }
        for (counter, action) in [(COUNTERS[0], "sent to"), (COUNTERS[1], "queued for")] {
            for (receiver, all, grown) in e.counters.of(counter).filter(|(_, all, _)| *all > 0.0) {
                // alerts are dropped at every start until its Alertmanagers are discovered
                let dropped = counter == COUNTERS[1];
                if dropped && (grown == 0.0 || e.fresh_since.is_some_and(|t| now.duration_since(t) < DISCOVERY_GRACE)) {
                    continue;
                }
                // already reported above
                if silent.iter().any(|r| receiver.is_empty() || receiver.starts_with(&r.url) || r.url.starts_with(receiver)) {
                    continue;
                }
                let receiver = if receiver.is_empty() { "an Alertmanager" } else { receiver };
                let (severity, text) = if grown > 0.0 {
                    (Severity::Warn, format!("{name}: {grown:.0} alerts could not be {action} {receiver} since the last run"))
                } else {
                    (
                        Severity::Info,
                        format!(
                            "{name}: {all:.0} alerts could not be {action} {receiver} since its start, none since the last run"
                        ),
                    )
                };
                judgement.findings.push(finding(severity, text));
            }
        }
        judgement
    }
}

/// The container and the id of the Alertmanager at `host`, as seen from the container `own`, if on this host.
pub(super) fn server_at(
    cx: &ProbeCx,
    neighbours: &Neighbours,
    own: Option<&str>,
    host: &str,
) -> (Option<String>, Option<String>) {
    let resolved = neighbours.resolve(own.and_then(|id| neighbours.get(id)), host);
    let container = resolved.map(|m| m.container.id.clone());
    let mut known = cx.inventory.servers.iter().filter(|s| s.product == Product::Alertmanager);
    let server = known.find(|s| match (&container, &s.container) {
        (Some(a), b) => b.as_ref() == Some(a),
        // in the network namespace of the host
        (None, None) => matches!(host, "localhost" | "127.0.0.1") && own.is_none(),
        _ => false,
    });
    (container, server.map(|s| s.id.clone()))
}

/// The addresses in the list of Alertmanagers, without credentials.
pub(super) fn active(list: &serde_json::Value) -> Vec<String> {
    let active = list.pointer("/data/activeAlertmanagers").and_then(|a| a.as_array()).into_iter().flatten();
    active.filter_map(|a| a.get("url")?.as_str().map(without_secrets)).take(10).collect()
}

/// The reason why an Alertmanager does not answer a client; `None` if it answers.
async fn check_receiver(
    cx: &ProbeCx,
    consumer: &Consumer,
    url: &str,
    host: &str,
    port: u16,
    secured: bool,
) -> Result<Option<String>, ProbeError> {
    let at = match names::first_address(Some(consumer.pid), host, port).await? {
        Ok(at) => at,
        Err(why) => return Ok(Some(why)),
    };
    match cx.reach(Some(consumer.pid), at).await? {
        ConnectResult::Connected if secured => return Ok(None),
        ConnectResult::Connected => {}
        other => return Ok(Some(other.words())),
    }
    let answered = cx.scrape(consumer, at, &join(host, port), &format!("{}/-/healthy", prefix(url))).await?;
    Ok(match answered {
        ScrapeResult::Status(status, _) if status >= 500 => Some(format!("status {status}")),
        ScrapeResult::Status(..) => None,
        ScrapeResult::Timeout => Some("connection accepted, no response".to_owned()),
        ScrapeResult::Closed => Some("connection closed without a response".to_owned()),
        ScrapeResult::NotHttp => Some("response is not HTTP".to_owned()),
    })
}

/// Host, port, and whether the scheme is HTTPS.
pub(super) fn parse_url(url: &str) -> Option<(String, u16, bool)> {
    let address = Address::parse(url);
    let secured = address.scheme? == "https";
    Some((address.host().to_owned(), address.port_or_known_default()?, secured))
}

/// The path prefix of an Alertmanager, from the URL of its API.
fn prefix(url: &str) -> &str {
    Address::parse(url).path().split_once("/api/").map_or("", |(prefix, _)| prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_scheme_of_an_alertmanager() {
        for (url, host, port, secured) in [
            ("http://am:9093/api/v2/alerts", "am", 9093, false),
            ("https://am.example.org/am/api/v2/alerts", "am.example.org", 443, true),
            ("http://[fd00::2]/api/v2/alerts", "fd00::2", 80, false),
            ("http://[fd00::2]:9093/api/v2/alerts", "fd00::2", 9093, false),
        ] {
            assert_eq!(parse_url(url), Some((host.to_owned(), port, secured)));
        }
        assert_eq!((parse_url("am:9093"), parse_url("http://am:port/")), (None, None));
    }

    #[test]
    fn path_prefix_of_an_alertmanager() {
        assert_eq!(prefix("http://am:9093/api/v2/alerts"), "");
        assert_eq!(prefix("http://am:9093/monitoring/am/api/v2/alerts"), "/monitoring/am");
        assert_eq!((prefix("http://api/api/v2/alerts"), prefix("http://am:9093/")), ("", ""));
    }
}
