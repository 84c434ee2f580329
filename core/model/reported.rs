//! Reported findings: a finding with the attributes that the engine assigns.

use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{finding::Finding, verdict::Severity};

/// A finding of a report.
// one flat object in JSON; its name in the JSON Schema is part of the format of the report
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Finding")]
pub struct Reported {
    /// `f1`, `f2`, … in report order.
    pub id: String,
    /// The finding as judged.
    #[serde(flatten)]
    pub finding: Finding,
    /// The finding that causes it.
    pub explained_by: Option<String>,
    /// The waiver that covers it.
    pub waived: Option<String>,
    /// Owner of the subject, from the configuration.
    pub owner: Option<String>,
}

impl Reported {
    /// A finding without an id, a cause, a waiver or an owner.
    #[must_use]
    pub fn new(finding: Finding) -> Self {
        Self { id: String::new(), finding, explained_by: None, waived: None, owner: None }
    }

    /// Whether the finding needs attention: not info, and not waived.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.finding.severity > Severity::Info && self.waived.is_none()
    }
}

impl Deref for Reported {
    type Target = Finding;

    fn deref(&self) -> &Finding {
        &self.finding
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn finding_of_an_earlier_report_is_one_flat_object() {
        let text = r#"{"id": "f1", "code": "container.down", "runbook": "container", "severity": "crit", "confidence": "likely",
            "subject": {"kind": "container", "name": "web", "id": "abc"}, "message": "web is down",
            "evidence": [{"label": "exit code", "value": "1"}], "fixes": ["container.start"], "explained_by": "f2",
            "since": "2026-11-21T10:00:00Z", "waived": null, "owner": "shop", "hint": "start it"}"#;
        let reported: Reported = serde_json::from_str(text).unwrap();
        assert_eq!((reported.id.as_str(), reported.code.as_str(), reported.subject.id.as_str()), ("f1", "container.down", "abc"));
        assert_eq!((reported.explained_by.as_deref(), reported.owner.as_deref()), (Some("f2"), Some("shop")));
        assert!(reported.since.is_some() && reported.is_open());
        let written = serde_json::to_value(&reported).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
        assert_eq!(keys(&written), keys(&serde_json::from_str(text).unwrap()));
        assert_eq!(serde_json::from_value::<Reported>(written).unwrap(), reported);
    }
}
