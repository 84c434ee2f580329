//! `explained_by`: validation of codes, and rejection of cycles.

use toml::Spanned;

use super::raw::File;
use crate::config::names::did_you_mean;
use crate::config::problem::ValidationError;
use crate::config::valid::KnownNames;

/// Subcommands and other reserved words; a test of the command line keeps the list complete.
pub const RESERVED_NAMES: &[&str] = &[
    "audit",
    "bootstrap",
    "changes",
    "config",
    "diagnose",
    "discovery",
    "explain",
    "fix",
    "generate",
    "help",
    "list",
    "listen",
    "note",
    "record",
    "report",
    "respond",
    "ssl",
    "targets",
    "undo",
    "waive",
];

/// The names that a file may refer to.
pub(super) struct Names<'a> {
    known: &'a KnownNames,
    /// Codes of all files.
    own: Vec<String>,
}

impl<'a> Names<'a> {
    pub(super) fn new(known: &'a KnownNames) -> Self {
        Self { known, own: Vec::new() }
    }

    /// Adds the codes of all files; returns conflicts between files, one list per file.
    pub(super) fn learn<'f>(&mut self, files: impl Iterator<Item = &'f File> + Clone) -> Vec<Vec<ValidationError>> {
        let mut seen: Vec<&str> = Vec::new();
        let mut problems = Vec::new();
        for file in files.clone() {
            let name = &file.runbook.name;
            let mut wrong = Vec::new();
            if seen.contains(&name.get_ref().as_str()) {
                let why = format!("`name` in [runbook]: another file has a runbook called `{}`", name.get_ref());
                wrong.push(ValidationError::new(name.span(), why));
            }
            seen.push(name.get_ref());
            problems.push(wrong);
            self.own.extend(file.check.iter().map(|c| code(name.get_ref(), c.name.get_ref())));
        }
        let edges: Vec<(String, String)> = files.clone().flat_map(edges_of).map(|(effect, cause, _)| (effect, cause)).collect();
        for (file, wrong) in files.zip(&mut problems) {
            for (effect, cause, entry) in edges_of(file) {
                if is_reachable(&edges, &cause, &effect) {
                    let why = format!("`explained_by` in [[check]]: `{effect}` would cause itself");
                    wrong.push(ValidationError::new(entry.span(), why));
                }
            }
        }
        problems
    }

    /// Whether a name is a built-in runbook or a command.
    pub(super) fn is_reserved(&self, name: &str) -> bool {
        RESERVED_NAMES.contains(&name) || self.known.checks.iter().any(|c| c == name)
    }

    /// An entry of `explained_by`: the code, and the name of the subject.
    pub(super) fn cause(&self, entry: &Spanned<String>) -> Result<(String, String), ValidationError> {
        let problem = |why: String| ValidationError::new(entry.span(), format!("`explained_by` in [[check]]: {why}"));
        let (code, name) = split(entry.get_ref());
        if let Some(own) = self.own.iter().find(|c| *c == code) {
            let runbook = own.split('.').next().unwrap_or_default();
            return match name {
                None => Ok((code.to_owned(), runbook.to_owned())),
                Some(name) if name == runbook => Ok((code.to_owned(), runbook.to_owned())),
                Some(_) => Err(problem(format!("`{code}` always refers to {runbook}; remove the name"))),
            };
        }
        if !self.known.codes.iter().any(|c| c == code) {
            let all = self.known.codes.iter().chain(&self.own).map(String::as_str);
            let hint = match did_you_mean(code, all) {
                hint if hint.is_empty() => "; `opsctl list codes` shows all".to_owned(),
                hint => hint,
            };
            return Err(problem(format!("no finding has the code `{code}`{hint}")));
        }
        match name {
            Some(name) => Ok((code.to_owned(), name.to_owned())),
            None if self.known.host_codes.iter().any(|c| c == code) => Ok((code.to_owned(), "host".to_owned())),
            None => Err(problem(format!("`{code}` needs the name of its subject: `{code} NAME`, as listed by `opsctl targets`"))),
        }
    }
}

/// The code of a check.
pub(super) fn code(runbook: &str, check: &str) -> String {
    format!("{runbook}.{check}")
}

fn split(entry: &str) -> (&str, Option<&str>) {
    let (code, name) = entry.trim().split_once(char::is_whitespace).unwrap_or((entry.trim(), ""));
    (code, Some(name.trim()).filter(|n| !n.is_empty()))
}

/// Effect, cause, and the entry of the file.
fn edges_of(file: &File) -> impl Iterator<Item = (String, String, &Spanned<String>)> {
    file.check.iter().flat_map(|check| {
        let effect = code(file.runbook.name.get_ref(), check.name.get_ref());
        check.explained_by.iter().map(move |e| (effect.clone(), split(e.get_ref()).0.to_owned(), e))
    })
}

/// Whether `to` is reachable from `from` along causes.
fn is_reachable(edges: &[(String, String)], from: &str, to: &str) -> bool {
    let mut reached = vec![from];
    let mut at = 0;
    while let Some(here) = reached.get(at).copied() {
        if here == to {
            return true;
        }
        for (_, cause) in edges.iter().filter(|(effect, _)| effect == here) {
            if !reached.contains(&cause.as_str()) {
                reached.push(cause);
            }
        }
        at += 1;
    }
    false
}
