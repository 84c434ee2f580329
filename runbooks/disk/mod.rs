//! The disk runbook.

use opsctl_core::model::Runbook;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.disk]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}

/// The runbook.
#[must_use]
pub fn runbook(_settings: &Settings) -> Runbook {
    Runbook { id: "disk", about: "", checks: vec![], links: &[], doc: include_str!("RUNBOOK.md") }
}
