//! The report as JSON lines: one per finding, recovered finding and trend, then one for the run.

use opsctl_core::model::Report;
use serde_json::json;

use super::view;

pub(super) fn render(report: &Report) -> String {
    let typed = |mut line: serde_json::Value, kind: &str| {
        line["type"] = json!(kind);
        line["host"] = json!(report.host.hostname);
        line.to_string()
    };
    let mut lines: Vec<String> = report
        .findings
        .iter()
        .map(|f| {
            let mut line = json!(f);
            if let Some(known) = report.course.as_ref().and_then(|c| c.of(&f.id)) {
                line["standing"] = json!(known.standing);
                line["first_seen"] = json!(known.first_seen);
            }
            typed(line, "finding")
        })
        .collect();
    lines.extend(view::recovered(report).iter().map(|r| typed(json!(r), "recovered")));
    lines.extend(view::trends(report).iter().filter(|t| !t.says.is_empty()).map(|t| typed(json!(t), "trend")));
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
            "waived": view::waived(report).len(),
            "causes": report.causes,
            "journal": report.journal,
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
    fn every_line_is_a_json_document() {
        let report = sample::five_red_things();
        let text = render(&report);
        assert_eq!(text.lines().count(), report.findings.len() + 1);
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert!(value["type"].is_string());
        }
    }

    #[test]
    fn history_and_waivers_add_lines() {
        let values: Vec<serde_json::Value> =
            render(&sample::compared()).lines().map(|l| serde_json::from_str(l).unwrap_or_default()).collect();
        let types: Vec<_> = values.iter().skip(6).filter_map(|v| v["type"].as_str()).collect();
        assert_eq!(types, ["recovered", "trend", "run"]);
        assert_eq!(
            (values[3]["standing"].as_str(), values[3]["first_seen"].as_str()),
            (Some("still"), Some("2026-11-18T10:00:00Z"))
        );
        assert_eq!((values[5]["waived"].is_string(), values[8]["waived"].as_u64()), (true, Some(1)));
    }
}
