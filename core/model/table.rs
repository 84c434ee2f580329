//! Tables shown below the findings, such as the largest directories of a filesystem.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows of text with a title.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Table {
    /// Title.
    pub title: String,
    /// Column headings; the first column is left-aligned text, columns named in `numeric` are right-aligned.
    pub columns: Vec<String>,
    /// Rows, each with as many cells as `columns`.
    pub rows: Vec<Vec<String>>,
    /// A line below the table: omitted rows, or a timeout.
    pub note: Option<String>,
}
