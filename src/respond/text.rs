//! Answers as text: for a terminal, an issue, a chat.

use std::fmt::Write as _;

use opsctl_core::model::{Report, Reported, printable, quantity};

use super::answer::{AlertReport, Response};
use crate::deliver::{Message, with_footer};
use crate::render::{Format, Style, markdown_code};
use crate::report::{Line, chat, footer};

/// Maximum number of lines quoted from the runbook documentation.
const MAX_BY_HAND_LINES: usize = 24;

/// The report reduced to the findings of one alert.
fn narrowed(response: &Response, answer: &AlertReport) -> Report {
    let mut report = response.report.clone();
    report.findings.retain(|f| answer.findings.contains(&f.id));
    let kept = |id: &String| report.findings.iter().any(|f| f.id == *id);
    let mut causes = report.causes.clone();
    for cause in &mut causes {
        let pairs = cause.explains.iter().zip(&cause.because).filter(|(id, _)| kept(id));
        (cause.explains, cause.because) = pairs.map(|(id, why)| (id.clone(), why.clone())).unzip();
    }
    causes.retain(|c| kept(&c.root) && !c.explains.is_empty());
    report.causes = causes;
    let is_relevant = |fix: &String, subject: &String| {
        report.findings.iter().any(|f| f.fixes.contains(fix) && f.subject.to_string() == *subject)
    };
    let fixes: Vec<_> = report.fixes.iter().filter(|f| is_relevant(&f.id, &f.subject)).cloned().collect();
    report.fixes = fixes;
    report.checks.retain(|c| {
        answer.runbooks.is_empty()
            || answer.runbooks.contains(&c.runbook)
            || c.findings.iter().any(|f| answer.findings.contains(f))
    });
    report.tables.clear();
    // shown once below all answers, not below each
    report.journal = None;
    report.measures.clear();
    answer.verdict.clone_into(&mut report.verdict);
    report
}

/// `ContainerDown on web-1, for 3 min: crit`.
fn title(response: &Response, answer: &AlertReport) -> String {
    let since = answer.alert.starts_at.map(|at| format!(", for {}", quantity::duration(response.at.duration_since(at))));
    let state = if answer.alert.resolved { ", resolved".to_owned() } else { since.unwrap_or_default() };
    format!("{} on {}{state}: {}", printable(&answer.alert.name), printable(&response.host), answer.verdict)
}

/// Facts besides the findings, one line each.
fn facts(response: &Response, answer: &AlertReport) -> Vec<String> {
    let mut lines: Vec<String> = response.fixes_switched_off.iter().cloned().collect();
    let name = &answer.alert.name;
    if !answer.known {
        let add = "`[[alert]]` in the configuration assigns runbooks to it";
        lines.push(if answer.runbooks.is_empty() {
            format!("no runbook handles the alert {name}: all checks were run; {add}")
        } else {
            format!("no runbook handles the alert {name}; its labels select {}; {add}", answer.runbooks.join(", "))
        });
    }
    if let Some(reason) = &answer.out_of_scope {
        lines.push(format!("opsctl does not check {reason}"));
    } else if answer.findings.is_empty() {
        let about = if answer.subjects.is_empty() { String::new() } else { format!(" about {}", answer.subjects.join(", ")) };
        lines.push(match answer.verdict.as_str() {
            "ok" => format!("{} found no problem{about}: the alert may be resolved, or have another cause", runbooks_of(answer)),
            _ => format!("{} could not check everything{about}", runbooks_of(answer)),
        });
    }
    if let Some(owner) = &answer.owner {
        lines.push(format!("owner: {owner}"));
    }
    for applied in &answer.applied {
        let how =
            if applied.exit == 0 { "applied and verified" } else { applied.said.last().map_or("not applied", String::as_str) };
        lines.push(format!("applied {} to {}: {how}", applied.fix, applied.subject));
    }
    for past in &answer.similar {
        let span = quantity::duration(past.last_seen.duration_since(past.first_seen));
        let day = quantity::minute(past.first_seen);
        lines.push(format!("before: {day}, for {span}: {} {}: {}", past.code, past.subject, past.message));
    }
    let also: Vec<&Reported> = response.report.findings.iter().filter(|f| answer.also_open.contains(&f.id)).collect();
    for finding in also.iter().take(5) {
        lines.push(format!("also open: {} {}: {}", finding.severity, finding.code, finding.message));
    }
    if also.len() > 5 {
        lines.push(format!("and {} more", also.len() - 5));
    }
    lines.iter().map(|l| printable(l)).collect()
}

fn runbooks_of(answer: &AlertReport) -> String {
    match answer.runbooks.as_slice() {
        [] => "all runbooks".to_owned(),
        [one] => format!("the runbook {one}"),
        several => format!("the runbooks {}", several.join(", ")),
    }
}

/// For a terminal.
#[must_use]
pub fn table(response: &Response, style: &Style) -> String {
    let mut out = String::new();
    for answer in &response.answers {
        // writing to a String cannot fail
        let _ = writeln!(out, "{}", title(response, answer));
        for line in facts(response, answer) {
            let _ = writeln!(out, "  {line}");
        }
        out.push('\n');
        if !answer.findings.is_empty() {
            out += &Format::Table.render(&narrowed(response, answer), style);
            out.push('\n');
        }
        if let Some(runbook) = answer.runbooks.first().filter(|_| !answer.alert.resolved) {
            let _ = writeln!(out, "By hand (complete documentation: `opsctl explain {runbook}`)\n{}\n", excerpt(&answer.by_hand));
        }
    }
    if response.answers.is_empty() {
        out.push_str("The payload contains no alert.\n");
    }
    if style.verbose { with_footer(out, &response.report) } else { out }
}

fn excerpt(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().take(MAX_BY_HAND_LINES).collect();
    if lines.iter().filter(|l| l.starts_with("```")).count() % 2 == 1 {
        lines.push("```");
    }
    lines.join("\n")
}

/// For a chat message or an issue.
#[must_use]
pub fn markdown(response: &Response) -> String {
    let mut out = String::new();
    for answer in &response.answers {
        let _ = writeln!(out, "# {}\n", markdown_code(&title(response, answer)));
        for line in facts(response, answer) {
            let _ = writeln!(out, "- {}", markdown_code(&line));
        }
        out.push('\n');
        if !answer.findings.is_empty() {
            out += &Format::Markdown.render(&narrowed(response, answer), &Style::plain());
        }
        if !answer.by_hand.is_empty() && !answer.alert.resolved {
            let _ = writeln!(out, "\n**By hand**\n\n{}\n", excerpt(&answer.by_hand));
        }
    }
    if let Some(line) = footer(&response.report) {
        let _ = writeln!(out, "\n{}", markdown_code(&line));
    }
    out
}

/// For a delivery.
#[must_use]
pub fn message(response: &Response) -> Message {
    let mut lines = Vec::new();
    for answer in &response.answers {
        lines.push(Line::Title(title(response, answer)));
        let findings = chat(&narrowed(response, answer)).into_iter().skip(1);
        let (commands, texts): (Vec<Line>, Vec<Line>) = findings.partition(|l| matches!(l, Line::Command(_)));
        lines.extend(texts);
        lines.extend(facts(response, answer).into_iter().map(Line::Text));
        lines.extend(commands);
    }
    lines.extend(footer(&response.report).map(Line::Footer));
    let text = |style: &Style| with_footer(table(response, style), &response.report);
    let first = response.answers.first().map_or_else(|| "no alert".to_owned(), |a| title(response, a));
    let more = response.answers.len().saturating_sub(1);
    let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
    Message {
        subject: format!("[opsctl] {first}{more}"),
        text: text(&Style { width: 100, ..Style::plain() }),
        html: None,
        chat: lines,
        json: serde_json::to_value(response).ok(),
        files: vec![
            (Format::Table, text(&Style::plain())),
            (Format::Markdown, markdown(response)),
            (Format::Json, crate::render::json_document(response).unwrap_or_default()),
        ],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::catalog::Catalog;
    use crate::config::Loaded;
    use crate::render::hostile;

    #[test]
    fn hostile_alert_is_inert() {
        for text in hostile::CORPUS.iter().filter(|t| !t.is_empty()) {
            let alert = serde_json::json!([{ "labels": { "alertname": text, "owner": text, "name": text }, "annotations": { "x": text } }]);
            let alerts = super::super::parse(alert.to_string().as_bytes()).unwrap().alerts;
            let healthy = crate::report::fixtures::report(&[]);
            let mut response = super::super::respond(alerts, &healthy, &Catalog::new(), &Loaded::defaults().config, None);
            // the documentation of a runbook that the words of the name select is opsctl's own
            response.answers.iter_mut().for_each(|a| a.by_hand.clear());
            hostile::inert(&markdown(&response), text, hostile::GITHUB);
            let shown = table(&response, &Style::plain());
            assert!(shown.lines().all(|l| printable(l) == l), "{text:?}: {shown:?}");
            assert!(!message(&response).subject.contains(['\r', '\n']), "{text:?}");
        }
    }
}
