//! The formats of a report; [`crate::render`] renders them.

use std::fmt;

use clap::ValueEnum;

/// Output format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON document (`opsctl config schema --report` prints its schema)
    Json,
    /// One JSON line per finding, then one for the run
    Jsonl,
    /// For a chat message or an issue
    Markdown,
    /// One self-contained HTML page with plots
    Html,
    /// JUnit XML, for Jenkins and GitLab: a test per check and target
    Junit,
    /// Test Anything Protocol: a test point per check and target
    Tap,
    /// For Nagios, Icinga and their like, with perfdata; errors of opsctl itself exit with 3 (unknown)
    Nagios,
    /// Metrics for the textfile collector of node_exporter
    Prometheus,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |v| v.get_name()))
    }
}
