//! All names: runbooks, codes, fixes and alerts, with the runbook documentation.

mod alert;
mod documentation;

use opsctl_core::model::{Code, FixSpec, Link, Runbook, links};
use opsctl_runbooks::Settings;

pub use alert::{AlertName, by_words, is_same_alert};
pub use documentation::{Documentation, SECTIONS};

/// All names of this version of opsctl.
pub struct Catalog {
    runbooks: Vec<Runbook>,
    docs: Vec<Documentation>,
}

/// The object that a name refers to.
#[derive(Clone, Copy)]
pub enum Entry<'a> {
    /// A runbook.
    Runbook(&'a Runbook, &'a Documentation),
    /// A code.
    Code(&'static Code),
    /// A fix.
    Fix(&'static FixSpec),
    /// An alert of a monitoring system, and the first runbook it maps to.
    Alert(&'a str, &'a Runbook, &'a Documentation),
    /// An alert about something that opsctl does not check, with the reason.
    OutOfScope(&'a str, &'a str),
}

impl Catalog {
    /// The catalog of the built-in runbooks.
    #[must_use]
    pub fn new() -> Self {
        Self::of(opsctl_runbooks::all(&Settings::default()))
    }

    /// The catalog of these runbooks.
    #[must_use]
    pub fn of(runbooks: Vec<Runbook>) -> Self {
        let docs = runbooks.iter().map(documentation).collect();
        Self { runbooks, docs }
    }

    /// Runbooks with their documentation, in report order.
    pub fn runbooks(&self) -> impl Iterator<Item = (&Runbook, &Documentation)> {
        self.runbooks.iter().zip(&self.docs)
    }

    /// All codes, sorted, each once.
    #[must_use]
    pub fn codes(&self) -> Vec<&'static Code> {
        let mut codes: Vec<&Code> = self.checks().flat_map(|c| c.codes).collect();
        codes.sort_by_key(|c| c.id);
        codes.dedup_by_key(|c| c.id);
        codes
    }

    /// All fixes, sorted, each once.
    #[must_use]
    pub fn fixes(&self) -> Vec<&'static FixSpec> {
        let mut fixes: Vec<&FixSpec> = self.checks().flat_map(|c| c.fixes).collect();
        fixes.sort_by_key(|f| f.id);
        fixes.dedup_by_key(|f| f.id);
        fixes
    }

    /// All alert names, sorted, each once: those of the runbooks and the public ones.
    #[must_use]
    pub fn alerts(&self) -> Vec<AlertName<'_>> {
        let mut alerts: Vec<AlertName<'_>> = Vec::new();
        for (name, runbook) in self.documented() {
            match alerts.iter_mut().find(|a| is_same_alert(a.name, name)) {
                Some(alert) => alert.runbooks.push(runbook),
                None => alerts.push(AlertName { name, runbooks: vec![runbook], codes: Vec::new(), out_of_scope: None }),
            }
        }
        for public in alert::public() {
            if !alerts.iter().any(|a| is_same_alert(a.name, public.name)) {
                alerts.push(public);
            }
        }
        alerts.sort_by_key(|a| a.name);
        alerts
    }

    /// An alert by its name, regardless of case and separators.
    #[must_use]
    pub fn alert(&self, name: &str) -> Option<AlertName<'_>> {
        // not from the complete list: a payload names hundreds of alerts
        let mut named = self.documented().filter(|(own, _)| is_same_alert(own, name));
        let Some((own, first)) = named.next() else {
            return alert::public().find(|public| is_same_alert(public.name, name));
        };
        let runbooks = std::iter::once(first).chain(named.map(|(_, runbook)| runbook)).collect();
        Some(AlertName { name: own, runbooks, codes: Vec::new(), out_of_scope: None })
    }

    /// The alert names of the runbooks, each with the runbook. A site runbook takes precedence over a built-in one with the same alert.
    fn documented(&self) -> impl Iterator<Item = (&str, &str)> {
        let (built_in, own): (Vec<_>, Vec<_>) = self.runbooks().partition(|(r, _)| opsctl_runbooks::NAMES.contains(&r.id));
        let all = own.into_iter().chain(built_in);
        all.flat_map(|(runbook, doc)| doc.alerts().into_iter().map(move |name| (name, runbook.id)))
    }

    /// All links.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        links(&self.runbooks)
    }

    /// The runbook that a code belongs to.
    #[must_use]
    pub fn runbook_of(&self, code: &str) -> Option<(&Runbook, &Documentation)> {
        let id = code.split('.').next().unwrap_or_default();
        self.runbooks().find(|(r, _)| r.id == id)
    }

    /// The condition for a code with the limits in force.
    #[must_use]
    pub fn when(&self, code: &Code) -> String {
        let of_code = |r: &&Runbook| r.codes().any(|c| c.id == code.id);
        self.runbooks.iter().find(of_code).map_or_else(|| code.when.to_owned(), |r| r.when(code))
    }

    /// Looks up a name, case-insensitively.
    #[must_use]
    pub fn find(&self, word: &str) -> Option<Entry<'_>> {
        let same = |name: &str| name.eq_ignore_ascii_case(word);
        if let Some((runbook, doc)) = self.runbooks().find(|(r, _)| same(r.id)) {
            return Some(Entry::Runbook(runbook, doc));
        }
        if let Some(code) = self.codes().into_iter().find(|c| same(c.id)) {
            return Some(Entry::Code(code));
        }
        if let Some(fix) = self.fixes().into_iter().find(|f| same(f.id)) {
            return Some(Entry::Fix(fix));
        }
        let alert = self.alert(word)?;
        match (alert.out_of_scope, alert.runbooks.first()) {
            (Some(reason), _) => Some(Entry::OutOfScope(alert.name, reason)),
            (None, first) => self.runbooks().find(|(r, _)| Some(&r.id) == first).map(|(r, doc)| Entry::Alert(alert.name, r, doc)),
        }
    }

    /// Every name, for "did you mean".
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let runbooks = self.runbooks.iter().map(|r| r.id);
        let codes = self.codes().into_iter().map(|c| c.id);
        let fixes = self.fixes().into_iter().map(|f| f.id);
        let alerts = self.alerts().into_iter().map(|a| a.name);
        runbooks.chain(codes).chain(fixes).chain(alerts).collect()
    }

    fn checks(&self) -> impl Iterator<Item = &'static opsctl_core::model::CheckSpec> {
        self.runbooks.iter().flat_map(|r| &r.checks).map(|c| c.spec())
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}

/// The documentation of a runbook with the limits in force.
fn documentation(runbook: &Runbook) -> Documentation {
    let text = with_rows(runbook.doc, "Verdicts", &code_rows(runbook));
    Documentation::parse(text.as_deref().unwrap_or(runbook.doc))
}

/// The documentation with the rows of one table generated from the code; `None` without this table.
fn with_rows(text: &str, heading: &str, rows: &[Vec<String>]) -> Option<String> {
    let start = text.find(&format!("\n## {heading}\n"))?;
    let rule = start + text[start..].find("\n|---")? + 1;
    let first = rule + text[rule..].find('\n').map_or(0, |i| i + 1);
    let rest: String = text[first..].split_inclusive('\n').skip_while(|l| l.starts_with('|')).collect();
    let rows = rows.iter().map(|r| format!("| {} |\n", r.join(" | "))).collect::<Vec<_>>().concat();
    Some(format!("{}{rows}{rest}", &text[..first]))
}

/// Faults of runbook documentation: missing or misplaced sections, tables that differ from the code.
#[must_use]
pub fn problems(runbook: &Runbook, doc: &Documentation) -> Vec<String> {
    let mut problems = doc.problems();
    problems.extend(differences("Verdicts", &doc.table("Verdicts"), &code_rows(runbook)));
    problems.extend(differences("Fixes", &doc.table("Fixes"), &fix_rows(runbook)));
    problems.into_iter().map(|p| format!("{}/RUNBOOK.md: {p}", runbook.id)).collect()
}

fn code_rows(runbook: &Runbook) -> Vec<Vec<String>> {
    let severities = |c: &Code| c.severities.iter().map(ToString::to_string).collect::<Vec<_>>().join("/");
    let codes = runbook.checks.iter().flat_map(|c| c.spec().codes);
    once(codes.map(|c| vec![c.id.to_owned(), severities(c), runbook.when(c)]))
}

fn fix_rows(runbook: &Runbook) -> Vec<Vec<String>> {
    let fixes = runbook.checks.iter().flat_map(|c| c.spec().fixes);
    once(fixes.map(|f| vec![f.id.to_owned(), f.risk.to_string(), f.title.to_owned()]))
}

/// Several checks may report the same code or offer the same fix.
fn once(rows: impl Iterator<Item = Vec<String>>) -> Vec<Vec<String>> {
    let mut seen: Vec<Vec<String>> = Vec::new();
    for row in rows {
        if !seen.contains(&row) {
            seen.push(row);
        }
    }
    seen
}

/// Rows that only one side has.
fn differences(section: &str, doc: &[Vec<String>], code: &[Vec<String>]) -> Vec<String> {
    let line = |row: &[String]| format!("| {} |", row.join(" | "));
    let missing = code.iter().filter(|r| !doc.contains(r)).map(|r| format!("{section} lacks the row {}", line(r)));
    let extra =
        doc.iter().filter(|r| !code.contains(r)).map(|r| format!("{section} has a row that is not in the code: {}", line(r)));
    missing.chain(extra).collect()
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::KeyKind;

    use super::*;

    /// `OPSCTL_REGENERATE=1` rewrites the tables of all RUNBOOK.md files: review the diff before committing it.
    #[test]
    fn runbook_documentation_matches_the_code() {
        if std::env::var_os("OPSCTL_REGENERATE").is_some() {
            for (runbook, _) in Catalog::new().runbooks() {
                let path = format!("{}/runbooks/{}/RUNBOOK.md", env!("CARGO_MANIFEST_DIR"), runbook.id);
                let mut text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
                for (heading, rows) in [("Verdicts", code_rows(runbook)), ("Fixes", fix_rows(runbook))] {
                    // documentation of a runbook without fixes has a sentence instead of the table
                    if !rows.is_empty() {
                        text = with_rows(&text, heading, &rows).unwrap_or_else(|| panic!("no table {heading} in {path}"));
                    }
                }
                std::fs::write(&path, text).unwrap_or_else(|e| panic!("{path}: {e}"));
            }
            return;
        }
        let catalog = Catalog::new();
        let problems: Vec<String> = catalog.runbooks().flat_map(|(r, _)| problems(r, &Documentation::parse(r.doc))).collect();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn codes_and_fixes_are_stable() {
        let catalog = Catalog::new();
        let severities = |c: &Code| c.severities.iter().map(ToString::to_string).collect::<Vec<_>>().join("/");
        let codes = catalog.codes().into_iter().map(|c| format!("{} {}", c.id, severities(c)));
        let fixes = catalog.fixes().into_iter().map(|f| format!("{} {}", f.id, f.risk));
        insta::assert_snapshot!(codes.chain([String::new()]).chain(fixes).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn every_code_belongs_to_its_runbook() {
        for (runbook, _) in Catalog::new().runbooks() {
            for spec in runbook.checks.iter().map(|c| c.spec()) {
                let own = |id: &str| id.strip_prefix(runbook.id).is_some_and(|rest| rest.starts_with('.'));
                assert!(own(spec.id), "{}", spec.id);
                for code in spec.codes {
                    assert!(own(code.id) && !code.severities.is_empty() && !code.hint.is_empty(), "{}", code.id);
                }
            }
        }
    }

    #[test]
    fn links_name_existing_codes_and_are_acyclic() {
        let catalog = Catalog::new();
        let known: Vec<&str> = catalog.codes().iter().map(|c| c.id).collect();
        let links = catalog.links();
        for link in &links {
            assert!(known.contains(&link.cause) && known.contains(&link.effect), "{} -> {}", link.cause, link.effect);
        }
        // an application and the server it needs can fail in the same way, but never are the same object
        let of_needs = |l: &Link| {
            l.tie == KeyKind::Requirement
                || (l.tie == KeyKind::Server && ["container.", "systemd."].iter().any(|r| l.effect.starts_with(r)))
        };
        // a path longer than the number of codes contains a cycle
        for start in &known {
            let mut reached = vec![*start];
            for _ in 0..known.len() {
                reached = links.iter().filter(|l| reached.contains(&l.cause) && !of_needs(l)).map(|l| l.effect).collect();
                assert!(!reached.contains(start), "{start} causes itself");
            }
        }
    }

    #[test]
    fn every_runbook_directory_is_registered() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks");
        let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{e}"));
        let mut missing = Vec::new();
        for entry in entries.filter_map(Result::ok).filter(|e| e.path().join("mod.rs").exists()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "shared" && !opsctl_runbooks::NAMES.contains(&name.as_str()) {
                missing.push(format!("add to runbooks/lib.rs:\n    pub mod {name};\n    {name},   (in registry!)"));
            }
        }
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        assert!(opsctl_runbooks::NAMES.is_sorted(), "keep the names in registry! sorted");
    }

    #[test]
    fn differences_in_both_directions() {
        let row = |s: &str| vec![s.to_owned()];
        let found = differences("Fixes", &[row("a"), row("b")], &[row("b"), row("c")]);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
