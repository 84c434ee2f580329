//! What the engine is doing, for whoever shows it.

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Looking for targets.
    Discovering,
    /// This many probes will run.
    Discovered {
        /// Number of check × target pairs.
        probes: usize,
    },
    /// A probe ended.
    Finished {
        /// Check id.
        check: &'static str,
        /// `kind:name`.
        target: String,
    },
}
