//! The report as JSON lines: one per finding, then one for the run.

use opsctl_core::model::Report;
use serde_json::json;

pub(super) fn render(report: &Report) -> String {
    let mut lines: Vec<String> = report
        .findings
        .iter()
        .map(|f| {
            let mut line = json!(f);
            line["type"] = json!("finding");
            line["host"] = json!(report.host.hostname);
            line.to_string()
        })
        .collect();
    lines.push(
        json!({
            "type": "run",
            "schema_version": report.schema_version,
            "host": report.host.hostname,
            "started_at": report.started_at,
            "duration_ms": report.duration_ms,
            "verdict": report.verdict,
            "exit_code": report.exit_code,
            "checks": report.checks.len(),
            "findings": report.findings.len(),
            "causes": report.causes,
        })
        .to_string(),
    );
    super::json::escaped(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn every_line_is_a_document() {
        let report = sample::five_red_things();
        let text = render(&report);
        assert_eq!(text.lines().count(), report.findings.len() + 1);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(value["type"].is_string());
        }
    }
}
