//! The report as a self-contained HTML page for mail, archive, print and phones.

use std::fmt::Write as _;

use opsctl_core::model::{CheckRow, Confidence, FindingStatus, FixOffer, Measure, Report, Reported, Severity, quantity};

use super::markup::{escape, escape_lines};
use super::plot::{self, Level};
use super::{diagnosis, unanswered, view};

/// Number of plots of one kind that are not collapsed.
const PLOTS_SHOWN: usize = 12;

/// Even if a text got past the escaping, the page may load nothing and run nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(super) fn render(report: &Report) -> String {
    let host = escape(&report.host.hostname);
    let verdict = escape(&report.verdict);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{CONTENT_SECURITY_POLICY}\">\n\
         <title>{host}: {verdict}</title>\n<style>\n{}</style>\n</head>\n<body>\n",
        include_str!("html.css")
    );
    out += &head(report);
    out += "<main>\n";
    let sections = [
        causes,
        findings,
        fixes,
        exhibits,
        recovered,
        waived,
        unanswered_checks,
        trends,
        numbers,
        worth_knowing,
        notes,
        all_checks,
    ];
    out.extend(sections.iter().map(|section| section(report)));
    // writing to a String cannot fail
    let build = &report.opsctl;
    let journal = view::journal(report).map(|line| format!("<br>{}", escape(&line))).unwrap_or_default();
    let _ = writeln!(out, "<footer>opsctl {} ({}){journal}</footer>", escape(&build.version), escape(&build.commit));
    out + "</main>\n</body>\n</html>\n"
}

/// The verdict and the host.
fn head(report: &Report) -> String {
    let verdict = escape(&report.verdict);
    let mut meta = vec![
        quantity::minute(report.started_at),
        format!("{} in {}", quantity::count(report.checks.len(), "check"), view::took(report)),
        format!("Linux {}", report.host.kernel),
    ];
    if let Some(course) = &report.course {
        meta.extend(course.period.as_ref().map(|p| format!("sums up the {p}")));
        meta.extend(course.compared_with.map(|at| format!("compared with {}", at.strftime("%Y-%m-%d %H:%M"))));
    }
    let meta = each(&meta, |m| format!("<span>{}</span>", escape(m)));
    format!(
        "<header class=\"{verdict}\"><div class=\"head\">\n<h1><span class=\"badge {verdict}\">{verdict}</span> {}</h1>\n\
         <p class=\"lead\">{}</p>\n<p class=\"meta\">{meta}</p>\n</div></header>\n",
        escape(&report.host.hostname),
        escape(&lead(report))
    )
}

/// The run in one sentence.
fn lead(report: &Report) -> String {
    let open = view::open(report).count();
    let unknown = view::checks(report, "unknown");
    let mut sentence = Vec::new();
    if open == 0 {
        let scope = view::scope(report).map(|scope| format!(" in {scope}")).unwrap_or_default();
        sentence.push(format!("Nothing needs attention{scope}"));
    } else {
        let (crit, warn) = (view::findings(report, Severity::Crit), view::findings(report, Severity::Warn));
        let parts = [(crit, "crit"), (warn, "warn")].into_iter().filter(|(n, _)| *n > 0);
        let parts: Vec<String> = parts.map(|(n, word)| format!("{n} {word}")).collect();
        sentence.push(format!(
            "{} attention ({})",
            if open == 1 { "1 finding needs".into() } else { format!("{open} findings need") },
            parts.join(", ")
        ));
        let causes = view::causes(report);
        let open = |id: &&String| view::find(report, id).is_some_and(Reported::is_open);
        let explained: usize = causes.iter().map(|(c, _)| c.explains.iter().filter(open).count()).sum();
        if explained > 0 {
            let causes = if causes.len() == 1 {
                "one root cause explains".to_owned()
            } else {
                format!("{} root causes explain", causes.len())
            };
            sentence.push(format!("{causes} {explained} of them"));
        }
    }
    if unknown > 0 {
        sentence.push(format!("{} without a result", quantity::count(unknown, "check")));
    }
    sentence.join("; ") + "."
}

/// Concatenates the markup of all items.
fn each<T>(items: impl IntoIterator<Item = T>, markup: impl Fn(T) -> String) -> String {
    items.into_iter().map(markup).collect()
}

fn badge(word: &str) -> String {
    let word = escape(word);
    format!("<span class=\"badge {word}\">{word}</span>")
}

fn title(text: &str, n: usize) -> String {
    format!("<h2>{text} <span class=\"n\">({n})</span></h2>\n")
}

fn causes(report: &Report) -> String {
    let causes = diagnosis::diagnoses(report);
    if causes.is_empty() {
        return String::new();
    }
    let mut out = format!("<section>\n<h2>{}</h2>\n", if causes.len() == 1 { "Root cause" } else { "Root causes" });
    for d in causes {
        let likely = if d.likely { " <span class=\"tag\">likely</span>" } else { "" };
        let waived = if d.waived { " <span class=\"tag\">waived</span>" } else { "" };
        let _ = writeln!(
            out,
            "<div class=\"card {0}\">\n<p class=\"what\">{1} {2}{likely}{waived}</p>\n<p class=\"soft\"><code>{3}</code> · {4}</p>",
            d.severity,
            badge(&d.severity.to_string()),
            escape(&d.problem),
            escape(&d.code),
            escape(&quantity::some_of(&d.subjects, 4)),
        );
        if !d.explains.is_empty() {
            let items = each(&d.explains, |b| format!("<li>{}</li>\n", escape(b)));
            let _ = writeln!(out, "<p>It explains</p>\n<ul>\n{items}</ul>");
        }
        if let Some(not) = &d.not {
            let _ = writeln!(out, "<p class=\"soft\">It does not explain {}</p>", escape(not));
        }
        if let Some(command) = &d.next {
            let _ = writeln!(out, "<p><b>Next:</b> <code>{}</code></p>", escape(command));
        }
        if !d.to_do.is_empty() {
            let _ = writeln!(out, "<p><b>To do:</b> {}</p>", escape(&d.to_do));
        }
        out += "</div>\n";
    }
    out + "</section>\n"
}

/// Open findings, each below its cause.
fn findings(report: &Report) -> String {
    let shown: Vec<&Reported> = view::open(report).collect();
    if shown.is_empty() {
        return String::new();
    }
    let mut out = format!("<section>\n{}<table class=\"findings\">\n<thead><tr>", title("Needs attention", shown.len()));
    out += "<th scope=\"col\">Severity</th><th scope=\"col\">Finding</th><th scope=\"col\">Since</th><th scope=\"col\">Owner</th></tr></thead>\n<tbody>\n";
    for (depth, f) in view::tree(&shown) {
        let branch = if depth == 0 { "" } else { "<span class=\"branch\" aria-hidden=\"true\">\u{2514}</span>" };
        let since = f.since.map(|at| view::moment(report.started_at, at)).unwrap_or_default();
        let _ = writeln!(
            out,
            "<tr class=\"d{}\"><td>{}</td><td class=\"f\">{branch}{}</td><td class=\"from\" data-is=\"since\">{since}</td><td class=\"from owner\" data-is=\"owner:\">{}</td></tr>",
            depth.min(3),
            badge(&f.severity.to_string()),
            finding(report, f),
            escape(f.owner.as_deref().unwrap_or_default()),
        );
    }
    out + "</tbody>\n</table>\n</section>\n"
}

fn finding(report: &Report, f: &Reported) -> String {
    let mut tags = Vec::new();
    if let Some(status) = view::status(report, f) {
        let class = match report.course.as_ref().and_then(|c| c.of(&f.id)).map(|k| k.standing) {
            Some(FindingStatus::New) => " new",
            Some(FindingStatus::Flapping) => " flapping",
            _ => "",
        };
        tags.push(format!(" <span class=\"tag{class}\">{}</span>", escape(&status)));
    }
    if f.confidence == Confidence::Likely {
        tags.push(" <span class=\"tag\">likely</span>".to_owned());
    }
    let cause =
        f.explained_by.as_deref().and_then(|id| view::find(report, id)).map(|c| format!(", caused by {} {}", c.code, c.subject));
    let mut out = format!(
        "<span class=\"what\">{}</span>{}\n<p class=\"soft\"><code>{}</code> · {}{}</p>\n",
        escape(&f.message),
        tags.concat(),
        escape(&f.code),
        escape(&f.subject.to_string()),
        escape(&cause.unwrap_or_default()),
    );
    if !f.hint.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", escape(&f.hint));
    }
    if !f.evidence.is_empty() {
        let items =
            each(&f.evidence, |c| format!("<dt>{}</dt><dd><pre>{}</pre></dd>\n", escape(&c.label), escape_lines(&c.value)));
        let _ = write!(out, "<details class=\"evidence\"><summary>Evidence</summary>\n<dl>\n{items}</dl></details>");
    }
    out
}

fn fixes(report: &Report) -> String {
    let (offered, refused): (Vec<_>, Vec<_>) = report.fixes.iter().partition(|f| f.refused.is_none());
    if report.fixes.is_empty() {
        return String::new();
    }
    let mut out = String::from("<section>\n<h2>Fixes</h2>\n");
    if !offered.is_empty() {
        out += "<div class=\"card\">\n<p class=\"soft\">On that host; each shows its plan and requires confirmation.</p>\n";
        for fix in offered {
            let (command, meaning) = (escape(&fix.command), fix.risk.meaning());
            let _ = writeln!(out, "<pre class=\"copy\">{command}</pre>\n<p class=\"soft\">{}: {meaning}</p>", fix.risk);
        }
        out += "</div>\n";
    }
    if !refused.is_empty() {
        let item = |f: &&FixOffer| {
            let why = escape(f.refused.as_deref().unwrap_or_default());
            format!("<li><code>{}</code> {}: {why}</li>\n", escape(&f.id), escape(&f.subject))
        };
        let items = each(&refused, item);
        let _ = writeln!(
            out,
            "<details><summary>Not offered now ({})</summary>\n<ul class=\"plain\">\n{items}</ul></details>",
            refused.len()
        );
    }
    out + "</section>\n"
}

/// Tables such as the usage of a filesystem.
fn exhibits(report: &Report) -> String {
    let mut out = String::new();
    for table in &report.tables {
        // numbers are right-aligned
        let numeric = |i: usize| {
            let number = |c: &String| c.is_empty() || (c.starts_with(|c: char| c.is_ascii_digit()) && !c.contains(':'));
            !table.rows.is_empty() && table.rows.iter().all(|r| r.get(i).is_some_and(number))
        };
        let class = |i: usize| if numeric(i) { " class=\"num\"" } else { "" };
        let head = table.columns.iter().enumerate();
        let head = each(head, |(i, c)| format!("<th scope=\"col\"{}>{}</th>", class(i), escape(c)));
        let row = |r: &Vec<String>| -> String {
            let cells = each(r.iter().enumerate(), |(i, c)| format!("<td{}>{}</td>", class(i), escape(c)));
            format!("<tr>{cells}</tr>\n")
        };
        let rows = each(&table.rows, row);
        let note = table.note.as_ref().map(|n| format!("<p class=\"soft\">{}</p>\n", escape(n))).unwrap_or_default();
        let _ = writeln!(
            out,
            "<section>\n<h2>{}</h2>\n<div class=\"scroll\"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n{note}</section>",
            escape(&table.title)
        );
    }
    out
}

fn recovered(report: &Report) -> String {
    let items: Vec<String> = view::recovered(report)
        .iter()
        .map(|r| {
            let owner = r.owner.as_ref().map(|o| format!(" · {}", escape(o))).unwrap_or_default();
            format!(
                "<li>{} {} <span class=\"soft\"><code>{}</code> · {} · {} to {}, {}{owner}</span></li>\n",
                badge(&r.severity.to_string()),
                escape(&r.message),
                escape(&r.code),
                escape(&r.subject),
                view::moment(report.started_at, r.first_seen),
                view::moment(report.started_at, r.last_seen),
                view::lasted(r),
            )
        })
        .collect();
    listed("Recovered", "", &items)
}

fn waived(report: &Report) -> String {
    let item = |(f, waiver): &(&Reported, &str)| {
        format!(
            "<li>{} {} <span class=\"soft\"><code>{}</code> · {}</span><br><b>Waived:</b> {}</li>\n",
            badge(&f.severity.to_string()),
            escape(&f.message),
            escape(&f.code),
            escape(&f.subject.to_string()),
            escape(waiver)
        )
    };
    let items: Vec<String> = view::waived(report).iter().map(item).collect();
    listed("Waived", "Silenced by a waiver. These do not count.", &items)
}

fn unanswered_checks(report: &Report) -> String {
    let item = |one: &unanswered::Unanswered<'_>| {
        format!(
            "<li>{} {}<br><span class=\"soft\">{}</span></li>\n",
            badge("unknown"),
            escape(&one.why()),
            escape(&one.subjects())
        )
    };
    let items: Vec<String> = unanswered::unanswered(report).iter().map(item).collect();
    listed("Could not check", "Neither healthy nor broken: no result.", &items)
}

fn listed(heading: &str, about: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let about = if about.is_empty() { String::new() } else { format!("<p class=\"soft\">{about}</p>\n") };
    format!(
        "<section>\n{}<div class=\"card\">\n{about}<ul class=\"badges\">\n{}</ul>\n</div>\n</section>\n",
        title(heading, items.len()),
        items.concat()
    )
}

/// Plots of earlier values, those with a forecast first.
fn trends(report: &Report) -> String {
    let mut trends: Vec<_> = view::trends(report).iter().collect();
    trends.sort_by_key(|t| t.says.is_empty());
    let plots: Vec<String> = trends.into_iter().map(plot::sparkline).filter(|p| !p.is_empty()).collect();
    plotted("Trends", &plots)
}

/// Numbers without a plot above, nearest to their limits first.
fn numbers(report: &Report) -> String {
    let drawn = |m: &&Measure| view::trends(report).iter().any(|t| t.subject == m.subject && t.name == m.name);
    let mut measures: Vec<&Measure> = report.measures.iter().filter(|m| !drawn(m)).collect();
    measures.sort_by_key(|m| Level::of(m));
    let bars: Vec<String> = measures.into_iter().map(plot::bar).collect();
    plotted("Numbers and their limits", &bars)
}

/// Plots side by side; many are collapsed.
fn plotted(heading: &str, plots: &[String]) -> String {
    if plots.is_empty() {
        return String::new();
    }
    let (shown, folded) = plots.split_at(plots.len().min(PLOTS_SHOWN));
    let mut out = format!("<section>\n<h2>{heading}</h2>\n<div class=\"plots\">\n{}</div>\n", shown.concat());
    if !folded.is_empty() {
        let (more, folded) = (folded.len(), folded.concat());
        let _ = writeln!(out, "<details><summary>{more} more</summary>\n<div class=\"plots\">\n{folded}</div></details>");
    }
    out + "</section>\n"
}

/// Info findings, collapsed.
fn worth_knowing(report: &Report) -> String {
    let infos: Vec<&Reported> = report.findings.iter().filter(|f| f.severity == Severity::Info).collect();
    if infos.is_empty() {
        return String::new();
    }
    let items = each(&infos, |f| {
        let (message, code, subject) = (escape(&f.message), escape(&f.code), escape(&f.subject.to_string()));
        format!("<li>{message} <span class=\"soft\"><code>{code}</code> · {subject}</span></li>\n")
    });
    let heading = title("Worth knowing", infos.len());
    format!(
        "<section>\n{heading}<details><summary>Nothing to do</summary>\n<ul class=\"plain\">\n{items}</ul></details>\n</section>\n"
    )
}

fn notes(report: &Report) -> String {
    let items = each(&report.notes, |n| format!("<li>{}</li>\n", escape(n)));
    if items.is_empty() {
        items
    } else {
        format!("<section>\n<h2>About this run</h2>\n<ul class=\"plain\">\n{items}</ul>\n</section>\n")
    }
}

fn all_checks(report: &Report) -> String {
    let row = |c: &CheckRow| {
        let why = c.reason.as_deref().map(|w| format!("<p class=\"soft\">{}</p>", escape(w))).unwrap_or_default();
        let (check, target) = (escape(&c.check), escape(&c.target));
        format!(
            "<tr><td>{}</td><td><code>{check}</code> {target}{why}</td><td class=\"from\" data-is=\"took\">{} ms</td></tr>\n",
            badge(&c.verdict),
            c.duration_ms
        )
    };
    let rows = each(&report.checks, row);
    let counts = ["crit", "warn", "unknown", "ok", "info", "skip"].map(|v| (v, view::checks(report, v)));
    let counts: Vec<String> = counts.into_iter().filter(|(_, n)| *n > 0).map(|(v, n)| format!("{n} {v}")).collect();
    format!(
        "<section>\n<h2>All checks <span class=\"n\">({})</span></h2>\n<details><summary>{}</summary>\n<table class=\"rows\"><thead><tr>\
         <th scope=\"col\">Verdict</th><th scope=\"col\">Check</th><th scope=\"col\">Time</th></tr></thead>\n<tbody>\n{rows}</tbody></table></details>\n</section>\n",
        report.checks.len(),
        counts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    /// The page without its style sheet, which is a separate file.
    fn page(report: &Report) -> String {
        let text = render(report);
        let (head, rest) = text.split_once("<style>").unwrap_or_default();
        let (_, body) = rest.split_once("</style>").unwrap_or_default();
        format!("{head}{body}")
    }

    #[test]
    fn a_page() {
        insta::assert_snapshot!(page(&sample::compared()));
    }

    #[test]
    fn many_plots_are_collapsed() {
        let mut report = sample::compared();
        report.measures = (0..40).map(|i| Measure { subject: format!("container:c{i}"), ..report.measures[0].clone() }).collect();
        let text = page(&report);
        assert!(text.contains("<summary>28 more</summary>"), "{text}");
        assert_eq!(text.matches("<svg class=\"bar\"").count(), 40);
    }

    #[test]
    fn healthy_host_needs_no_attention() {
        let text = page(&sample::healthy());
        assert!(text.contains("Worth knowing") && text.contains("has no max-size"), "{text}");
        assert!(text.contains("Nothing needs attention."), "{text}");
        assert!(!text.contains("Root cause") && !text.contains("Needs attention <"), "{text}");
    }

    #[test]
    fn foreign_text_is_never_markup() {
        let mut evil = sample::compared();
        let evil_text = "<script>alert(1)</script>\x1b[2J\u{202E}\"' onload=x &amp; </pre></style>";
        for f in &mut evil.findings {
            f.finding.message = evil_text.to_owned();
            f.finding.subject.name = evil_text.to_owned();
            f.owner = Some(evil_text.to_owned());
            f.finding.hint = evil_text.to_owned();
            f.waived = f.waived.as_ref().map(|_| evil_text.to_owned());
            f.finding.evidence =
                vec![opsctl_core::model::Cited { label: evil_text.to_owned(), value: format!("{evil_text}\n{evil_text}") }];
        }
        for c in &mut evil.checks {
            c.target = evil_text.to_owned();
            c.reason = Some(evil_text.to_owned());
        }
        for m in &mut evil.measures {
            m.subject = evil_text.to_owned();
        }
        for t in evil.course.iter_mut().flat_map(|c| &mut c.trends) {
            t.subject = evil_text.to_owned();
            t.says = evil_text.to_owned();
        }
        for r in evil.course.iter_mut().flat_map(|c| &mut c.recovered) {
            r.subject = evil_text.to_owned();
            r.message = evil_text.to_owned();
        }
        evil.host.hostname = evil_text.to_owned();
        evil.notes = vec![evil_text.to_owned()];
        for report in [evil, sample::hostile(), sample::many(200)] {
            let text = render(&report);
            assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202E}')), "{text:?}");
            assert!(!text.contains("<script") && !text.contains("alert(1)<") && text.matches("</style>").count() == 1, "{text}");
            // every opened element is closed, so no data was parsed as an element
            let body = page(&report);
            let (_, body) = body.split_once("<body>").unwrap_or_default();
            sample::well_formed(&format!("<body>{}", body.replace("<br>", "<br/>").trim_end().trim_end_matches("</html>")));
        }
    }

    #[test]
    fn page_loads_no_resources() {
        let text = render(&sample::compared());
        for reference in ["http://", "https://", "url(", "@import", "<link", "<script", "<img", "src="] {
            assert!(!text.contains(reference), "{reference}");
        }
    }
}
