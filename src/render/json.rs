//! The report as one JSON document.

use std::fmt::Write as _;

use opsctl_core::model::{Report, printable};

/// Pretty-printed for people; one document with one trailing newline.
pub(super) fn render(report: &Report) -> String {
    // a report is plain data: numbers, strings and lists always serialise
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    escaped(text)
}

/// JSON escapes only ASCII control characters; DEL, the C1 set and the characters that reorder text control a terminal as well.
pub(super) fn escaped(text: String) -> String {
    let raw = |c: char| c != '\n' && !c.is_ascii() && printable(c.encode_utf8(&mut [0; 4])) != c.to_string();
    if !text.chars().any(|c| c == '\u{7f}' || raw(c)) {
        return text;
    }
    // outside strings a document is ASCII, so every such character is inside a string
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c == '\u{7f}' || raw(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn json_document_round_trips() {
        let report = sample::five_red_things();
        let back: Report = serde_json::from_str(&render(&report)).unwrap_or_else(|e| panic!("{e}"));
        // keys and weights are not serialised
        assert_eq!(back.findings.len(), report.findings.len());
        assert_eq!(back.causes, report.causes);
    }

    #[test]
    fn json_document_contains_no_terminal_controls() {
        let text = render(&sample::hostile());
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202E}')), "{text:?}");
        let back: Report = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(back.findings[0].message, sample::hostile().findings[0].message);
    }

    #[test]
    fn schema_covers_every_field() {
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
