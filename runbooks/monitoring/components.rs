//! Tempo, Mimir, MinIO, Promtail, the blackbox exporter and cAdvisor: one row each with its readiness and the metrics that prove a
//! fault ([`super::ready::ROWS`]).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Object, Product, Severity, quantity};
use opsctl_core::probe::product::spec;
use opsctl_core::probe::servers::metrics::{self, MetricSample};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::cadvisor::{self, Named};
use super::counters::Counters;
use super::delivery::{self, Delivery, Sender};
use super::losses::Loss;
use super::peers;
use super::rings;
use super::status::ServerState;

/// Before a gauge that can be wrong for one scrape is read again.
const SECOND_SCRAPE: Duration = Duration::from_millis(1500);

/// What a product reports about itself.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) product: Product,
    /// Its name in messages and in the variable of its password.
    pub(super) word: &'static str,
    pub(super) code: &'static Code,
    pub(super) spec: &'static CheckSpec,
    /// Meaning of a readiness endpoint without status 200 by a part of its body; the first match counts.
    pub(super) not_ready: &'static [NotReady],
    /// Further pages, if it is ready.
    pub(super) pages: &'static [Page],
    /// Path of its metrics, which may require a login.
    pub(super) metrics: &'static str,
    pub(super) gauges: &'static [Gauge],
    pub(super) losses: &'static [Loss],
    /// It has hash rings.
    pub(super) rings: bool,
    /// It sends logs.
    pub(super) sender: Option<&'static Sender>,
}

/// The reason of a status other than 200.
#[derive(Debug)]
pub(super) struct NotReady {
    /// Part of the body; empty for any.
    pub(super) body: &'static str,
    /// The predicate after its name.
    pub(super) text: &'static str,
    pub(super) hint: &'static str,
}

/// A page that is 200 unless there is this fault.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) path: &'static str,
    /// The status that means the fault.
    pub(super) status: u16,
    pub(super) severity: Severity,
    pub(super) text: &'static str,
    pub(super) hint: &'static str,
    /// A response header with a detail.
    pub(super) header: &'static str,
}

/// A gauge that means a fault.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) metric: &'static str,
    pub(super) is_fault: fn(f64) -> bool,
    /// The predicate after its name; `{n}` is the value.
    pub(super) text: &'static str,
    pub(super) hint: &'static str,
    /// A single scrape can fail: it counts only twice in a row.
    pub(super) twice: bool,
}

/// The check of one row.
pub(super) struct Component {
    pub(super) row: &'static Row,
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    standing: ServerState,
    /// Status of further pages, with a header.
    pages: BTreeMap<String, (u16, Option<String>)>,
    counters: Counters,
    /// Gauges, and members of rings.
    gauges: Vec<MetricSample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
    #[serde(skip_serializing_if = "Option::is_none")]
    containers: Option<Named>,
    gap: Option<String>,
}

impl Check for Component {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        self.row.spec
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(self.row.product)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let row = self.row;
        let mut e = Evidence { standing: ServerState::of(cx, target, spec(row.product).ready).await?, ..Evidence::default() };
        if e.standing.silence.is_silent() {
            return Ok(e);
        }
        for page in row.pages {
            if let Ok(answer) = cx.response(target, page.path).await? {
                let detail = answer
                    .headers
                    .iter()
                    .find(|(name, _)| name == page.header)
                    .map(|(_, value)| value.chars().take(80).collect());
                e.pages.insert(page.path.to_owned(), (answer.status, detail));
            }
        }
        if let Err(why) = self.read_metrics(cx, target, &mut e).await {
            e.gap = Some(why.to_string());
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let row = self.row;
        if e.standing.silence.is_silent() {
            return e.standing.judge_silence(row.code, judged, row.word, false);
        }
        let (name, now) = (&judged.target.name, judged.taken_at);
        let finding = |severity, text: String| e.standing.server.finding(row.code, severity, judged.target, text);
        let object = e.standing.server.object(judged.target);
        let counters = std::iter::once(&e.counters).chain(e.delivery.iter().flat_map(Delivery::counters));
        let mut judgement = Judgement {
            gaps: e.gap.iter().cloned().collect(),
            samples: counters.flat_map(|c| c.samples(&object, now)).collect(),
            ..Judgement::default()
        };
        let limit = SignedDuration::from_mins(self.settings.ready_minutes);
        let young = e.standing.is_younger(now, limit);
        let since = e.standing.age(now).map_or_else(String::new, |a| format!(" {} after its start", quantity::duration(a)));
        if e.standing.status != 200 {
            // "waiting for 15s after being ready" is normal after a start, and files are found some seconds later
            judgement.pending.push(format!("{name} to become ready"));
            let reason = row.not_ready.iter().find(|r| e.standing.says.contains(r.body)).filter(|_| !young);
            judgement.findings.extend(reason.map(|r| {
                let text = format!("{name} {}{since}: status {}", r.text, e.standing.status);
                finding(Severity::Warn, text).cite("reply", &e.standing.says).hint(r.hint)
            }));
        }
        for page in row.pages {
            let Some((status, detail)) = e.pages.get(page.path).filter(|(status, _)| *status == page.status) else { continue };
            if young {
                judgement.pending.push(format!("{name} to start"));
                continue;
            }
            let text = format!("{name} {}: {} returns status {status}", page.text, page.path);
            let f = finding(page.severity, text).cite_opt(page.header, detail.clone()).hint(page.hint);
            judgement.findings.push(if page.severity == Severity::Crit { e.standing.silent(f) } else { f });
        }
        judgement.findings.extend(row.gauges.iter().filter_map(|gauge| {
            let value = metrics::sum(&e.gauges, gauge.metric).filter(|n| (gauge.is_fault)(*n))?;
            let text = format!("{name} {}", gauge.text.replace("{n}", &format!("{value:.0}")));
            Some(finding(Severity::Warn, text).hint(gauge.hint))
        }));
        if row.rings && !young {
            judgement.findings.extend(ring_findings(&e.gauges, name, &finding));
        }
        for loss in row.losses {
            let found = loss.found(&e.counters, name, now);
            judgement.findings.extend(found.into_iter().map(|l| super::loki::of_clock(l.reason, finding(l.severity, l.text))));
        }
        if let Some((delivery, sender)) = e.delivery.as_ref().zip(row.sender) {
            judgement.findings.extend(delivery.findings(sender, name, now, &finding));
        }
        judgement.findings.extend(e.containers.and_then(Named::nameless).map(|listed| {
            let text = format!(
                "{name} exports {} without names: its metrics have only ids of control groups",
                quantity::count(listed, "container")
            );
            finding(Severity::Warn, text).cite("log", "`docker logs` of it: failed to identify the read-write layer ID")
        }));
        judgement
    }
}

impl Component {
    async fn read_metrics(&self, cx: &ProbeCx, target: &Object, e: &mut Evidence) -> Result<(), ProbeError> {
        let row = self.row;
        if row.metrics != METRICS {
            // a login is required unless the metrics are public
            if let Ok(answer) = cx.response(target, row.metrics).await?
                && answer.status == 200
            {
                e.gauges = metrics::parse(&answer.body, &gauge_names(row));
            }
            return Ok(());
        }
        if !row.losses.is_empty() {
            let names: Vec<&str> = row.losses.iter().map(|l| l.metric).collect();
            e.counters = Box::pin(Counters::read(cx, target, &e.standing.server.object(target), &names, "reason")).await?.0;
        }
        e.gauges = cx.metrics(target, &gauge_names(row)).await?;
        for gauge in row.gauges.iter().filter(|g| g.twice) {
            if metrics::sum(&e.gauges, gauge.metric).is_some_and(gauge.is_fault) {
                tokio::time::sleep(SECOND_SCRAPE).await;
                let again = cx.metrics_now(target, &[gauge.metric]).await;
                e.gauges.retain(|s| s.name != gauge.metric);
                e.gauges.extend(again);
            }
        }
        if let Some(sender) = row.sender {
            e.delivery = Some(Box::pin(delivery::read(cx, target, &e.standing.server, sender)).await?).filter(Delivery::is_known);
        }
        if row.product == Product::Cadvisor {
            let seen = cx.metrics(target, &[cadvisor::LAST_SEEN]).await?;
            e.containers = Box::pin(Named::of(cx, &e.standing.server, &seen)).await;
        }
        Ok(())
    }
}

/// Path of the metrics of most products.
pub(super) const METRICS: &str = "/metrics";

fn gauge_names(row: &Row) -> Vec<&'static str> {
    let rings = if row.rings { &rings::MEMBERS[..] } else { &[] };
    row.gauges.iter().map(|g| g.metric).chain(rings.iter().copied()).collect()
}

/// Findings about the rings of one server.
pub(super) fn ring_findings(
    samples: &[MetricSample],
    name: &str,
    finding: &impl Fn(Severity, String) -> Finding,
) -> Vec<Finding> {
    let clauses = rings::unhealthy(samples).into_iter();
    let ring = |clause: String| {
        finding(Severity::Warn, format!("{name} has {clause}"))
            .hint("open its ring page (`/ring`, `/ingester/ring`): restart the member, or forget one that no longer exists; without a majority of the replicas writes fail")
    };
    clauses.map(ring).collect()
}

impl Delivery {
    /// Findings about logs that do not arrive.
    pub(super) fn findings(
        &self,
        sender: &Sender,
        name: &str,
        now: jiff::Timestamp,
        finding: &impl Fn(Severity, String) -> Finding,
    ) -> Vec<Finding> {
        let blocked = self.blocked(sender, name, now).map(|text| (Severity::Warn, text));
        let dropped = sender.dropped.found(&self.dropped, name, now).into_iter().map(|l| (l.severity, l.text));
        let all = blocked.into_iter().chain(dropped);
        all.map(|(severity, text)| {
            let f = finding(severity, text);
            if severity == Severity::Info { f } else { peers::tie_all(&self.peers, f) }
        })
        .collect()
    }
}
