//! A table shown below the findings, such as what eats the space of a filesystem.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows of text under a title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Column headings; the first column is left-aligned text, columns named in `numeric` are right-aligned.
    pub columns: Vec<String>,
    /// Rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
    /// A line below it: what was left out, or that time ran out.
    pub note: Option<String>,
}
