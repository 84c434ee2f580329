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
    /// All evidence is here; it is judged.
    Judging,
    /// Something is wrong: what was changed before is looked for.
    LookingBack,
    /// Numbers and findings are kept for the next run.
    Remembering,
}
