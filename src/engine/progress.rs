//! What the engine is doing, for whoever shows it.

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Looking for targets.
    Discovering,
    /// These probes run now, side by side.
    Discovered {
        /// `check kind:name` of each.
        probes: Vec<String>,
    },
    /// A probe ended.
    Finished {
        /// Check id.
        check: &'static str,
        /// `kind:name`.
        target: String,
    },
}
