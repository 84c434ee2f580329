//! The report as one JSON document.

use opsctl_core::model::Report;

/// Pretty, because people read it too; one document, one line end.
pub(super) fn render(report: &Report) -> String {
    // a report is plain data: numbers, strings and lists always serialise
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn the_document_reads_back_as_it_was() {
        let report = sample::five_red_things();
        let back: Report = serde_json::from_str(&render(&report)).unwrap_or_else(|e| panic!("{e}"));
        // keys and weights stay inside the process
        assert_eq!(back.findings.len(), report.findings.len());
        assert_eq!(back.causes, report.causes);
    }

    #[test]
    fn every_field_of_the_document_is_in_the_schema() {
        let value = serde_json::to_value(sample::five_red_things()).unwrap_or_default();
        let schema = serde_json::to_value(crate::config::report_schema()).unwrap_or_default();
        let properties = &schema["properties"];
        for field in value.as_object().into_iter().flatten().map(|(k, _)| k) {
            assert!(properties.get(field).is_some(), "{field} is not in the schema");
        }
        let finding = &schema["$defs"]["Finding"]["properties"];
        for field in value["findings"][0].as_object().into_iter().flatten().map(|(k, _)| k) {
            assert!(finding.get(field).is_some(), "finding.{field} is not in the schema");
        }
    }
}
