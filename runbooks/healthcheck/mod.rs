//! The healthcheck runbook.

use opsctl_core::model::Runbook;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[runbooks.healthcheck]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {}

/// The runbook.
#[must_use]
pub fn runbook(_settings: &Settings) -> Runbook {
    Runbook { id: "healthcheck", about: "", checks: vec![], links: &[], doc: include_str!("RUNBOOK.md") }
}
