//! `opsctl changes`: recent changes to this host, newest last.

use std::fmt::Write as _;
use std::time::Duration;

use clap::ValueEnum;
use jiff::SignedDuration;
use opsctl_core::model::{Change, Changes, printable, quantity};
use opsctl_core::probe::ProbeOptions;
use opsctl_core::probe::io::clock;
use unicode_width::UnicodeWidthStr as _;

use super::{Global, ending, exit, run};
use crate::changes::fold;
use crate::render;
use crate::watchdog;

/// Time limit of each source of changes.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(3);

/// `opsctl changes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Period, for example 30m, 2h or 3d
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = crate::config::length)]
    since: SignedDuration,
    /// Format on standard output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: ChangesFormat,
}

/// Formats of the list of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ChangesFormat {
    /// Text
    Table,
    /// One JSON document
    Json,
    /// For a chat message or an issue
    Markdown,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    super::init_tracing(global.verbose);
    watchdog::on_overdue(ending::of_line());
    let (config, _limit) = run::bounded(None, || run::load(global), |config| config.deadline)?;
    let since = clock::now().checked_sub(args.since)?;
    let changes = run::block_on(async {
        let (session, _) = crate::diagnosis::session(&config, ProbeOptions::default(), None).await;
        Box::pin(session.changes(since, SOURCE_TIMEOUT)).await
    })?;
    // JSON and --verbose list each change
    let shown = if global.verbose > 0 { changes.changes.clone() } else { fold(&changes.changes) };
    let shown = Changes { changes: shown, ..changes.clone() };
    let text = match args.format {
        ChangesFormat::Table => table(&shown, args.since, global.verbose > 0),
        ChangesFormat::Json => render::json_document(&changes)?,
        ChangesFormat::Markdown => markdown(&shown, args.since),
    };
    watchdog::print(&text)?;
    Ok(exit::OK)
}

/// Time, kind, subject, change, author.
fn columns(c: &Change) -> [String; 5] {
    let at = c.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let by = c.by.as_ref().map(|b| format!("by {}", printable(b))).unwrap_or_default();
    [at, c.kind.to_string(), printable(&c.subject), printable(&c.what), by]
}

fn no_changes(length: SignedDuration) -> String {
    format!("no changes found in the last {}\n", quantity::duration(length))
}

fn table(changes: &Changes, length: SignedDuration, verbose: bool) -> String {
    /// A wider cell is not aligned: one long path must not push all columns off the screen.
    const MAX_ALIGNED_WIDTH: usize = 40;
    let rows: Vec<[String; 5]> = changes.changes.iter().map(columns).collect();
    let width = |n: usize| rows.iter().map(|r| r[n].width()).filter(|w| *w <= MAX_ALIGNED_WIDTH).max().unwrap_or(0);
    let widths = [0, 1, 2].map(width);
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // writing to a String cannot fail
            let _ = write!(line, "{cell}{}  ", " ".repeat(width.saturating_sub(cell.width())));
        }
        let _ = writeln!(out, "{}", format!("{line}{}  {}", row[3], row[4]).trim_end());
    }
    if rows.is_empty() {
        out += &no_changes(length);
    }
    for why in &changes.unknown {
        let _ = writeln!(out, "unavailable: {}", printable(why));
    }
    for why in changes.absent.iter().filter(|_| verbose) {
        let _ = writeln!(out, "not present: {}", printable(why));
    }
    out
}

fn markdown(changes: &Changes, length: SignedDuration) -> String {
    let cell = |text: &str| render::markdown_cell(text);
    let mut out = String::new();
    if changes.changes.is_empty() {
        out += &no_changes(length);
    } else {
        out += "| when | kind | subject | change | by |\n|---|---|---|---|---|\n";
    }
    for c in &changes.changes {
        let [at, kind, subject, description, _] = columns(c);
        let by = c.by.as_deref().unwrap_or_default();
        let _ = writeln!(out, "| {at} | {kind} | {} | {} | {} |", cell(&subject), cell(&description), cell(by));
    }
    if !changes.unknown.is_empty() {
        out += "\n**Unavailable**\n\n";
    }
    for why in &changes.unknown {
        let _ = writeln!(out, "- {}", render::markdown_code(why));
    }
    out
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use opsctl_core::model::ChangeKind;

    use super::*;

    fn some() -> Changes {
        let at = |minute: i64| Timestamp::from_second(1_795_255_200 + minute * 60).unwrap_or_default();
        let recreated = "recreated from image shop:2, before shop:1";
        Changes {
            since: at(0),
            changes: vec![
                Change::new(at(1), ChangeKind::Package, "package:nginx", "upgraded from 1.22 to 1.24").by(Some("alice, apt-get")),
                Change::new(at(2), ChangeKind::Config, format!("/etc/nginx/{}/shop.conf", "x".repeat(40)), "written"),
                Change::new(at(3), ChangeKind::Container, "container:web", recreated),
                Change::new(at(4), ChangeKind::Note, "deploy", "shop\u{1b}[2J | 1.4.2").by(Some("root")),
            ],
            unknown: vec!["reading uses of sudo from /var/log/auth.log: permission denied; needs root".into()],
            absent: vec!["dpkg keeps no log on this host".into()],
        }
    }

    #[test]
    fn table_newest_last_with_unavailable_sources() {
        insta::assert_snapshot!(table(&some(), SignedDuration::from_hours(2), false));
        assert!(table(&some(), SignedDuration::from_hours(2), true).ends_with("not present: dpkg keeps no log on this host\n"));
        let empty = table(&Changes::default(), SignedDuration::from_hours(2), false);
        assert_eq!(empty, "no changes found in the last 2 h\n");
    }

    #[test]
    fn markdown_table() {
        insta::assert_snapshot!(markdown(&some(), SignedDuration::from_hours(2)));
    }
}
