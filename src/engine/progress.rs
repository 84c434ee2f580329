//! Progress events of the engine.

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Discovering targets.
    Discovering,
    /// The probes that run now, concurrently.
    Discovered {
        /// `check kind:name` of each.
        probes: Vec<String>,
    },
    /// A probe finished.
    Finished {
        /// Check id.
        check: &'static str,
        /// `kind:name`.
        target: String,
    },
    /// The evidence is complete and is being judged.
    Judging,
    /// There are findings: reading earlier changes.
    ReadingChanges,
    /// Storing samples and findings for the next run.
    Storing,
}
