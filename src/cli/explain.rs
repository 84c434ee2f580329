//! `opsctl explain`: documentation of a code, a runbook, a fix or an alert.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use opsctl_core::model::{Code, FixSpec};

use super::exit::{self, UsageError};
use super::{Global, run};
use crate::catalog::{Catalog, Documentation, Entry};
use crate::config::did_you_mean;
use crate::render::{OutputEnvironment, Style, pretty};
use crate::watchdog;

/// `opsctl explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A code (container.oom-killed), a runbook (disk), a fix (log.truncate) or an alert (DiskSpaceLow)
    #[arg(value_name = "WORD")]
    word: String,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    let catalog = Catalog::of(crate::site::runbooks(&run::load(global)?));
    let Some(entry) = catalog.find(&args.word) else {
        let word = args.word.to_lowercase();
        let holding = catalog.names().into_iter().find(|n| n.to_lowercase().contains(&word));
        let hint = match did_you_mean(&args.word, catalog.names()) {
            hint if hint.is_empty() => holding.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default(),
            hint => hint,
        };
        return Err(UsageError(format!("unknown name `{}`{hint} (`opsctl list` shows all names)", args.word)).into());
    };
    let text = explain(&catalog, &entry);
    let terminal = io::stdout().is_terminal();
    let style = Style::of(&OutputEnvironment::of_process(), global.color, terminal);
    watchdog::print(&if terminal { pretty(&text, &style) } else { text })?;
    Ok(exit::OK)
}

/// The explanation as Markdown.
fn explain(catalog: &Catalog, entry: &Entry<'_>) -> String {
    match entry {
        Entry::Runbook(_, doc) => documentation(doc),
        Entry::Alert(name, runbook, doc) => {
            format!(
                "The alert {name} is handled by the runbook {}: `opsctl {}`\n\n{}",
                runbook.id,
                runbook.id,
                documentation(doc)
            )
        }
        Entry::OutOfScope(name, reason) => {
            format!("# {name}\n\nopsctl does not check this.\n\n## By hand\n\n{}.\n", capitalized(reason))
        }
        Entry::Code(code) => explain_code(catalog, code),
        Entry::Fix(fix) => explain_fix(catalog, fix),
    }
}

fn documentation(doc: &Documentation) -> String {
    let mut text = format!("# {}\n", doc.title);
    for (heading, body) in &doc.sections {
        // writing to a String cannot fail
        let _ = write!(text, "\n## {heading}\n\n{body}\n");
    }
    text
}

fn explain_code(catalog: &Catalog, code: &Code) -> String {
    let severities: Vec<String> = code.severities.iter().map(ToString::to_string).collect();
    let mut text =
        format!("# {}\n\nReported ({}) when {}.\n\nTo do: {}.\n", code.id, severities.join(", "), catalog.when(code), code.hint);
    let mut relations = Vec::new();
    for link in catalog.links() {
        if link.effect == code.id {
            relations.push(format!("- caused by `{}`: {}", link.cause, link.because));
        }
        if link.cause == code.id {
            relations.push(format!("- causes `{}`: {}", link.effect, link.because));
        }
    }
    if !relations.is_empty() {
        let _ = write!(text, "\n## Causes and effects\n\n{}\n", relations.join("\n"));
    }
    // a code and its fix may have the same name
    if let Some(fix) = catalog.fixes().into_iter().find(|f| f.id == code.id) {
        let _ = write!(
            text,
            "\n## Fix\n\n{} ({}: {}): `opsctl fix {} --dry-run`.\n",
            capitalized(fix.title),
            fix.risk,
            fix.risk.meaning(),
            fix.id
        );
    }
    if let Some((runbook, doc)) = catalog.runbook_of(code.id) {
        let _ = write!(text, "\n## By hand\n\n{}\n", doc.section("By hand"));
        let _ = write!(text, "\n## See also\n\n`opsctl explain {}` for the whole documentation and its fixes.\n", runbook.id);
    }
    text
}

fn explain_fix(catalog: &Catalog, fix: &FixSpec) -> String {
    let mut text = format!("# {}\n\n{} ({}: {}).\n", fix.id, capitalized(fix.title), fix.risk, fix.risk.meaning());
    let docs = catalog.runbooks().filter(|(r, _)| r.checks.iter().any(|c| c.spec().fixes.iter().any(|f| f.id == fix.id)));
    for (runbook, doc) in docs {
        let _ = write!(text, "\n## Fix safety ({})\n\n{}\n", runbook.id, doc.section("Fix safety"));
    }
    let _ = write!(text, "\n## Try it\n\n```sh\nopsctl fix {} --dry-run\n```\n", fix.id);
    text
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_explained() {
        let catalog = Catalog::new();
        for name in catalog.names() {
            let entry = catalog.find(&name.to_uppercase()).unwrap_or_else(|| panic!("{name}"));
            let text = explain(&catalog, &entry);
            assert!(text.contains("## "), "{name}: {text}");
        }
    }

    #[test]
    fn causes_of_a_code_are_listed() {
        let catalog = Catalog::new();
        let text = catalog.find("container.restart-loop").map(|e| explain(&catalog, &e)).unwrap_or_default();
        assert!(text.contains("caused by `container.oom-killed`"), "{text}");
    }
}
