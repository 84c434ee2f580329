//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use super::{connections, replication, session};

pub(crate) const TARGETS: &[Target] = &[
    Target::text("sql-statement", |text| {
        const LITERAL: &str = "canary-literal";
        if text.contains(LITERAL) {
            // the fuzzer's dictionary contains the strings of the program
            return;
        }
        let shown = session::without_literals(&format!("SELECT 1; SELECT '{LITERAL}'; {}", text.replace('\'', "")));
        assert!(!shown.contains(LITERAL), "{shown}");
        drop(session::without_literals(text));
    }),
    Target::text("standby-names", |text| {
        if let Some(required) = replication::Required::parse(text) {
            assert!(required.count > 0 && !required.names.is_empty(), "a standby without a name, or none");
        }
    }),
    Target::text("postgres-titles", |text| {
        let titles: Vec<String> = text.lines().map(str::to_owned).collect();
        assert!(connections::counted(&titles).iter().map(|(_, n)| *n).sum::<u64>() <= titles.len() as u64, "each counts once");
    }),
];
