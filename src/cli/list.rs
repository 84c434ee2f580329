//! `opsctl list`: all names.

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde_json::json;

use super::{Global, exit, run};
use crate::catalog::{AlertName, Catalog};
use crate::watchdog;

/// `opsctl list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of names
    #[arg(value_name = "WHAT", default_value = "runbooks")]
    what: ListKind,
    /// Format on standard output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: ListFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ListKind {
    /// Runbooks
    Runbooks,
    /// Codes of findings, with their severities
    Codes,
    /// Fixes, with their risk
    Fixes,
    /// Alert names, with their runbook
    Alerts,
}

/// Formats of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Text
    Table,
    /// One JSON document
    Json,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let catalog = Catalog::of(crate::site::runbooks(&run::load(global)?));
    let rows = rows(&catalog, args.what);
    let text = match args.format {
        ListFormat::Table => columns(&rows),
        ListFormat::Json => {
            let list: Vec<_> =
                rows.iter().map(|[name, kind, about]| json!({"name": name, "kind": kind, "about": about})).collect();
            format!("{:#}\n", json!(list))
        }
    };
    watchdog::print(&text)?;
    Ok(exit::OK)
}

fn rows(catalog: &Catalog, kind: ListKind) -> Vec<[String; 3]> {
    match kind {
        ListKind::Runbooks => catalog
            .runbooks()
            .map(|(r, _)| {
                // two checks may report the same code
                let codes: BTreeSet<&str> = r.checks.iter().flat_map(|c| c.spec().codes).map(|c| c.id).collect();
                let codes = codes.len();
                [r.id.to_owned(), format!("{} checks, {codes} codes", r.checks.len()), r.about.to_owned()]
            })
            .collect(),
        ListKind::Codes => catalog
            .codes()
            .into_iter()
            .map(|c| {
                let severities: Vec<String> = c.severities.iter().map(ToString::to_string).collect();
                [c.id.to_owned(), severities.join("/"), catalog.when(c)]
            })
            .collect(),
        ListKind::Fixes => {
            catalog.fixes().into_iter().map(|f| [f.id.to_owned(), f.risk.to_string(), f.title.to_owned()]).collect()
        }
        ListKind::Alerts => catalog.alerts().iter().map(alert).collect(),
    }
}

fn alert(alert: &AlertName<'_>) -> [String; 3] {
    let about = match alert.out_of_scope {
        Some(reason) => format!("not checked; {reason}"),
        None if alert.codes.is_empty() => alert.runbooks.iter().map(|r| format!("opsctl {r}")).collect::<Vec<_>>().join(", "),
        None => alert.codes.join(", "),
    };
    [alert.name.to_owned(), if alert.runbooks.is_empty() { "-".to_owned() } else { alert.runbooks.join(" ") }, about]
}

/// Aligned, never wrapped, so that `grep` works on it.
fn columns(rows: &[[String; 3]]) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let lines: Vec<String> = rows.iter().map(|[a, b, c]| format!("{a:<first$}  {b:<second$}  {c}")).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_aligned() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned(), "x".to_owned()];
        assert_eq!(columns(&[row("a", "bb"), row("aaa", "b")]), "a    bb  x\naaa  b   x\n");
    }
}
