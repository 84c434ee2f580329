//! The report on a terminal: findings, causes and commands to paste.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table as Grid, Width, presets};
use opsctl_core::model::{Confidence, Finding, Report, Reported, Severity, Table, printable, quantity};
use unicode_width::UnicodeWidthStr as _;

use super::style::Style;
use super::{diagnosis, unanswered, view};

/// Below this width the code is above the finding instead of beside it.
const SIDE_BY_SIDE: u16 = 96;
/// Pieces of evidence shown per finding without `-v`.
const EVIDENCE_SHOWN: usize = 3;
/// Lines of one piece of evidence shown without `-v`.
const LINES_SHOWN: usize = 3;

pub(super) fn render(report: &Report, style: &Style) -> String {
    let paint = Paint { style: *style };
    let min_severity = if style.verbose { Severity::Info } else { Severity::Warn };
    let shown: Vec<&Reported> = report.findings.iter().filter(|f| f.severity >= min_severity && f.waived.is_none()).collect();
    let mut out = String::new();
    if !shown.is_empty() {
        out += &findings(report, &shown, style);
    }
    out += &causes(report, &paint);
    if style.quiet {
        return out;
    }
    out += &listed(&paint.bold("Changed before"), view::changes(report).iter().map(|c| printable(c)), &paint);
    out += &fixes(report, &paint);
    for table in &report.tables {
        out += &exhibit(table, style, &paint);
    }
    if shown.iter().all(|f| f.severity == Severity::Info) && report.verdict == "ok" {
        out += &all_well(report, &paint);
    }
    out += &course(report, &paint);
    out += &waived(report, &paint);
    out += &unanswered_checks(report, &paint);
    for note in &report.notes {
        let _ = writeln!(out, "note: {}", printable(note));
    }
    if style.verbose {
        out += &view::journal(report).map(|line| line + "\n").unwrap_or_default();
    }
    out += &counts(report, &paint);
    out
}

/// Colour and characters.
struct Paint {
    style: Style,
}

impl Paint {
    fn code(&self, ansi: &str, text: &str) -> String {
        if self.style.color { format!("\x1b[{ansi}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.code("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.code("2", text)
    }

    fn verdict(&self, word: &str, text: &str) -> String {
        match word {
            "crit" => self.code("1;31", text),
            "warn" => self.code("33", text),
            "unknown" => self.code("35", text),
            "ok" => self.code("32", text),
            _ => text.to_owned(),
        }
    }

    fn dot(&self) -> &'static str {
        if self.style.ascii { "|" } else { "·" }
    }

    /// Wraps words to the width, every line after the first indented.
    fn wrap(&self, first: &str, indent: usize) -> String {
        let width = usize::from(self.style.width);
        let text = first.trim_start_matches(' ');
        let lead = first.len() - text.len();
        let mut out = " ".repeat(lead);
        let mut column = lead;
        for (n, word) in text.split(' ').enumerate() {
            // colour codes have no width
            let w = visible_width(word);
            if column > indent && column + 1 + w > width {
                out.push('\n');
                out += &" ".repeat(indent);
                column = indent;
            } else if n > 0 {
                out.push(' ');
                column += 1;
            }
            out += word;
            column += w;
        }
        out.push('\n');
        out
    }
}

fn visible_width(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        width += before.width();
        rest = after.split_once('m').map_or("", |(_, r)| r);
    }
    width + rest.width()
}

/// One row per finding, effects indented below their cause, evidence below each.
fn findings(report: &Report, shown: &[&Reported], style: &Style) -> String {
    let side_by_side = style.width >= SIDE_BY_SIDE;
    let mut grid = grid(style);
    for (depth, finding) in view::tree(shown) {
        let branch = match (depth, style.ascii) {
            (0, _) => String::new(),
            (d, false) => format!("{}└ ", "  ".repeat(d - 1)),
            (d, true) => format!("{}`- ", "  ".repeat(d - 1)),
        };
        let severity = styled(Cell::new(finding.severity.to_string()), finding.severity);
        let code = format!("{branch}{}", finding.code);
        let likely = if finding.confidence == Confidence::Likely { " (likely)" } else { "" };
        let status = view::status(report, finding).map(|s| format!(" [{s}]")).unwrap_or_default();
        let message = format!("{}{likely}{status}", printable(&finding.message));
        if side_by_side {
            grid.add_row(vec![severity, Cell::new(code), Cell::new(message).add_attribute(Attribute::Bold)]);
            for line in evidence(finding, style) {
                grid.add_row(vec![Cell::new(""), Cell::new(""), dim(line)]);
            }
        } else {
            grid.add_row(vec![severity, Cell::new(code)]);
            grid.add_row(vec![Cell::new(""), Cell::new(message).add_attribute(Attribute::Bold)]);
            for line in evidence(finding, style) {
                grid.add_row(vec![Cell::new(""), dim(line)]);
            }
        }
    }
    if let Some(column) = grid.column_mut(0) {
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(6)));
    }
    trimmed(&grid) + "\n\n"
}

fn grid(style: &Style) -> Grid {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(style.width);
    if style.color {
        grid.enforce_styling();
    } else {
        grid.force_no_tty();
    }
    grid
}

fn styled(cell: Cell, severity: Severity) -> Cell {
    match severity {
        Severity::Crit => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Severity::Warn => cell.fg(Color::Yellow),
        Severity::Info => cell.fg(Color::Blue),
    }
}

fn dim(text: String) -> Cell {
    Cell::new(text).add_attribute(Attribute::Dim)
}

fn evidence(finding: &Finding, style: &Style) -> Vec<String> {
    let all = style.verbose;
    let mut lines = Vec::new();
    for cited in finding.evidence.iter().take(if all { usize::MAX } else { EVIDENCE_SHOWN }) {
        let value: Vec<String> = cited.value.lines().filter(|l| !l.trim().is_empty()).map(printable).collect();
        match value.as_slice() {
            [] => {}
            [one] => lines.push(format!("{}: {}", printable(&cited.label), cut(one, all))),
            many => {
                // the end of a log has more information than its beginning
                let from = if all { 0 } else { many.len().saturating_sub(LINES_SHOWN) };
                lines.push(format!("{}:", printable(&cited.label)));
                lines.extend(many[from..].iter().map(|l| format!("  {}", cut(l, all))));
            }
        }
    }
    let hidden = finding.evidence.len().saturating_sub(EVIDENCE_SHOWN);
    if hidden > 0 && !all {
        lines.push(format!("(-v shows {hidden} more)"));
    }
    lines
}

/// Shortens a line of evidence, which may fill a screen.
fn cut(line: &str, all: bool) -> String {
    const MAX_CHARS: usize = 320;
    if all || line.chars().count() <= MAX_CHARS {
        line.to_owned()
    } else {
        line.chars().take(MAX_CHARS).chain("...".chars()).collect()
    }
}

fn causes(report: &Report, paint: &Paint) -> String {
    let mut out = String::new();
    for d in diagnosis::diagnoses(report) {
        let title = if d.likely { "Likely root cause" } else { "Root cause" };
        let waived = if d.waived { " (waived)" } else { "" };
        out += &paint.wrap(&format!("{} {}: {}{waived}", paint.bold(title), d.code, printable(&d.problem)), 2);
        for effect in &d.explains {
            out += &paint.wrap(&format!("  explains {}", printable(effect)), 4);
        }
        if paint.style.quiet {
            continue;
        }
        if let Some(not) = &d.not {
            out += &paint.wrap(&format!("  not explained by it: {}", printable(not)), 4);
        }
        if let Some(command) = &d.next {
            // a command to paste is never wrapped
            let _ = writeln!(out, "  next: {}", printable(command));
        }
        out += &paint.wrap(&format!("  to do: {}", printable(&d.to_do)), 4);
    }
    // findings without cause and effects still have one line of advice
    if !paint.style.quiet {
        for (codes, hint) in diagnosis::alone(report) {
            let hint = printable(hint);
            out += &paint.wrap(&format!("{} {hint}", paint.bold(&format!("To do for {}:", codes.join(", ")))), 2);
        }
    }
    if !out.is_empty() {
        // the cause may be in a runbook that did not run
        if !paint.style.quiet && view::scope(report).is_some() {
            out += &paint.wrap("A part of the checks ran: `opsctl diagnose` also finds causes outside of them.", 2);
        }
        out.push('\n');
    }
    out
}

fn fixes(report: &Report, paint: &Paint) -> String {
    if report.fixes.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    let offered: Vec<_> = report.fixes.iter().filter(|f| f.refused.is_none()).collect();
    if !offered.is_empty() {
        let _ = writeln!(out, "{}", paint.bold("Fixes"));
        let width = offered.iter().map(|f| printable(&f.command).width()).max().unwrap_or(0);
        for fix in offered {
            // a command to paste is never wrapped
            let command = printable(&fix.command);
            let meaning = format!("{}, {}", fix.risk, fix.risk.meaning());
            let available = usize::from(paint.style.width).saturating_sub(width + 4);
            if available >= meaning.width() {
                let pad = " ".repeat(width - command.width());
                let _ = writeln!(out, "  {command}{pad}  {}", paint.dim(&meaning));
            } else {
                let _ = writeln!(out, "  {command}\n      {}", paint.dim(&meaning));
            }
        }
    }
    // refused fixes are shown only if an open finding needs them
    let needed = |id: &str| view::open(report).any(|f| f.fixes.iter().any(|x| x == id));
    let refused: Vec<_> = report.fixes.iter().filter(|f| f.refused.is_some() && (paint.style.verbose || needed(&f.id))).collect();
    if !refused.is_empty() {
        let _ = writeln!(out, "{}", paint.bold("Not offered now"));
        for fix in refused {
            let why = printable(fix.refused.as_deref().unwrap_or_default());
            out += &paint.wrap(&format!("  {} {}: {why}", fix.id, printable(&fix.subject)), 4);
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// A table below the findings, for example the usage of a filesystem.
fn exhibit(table: &Table, style: &Style, paint: &Paint) -> String {
    let mut grid = grid(style);
    grid.set_header(table.columns.iter().map(|c| dim(printable(c))).collect::<Vec<_>>());
    for row in &table.rows {
        grid.add_row(row.iter().map(|c| printable(c)).collect::<Vec<_>>());
    }
    // numbers are right-aligned
    for i in 0..table.columns.len() {
        let numeric = !table.rows.is_empty()
            && table.rows.iter().all(|r| r.get(i).is_some_and(|c| c.is_empty() || c.starts_with(|c: char| c.is_ascii_digit())));
        if let (true, Some(column)) = (numeric, grid.column_mut(i)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut out = format!("{}\n{}\n", paint.bold(&printable(&table.title)), trimmed(&grid));
    if let Some(note) = &table.note {
        out += &paint.wrap(&paint.dim(&printable(note)), 0);
    }
    out.push('\n');
    out
}

/// The checks behind an "ok".
fn all_well(report: &Report, paint: &Paint) -> String {
    if report.checks.is_empty() {
        return "Nothing was checked.\n\n".to_owned();
    }
    let mut per_runbook: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in report.checks.iter().filter(|c| matches!(c.verdict.as_str(), "ok" | "info")) {
        let entry = per_runbook.entry(&row.runbook).or_default();
        entry.0 += 1;
    }
    for row in &report.checks {
        if row.verdict == "skip" {
            per_runbook.entry(&row.runbook).or_default().1 += 1;
        }
    }
    let host = printable(&report.host.hostname);
    if nothing_applied(report) {
        return format!("None of the selected checks apply to {host}.\n\n");
    }
    // one runbook proves nothing about the others
    let mut out = match view::scope(report) {
        None => format!("{}\n", paint.verdict("ok", &format!("Nothing needs attention on {host}."))),
        Some(scope) => {
            let well = paint.verdict("ok", &format!("Nothing needs attention in {}", printable(&scope)));
            paint.wrap(&format!("{well}; `opsctl diagnose` runs all checks."), 2)
        }
    };
    for (runbook, (fine, skipped)) in per_runbook {
        let skipped = if skipped > 0 { format!(" ({skipped} not applicable)") } else { String::new() };
        let _ = writeln!(out, "  {runbook:<12} {} fine{skipped}", quantity::count(fine, "check"));
    }
    out.push('\n');
    out
}

/// Whether no selected check applies to this host.
fn nothing_applied(report: &Report) -> bool {
    report.checks.iter().all(|c| c.verdict == "skip")
}

/// Recovered findings and trends.
fn course(report: &Report, paint: &Paint) -> String {
    let recovered = view::recovered(report)
        .iter()
        .map(|r| format!("{} {}: {} (lasted {})", r.code, printable(&r.subject), printable(&r.message), view::lasted(r)));
    let forecasts = view::forecasts(report).into_iter().map(|f| printable(&f));
    listed(&paint.verdict("ok", "Recovered"), recovered, paint) + &listed(&paint.bold("Trends"), forecasts, paint)
}

/// Waived findings.
fn waived(report: &Report, paint: &Paint) -> String {
    let lines = view::waived(report).into_iter().map(|(f, waiver)| {
        format!(
            "{} {} {}: {}; waived {}",
            f.severity,
            f.code,
            printable(&f.subject.to_string()),
            printable(&f.message),
            printable(waiver)
        )
    });
    listed(&paint.bold("Waived"), lines, paint)
}

fn listed(title: &str, lines: impl Iterator<Item = String>, paint: &Paint) -> String {
    let lines: String = lines.map(|l| paint.wrap(&format!("  {l}"), 4)).collect();
    if lines.is_empty() { lines } else { format!("{title}\n{lines}\n") }
}

fn unanswered_checks(report: &Report, paint: &Paint) -> String {
    let mut out = reasons(report, "unknown", "Could not check", paint);
    // a run in which nothing applied would otherwise print nothing
    if paint.style.verbose || (!paint.style.quiet && nothing_applied(report)) {
        out += &reasons(report, "skip", "Does not apply", paint);
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// The reasons of one verdict, each once, with the affected checks.
fn reasons(report: &Report, verdict: &str, title: &str, paint: &Paint) -> String {
    let reasons = unanswered::reasons(report, verdict);
    if reasons.is_empty() {
        return String::new();
    }
    let mut out = format!("{}\n", paint.verdict(verdict, title));
    for one in reasons {
        out += &paint.wrap(&format!("  {}: {}", printable(&one.subjects()), printable(&one.why())), 4);
    }
    out
}

fn counts(report: &Report, paint: &Paint) -> String {
    let mut parts = Vec::new();
    for word in ["crit", "warn", "unknown", "ok", "info", "skip"] {
        let n = view::checks(report, word);
        if n > 0 {
            parts.push(paint.verdict(word, &format!("{n} {word}")));
        }
    }
    let waived = view::waived(report).len();
    if waived > 0 {
        parts.push(format!("{waived} waived"));
    }
    let took = view::took(report);
    let host = printable(&report.host.hostname);
    let total = quantity::count(report.checks.len(), "check");
    let line = format!("{} {} {total} on {host} in {took}", parts.join(&format!(" {} ", paint.dot())), paint.dot());
    paint.wrap(&line, 2)
}

/// comfy-table fills every line to the full width.
fn trimmed(grid: &Grid) -> String {
    grid.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn at(width: u16) -> Style {
        Style { width, ..Style::plain() }
    }

    #[test]
    fn five_red_things_wide() {
        insta::assert_snapshot!(render(&sample::five_red_things(), &at(140)));
    }

    #[test]
    fn five_red_things_narrow() {
        insta::assert_snapshot!(render(&sample::five_red_things(), &at(60)));
    }

    #[test]
    fn history_and_waivers() {
        insta::assert_snapshot!(render(&sample::compared(), &at(100)));
    }

    #[test]
    fn all_is_well() {
        insta::assert_snapshot!(render(&sample::healthy(), &at(80)));
    }

    #[test]
    fn single_runbook_makes_no_statement_about_the_host() {
        let mut report = sample::healthy();
        report.checks.retain(|c| c.runbook == "container");
        let text = render(&report, &at(120));
        assert_eq!(
            text,
            "Nothing needs attention in the container checks of container web; `opsctl diagnose` runs all checks.\n  container    2 \
             checks fine\n\n1 ok · 1 info · 2 checks on web-1 in 312 ms\n"
        );
    }

    #[test]
    fn quiet_prints_nothing_for_a_healthy_host() {
        assert_eq!(render(&sample::healthy(), &Style { quiet: true, ..Style::plain() }), "");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [60, 80, 100, 140] {
            let text = render(&sample::five_red_things(), &at(width));
            for line in text.lines().filter(|l| !l.contains("opsctl fix")) {
                assert!(line.width() <= usize::from(width), "{width}: {line}");
            }
        }
    }

    #[test]
    fn foreign_text_is_escaped() {
        let text = render(&sample::hostile(), &Style { verbose: true, ..Style::plain() });
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202E}'));
    }

    #[test]
    fn ascii_style_is_ascii() {
        let text = render(&sample::five_red_things(), &Style { ascii: true, ..Style::plain() });
        assert!(text.is_ascii(), "{text}");
    }

    #[test]
    fn colour_does_not_change_the_text() {
        let plain = render(&sample::five_red_things(), &at(120));
        let coloured = render(&sample::five_red_things(), &Style { color: true, ..at(120) });
        let ansi = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap_or_else(|e| panic!("{e}"));
        let stripped: Vec<String> = ansi.replace_all(&coloured, "").lines().map(|l| l.trim_end().to_owned()).collect();
        assert_eq!(stripped.join("\n"), plain.trim_end());
    }

    #[test]
    fn all_of_200_findings_are_shown() {
        let report = sample::many(200);
        let text = render(&report, &at(100));
        assert_eq!(text.lines().filter(|l| l.contains("container.down")).count() - 1, 200);
    }
}
