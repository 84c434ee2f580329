//! The rows of the products that [`super::components`] checks.

use std::time::Duration;

use opsctl_core::model::{CheckSpec, Code, DependsOn, Impact, KeyKind, Product, Role, Severity};

use super::components::{Gauge, METRICS, NotReady, Page, Row};
use super::delivery;
use super::losses::{Loss, without_meaning};
use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};

/// The effect of all of these faults.
const IMPACTS: &[Impact] = &[Impact::likely(Role::Unresponsive, KeyKind::Container, "server does not respond as it should")];

const CLOCK: &[DependsOn] = &[DependsOn::likely(Role::ClockWrong, KeyKind::Host, "")];

const TEMPO: Code = Code {
    id: "monitoring.tempo",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer (crit); it is not ready {ready_minutes} after its start, discarded spans since the last run, or a ring has unhealthy members (warn); it discarded spans earlier since its start (info)",
    hint: "`/ready` names the services that do not run; discarded spans are lost: compare the reason with the limits in `overrides`",
    impacts: IMPACTS,
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM],
};

const MIMIR: Code = Code {
    id: "monitoring.mimir",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer (crit); it is not ready {ready_minutes} after its start, rejected samples since the last run, or a ring has unhealthy members (warn); it rejected samples earlier since its start (info)",
    hint: "rejected samples are lost: find the sender by its tenant, and compare the reason with the limits of the tenant",
    impacts: IMPACTS,
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM, CLOCK],
};

const MINIO: Code = Code {
    id: "monitoring.minio",
    severities: &[Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer, or has no write quorum {ready_minutes} after its start (crit); nodes or drives are offline (warn; only with public metrics)",
    hint: "`mc admin info ALIAS` lists nodes and drives; its log names the drive that fails",
    impacts: IMPACTS,
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM],
};

const PROMTAIL: Code = Code {
    id: "monitoring.promtail",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer (crit); it is not ready {ready_minutes} after its start because it found no logs, delivered nothing or dropped entries since the last run (warn); it dropped entries earlier since its start (info)",
    hint: "dropped entries are lost: check Loki at the address in `clients`; do not restart Promtail without persisted positions",
    impacts: IMPACTS,
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM],
};

const BLACKBOX: Code = Code {
    id: "monitoring.blackbox",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer (crit); it could not load its configuration, or probes name a module that it does not have (warn; earlier since its start: info)",
    hint: "`/-/reload` (POST) returns the error of the configuration; `/config` shows the modules in use",
    impacts: IMPACTS,
    depends_on: &[&running("its"), DESCRIPTORS],
};

const CADVISOR: Code = Code {
    id: "monitoring.cadvisor",
    severities: &[Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer (crit); it knows no container by name, or cannot read the metrics of containers (warn)",
    hint: "mount /:/rootfs:ro, /var/run:/var/run:ro, /sys:/sys:ro and the engine's data directory at its own path; with Docker's containerd image store use a newer release",
    impacts: IMPACTS,
    depends_on: &[&running("its"), DESCRIPTORS],
};

const TIMEOUT: Duration = Duration::from_secs(9);

static TEMPO_SPEC: CheckSpec =
    CheckSpec { id: "monitoring.tempo", title: "Tempo accepts traces", codes: &[TEMPO], fixes: &[], timeout: TIMEOUT };
static MIMIR_SPEC: CheckSpec =
    CheckSpec { id: "monitoring.mimir", title: "Mimir accepts samples", codes: &[MIMIR], fixes: &[], timeout: TIMEOUT };
static MINIO_SPEC: CheckSpec =
    CheckSpec { id: "monitoring.minio", title: "MinIO has a write quorum", codes: &[MINIO], fixes: &[], timeout: TIMEOUT };
static PROMTAIL_SPEC: CheckSpec =
    CheckSpec { id: "monitoring.promtail", title: "Promtail delivers logs", codes: &[PROMTAIL], fixes: &[], timeout: TIMEOUT };
static BLACKBOX_SPEC: CheckSpec = CheckSpec {
    id: "monitoring.blackbox",
    title: "Blackbox exporter has its configuration",
    codes: &[BLACKBOX],
    fixes: &[],
    timeout: TIMEOUT,
};
static CADVISOR_SPEC: CheckSpec = CheckSpec {
    id: "monitoring.cadvisor",
    title: "cAdvisor knows the containers",
    codes: &[CADVISOR],
    fixes: &[],
    timeout: TIMEOUT,
};

/// Any other status.
const NOT_READY: NotReady =
    NotReady { body: "", text: "is not ready", hint: "its log and `/services` name the service that has not started" };

const DRIVES: &str = "check the drives: `mc admin info ALIAS` lists them, the kernel log names their errors";

/// The rows, in the order of the report.
pub(super) static ROWS: &[Row] = &[
    Row {
        product: Product::Tempo,
        word: "Tempo",
        code: &TEMPO,
        spec: &TEMPO_SPEC,
        not_ready: &[NOT_READY],
        pages: &[],
        metrics: METRICS,
        gauges: &[],
        losses: &[Loss {
            metric: "tempo_discarded_spans_total",
            verb: "discarded",
            data: "spans",
            meaning: of_tempo,
            intended: &[],
        }],
        rings: true,
        sender: None,
    },
    Row {
        product: Product::Mimir,
        word: "Mimir",
        code: &MIMIR,
        spec: &MIMIR_SPEC,
        not_ready: &[NOT_READY],
        pages: &[],
        metrics: METRICS,
        gauges: &[],
        losses: &[Loss {
            metric: "cortex_discarded_samples_total",
            verb: "rejected",
            data: "samples",
            meaning: of_mimir,
            intended: &["relabel_configuration"],
        }],
        rings: true,
        sender: None,
    },
    Row {
        product: Product::Minio,
        word: "MinIO",
        code: &MINIO,
        spec: &MINIO_SPEC,
        not_ready: &[NotReady { body: "", text: "is not live", hint: "its log names the reason" }],
        // https://docs.min.io/community/minio-object-store/operations/monitoring/healthcheck-probe.html
        pages: &[Page {
            path: "/minio/health/cluster",
            status: 503,
            severity: Severity::Crit,
            text: "has no write quorum, and writes fail",
            hint: "start its other nodes, or replace drives until more than half of each erasure set is online; `mc admin info ALIAS` lists them",
            header: "x-minio-write-quorum",
        }],
        metrics: "/minio/v2/metrics/cluster",
        gauges: &[
            // the name until 2023
            Gauge {
                metric: "minio_cluster_disk_offline_total",
                is_fault: is_above_zero,
                text: "reports {n} offline drives",
                hint: DRIVES,
                twice: false,
            },
            Gauge {
                metric: "minio_cluster_nodes_offline_total",
                is_fault: is_above_zero,
                text: "reports {n} offline nodes",
                hint: "start the nodes: `mc admin info ALIAS` lists them",
                twice: false,
            },
            Gauge {
                metric: "minio_cluster_drive_offline_total",
                is_fault: is_above_zero,
                text: "reports {n} offline drives",
                hint: DRIVES,
                twice: false,
            },
        ],
        losses: &[],
        rings: false,
        sender: None,
    },
    Row {
        product: Product::Promtail,
        word: "Promtail",
        code: &PROMTAIL,
        spec: &PROMTAIL_SPEC,
        not_ready: &[
            // `clients/pkg/promtail/server/server.go`; a target of any kind is enough for status 200
            NotReady {
                body: "Unable to find any logs to tail",
                text: "found no logs to tail",
                hint: "compare `__path__` with the mounted directories and their permissions: `/targets` lists the files it found",
            },
            NOT_READY,
        ],
        pages: &[],
        metrics: METRICS,
        gauges: &[],
        losses: &[],
        rings: false,
        sender: Some(&delivery::PROMTAIL),
    },
    Row {
        product: Product::Blackbox,
        word: "Blackbox",
        code: &BLACKBOX,
        spec: &BLACKBOX_SPEC,
        not_ready: &[NOT_READY],
        pages: &[],
        metrics: METRICS,
        gauges: &[Gauge {
            metric: "blackbox_exporter_config_last_reload_successful",
            is_fault: is_zero,
            text: "could not load its configuration: it uses the previous modules, and its next start fails",
            hint: "`prometheus-blackbox-exporter --config.check` or a POST to `/-/reload` reports the error",
            twice: false,
        }],
        losses: &[Loss {
            metric: "blackbox_module_unknown_total",
            verb: "rejected",
            data: "probes",
            meaning: of_blackbox,
            intended: &[],
        }],
        rings: false,
        sender: None,
    },
    Row {
        product: Product::Cadvisor,
        word: "cAdvisor",
        code: &CADVISOR,
        spec: &CADVISOR_SPEC,
        not_ready: &[NOT_READY],
        pages: &[],
        metrics: METRICS,
        gauges: &[Gauge {
            metric: "container_scrape_error",
            is_fault: is_above_zero,
            text: "cannot read the metrics of containers",
            hint: "its log names the control group or the file: it needs /sys and /rootfs read-only",
            // a container that ends during a scrape is an error of that scrape
            twice: true,
        }],
        losses: &[],
        rings: false,
        sender: None,
    },
];

/// The row of a product.
pub(super) fn row(product: Product) -> &'static Row {
    // every product of `mod.rs` has a row (tested)
    ROWS.iter().find(|row| row.product == product).unwrap_or(&ROWS[0])
}

fn is_zero(value: f64) -> bool {
    value == 0.0
}

fn is_above_zero(value: f64) -> bool {
    value > 0.0
}

/// Meaning of a reason (Tempo `docs/sources/tempo/troubleshooting/send-traces/max-trace-limit-reached.md`).
fn of_tempo(reason: &str) -> &'static str {
    match reason {
        "rate_limited" => "above the ingestion rate limit of a tenant",
        "trace_too_large" => "trace above max_bytes_per_trace",
        "live_traces_exceeded" => "above the limit of live traces of a tenant",
        "trace_too_large_to_compact" => "trace too large for the compactor",
        _ => without_meaning(reason),
    }
}

/// Meaning of a reason (Mimir `pkg/util/validation`, `docs/sources/mimir/manage/mimir-runbooks`).
fn of_mimir(reason: &str) -> &'static str {
    match reason {
        "rate_limited" => "above the ingestion rate of a tenant",
        "per_user_series_limit" => "above the series limit of a tenant",
        "per_metric_series_limit" => "above the series limit of a metric",
        "sample-out-of-order" | "sample_out_of_order" => "older than the newest sample of the series",
        "sample-too-old" | "sample_too_old" | "sample-timestamp-too-old" => "outside the out-of-order window",
        "too_far_in_future" => "in the future: check the clock of the sender",
        "new-value-for-timestamp" | "new_value_for_timestamp" => "two senders with the same labels",
        "too_many_ha_clusters" => "above the limit of HA clusters",
        "max_label_names_per_series" => "too many labels",
        _ => without_meaning(reason),
    }
}

fn of_blackbox(_reason: &str) -> &'static str {
    "their module is not in its configuration"
}

#[cfg(test)]
mod tests {
    use super::*;
    use opsctl_core::probe::product::spec;

    #[test]
    fn every_row_has_a_check_and_a_readiness_endpoint() {
        for row in ROWS {
            assert_eq!((row.spec.id, row.spec.codes.len()), (row.code.id, 1), "{}", row.word);
            assert_eq!(row.code.id, format!("monitoring.{}", row.product.kind()), "the check that skipped ones refer to");
            assert_eq!(super::row(row.product).code.id, row.code.id);
            assert!(spec(row.product).ready.starts_with('/') && row.not_ready.last().is_some_and(|r| r.body.is_empty()));
        }
    }
}
