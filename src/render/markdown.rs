//! The report for a chat message or an issue.

use std::fmt::Write as _;

use opsctl_core::model::{Report, Severity, printable};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let host = cell(&report.host.hostname);
    // writing to a String cannot fail
    let _ = writeln!(out, "## {host}: {}\n", report.verdict);
    let shown: Vec<_> = report.findings.iter().filter(|f| f.severity > Severity::Info).collect();
    if shown.is_empty() {
        let _ = writeln!(out, "{} checks, nothing needs attention.", report.checks.len());
    } else {
        let _ = writeln!(out, "| | code | finding |\n|---|---|---|");
        for f in shown {
            let _ = writeln!(out, "| {} | `{}` | {} |", f.severity, f.code, cell(&f.message));
        }
    }
    for cause in &report.causes {
        let Some(root) = report.findings.iter().find(|f| f.id == cause.root) else { continue };
        let _ = writeln!(out, "\n**Root cause:** `{}` {}\n", root.code, cell(&root.message));
        for because in &cause.because {
            let _ = writeln!(out, "- explains {}", cell(because));
        }
    }
    let offered: Vec<_> = report.fixes.iter().filter(|f| f.refused.is_none()).collect();
    if !offered.is_empty() {
        let _ = writeln!(out, "\n**Fixes**\n");
        for fix in offered {
            let _ = writeln!(out, "- `{}` ({}: {})", printable(&fix.command), fix.risk, fix.risk.meaning());
        }
    }
    let unknown: Vec<_> = report.checks.iter().filter(|c| c.verdict == "unknown").collect();
    if !unknown.is_empty() {
        let _ = writeln!(out, "\n**Could not look**\n");
        for c in unknown {
            let _ = writeln!(out, "- {} {}: {}", c.check, cell(&c.target), cell(c.reason.as_deref().unwrap_or_default()));
        }
    }
    out
}

/// Foreign text inside a table: on one line, without what Markdown would read as markup.
fn cell(text: &str) -> String {
    printable(text)
        .replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('`', "'")
        .replace('<', "&lt;")
        .replace('*', "\\*")
        .replace('_', "\\_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_chat_message() {
        insta::assert_snapshot!(render(&sample::five_red_things()));
    }
}
