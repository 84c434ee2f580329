//! What opsctl said. Findings are named as people read them: `container.oom-killed container:api`.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use opsctl_core::model::{CheckRow, Finding, FixOffer, Report, Severity};

/// One run of opsctl, without what was wrong with the machine before the test.
pub(crate) struct Run {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output; control characters and all.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// Wall time.
    pub(crate) took: Duration,
    report: Option<Report>,
    baseline: BTreeSet<String>,
}

impl Run {
    #[track_caller]
    pub(super) fn of(command: &mut Command, baseline: &BTreeSet<String>) -> Self {
        let started = Instant::now();
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            report: serde_json::from_str(&stdout).ok(),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: started.elapsed(),
            baseline: baseline.clone(),
        }
    }

    /// Everything, for the message of a failed assertion.
    fn all(&self) -> String {
        let Some(report) = &self.report else {
            return format!("no report; exit {}\n{}{}", self.code, self.stdout, self.stderr);
        };
        let by_id = |id: &str| report.findings.iter().find(|f| f.id == id).map(name).unwrap_or_default();
        let findings = report.findings.iter().map(|f| {
            let because = f.explained_by.as_deref().map(|c| format!(" (explained by {})", by_id(c))).unwrap_or_default();
            let fixes = if f.fixes.is_empty() { String::new() } else { format!(" [{}]", f.fixes.join(" ")) };
            let baseline = if self.baseline.contains(&name(f)) { " (was so before)" } else { "" };
            let evidence = evidence(f).replace('\n', "\n    ");
            format!("{} {}{because}{fixes}{baseline}: {}{evidence}", f.severity, name(f), f.message)
        });
        let gaps = report
            .checks
            .iter()
            .filter_map(|c| c.reason.as_ref().map(|why| format!("{} {} {}: {why}", c.verdict, c.check, c.target)));
        let lines: Vec<String> = findings.chain(gaps).collect();
        format!("exit {} after {:?}\n{}\n{}", self.code, self.took, lines.join("\n"), self.stderr)
    }

    /// The report; the test fails when opsctl printed none.
    #[track_caller]
    pub(crate) fn report(&self) -> &Report {
        self.report.as_ref().unwrap_or_else(|| panic!("{}", self.all()))
    }

    /// What is wrong since the test began; nothing when opsctl printed no report.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.report.iter().flat_map(|r| &r.findings).filter(|f| !self.baseline.contains(&name(f)))
    }

    /// What needs attention: what is merely worth knowing left out.
    fn open(&self) -> impl Iterator<Item = &Finding> {
        self.findings().filter(|f| f.severity > Severity::Info)
    }

    /// The finding of this name, which must be there.
    #[track_caller]
    pub(crate) fn finding(&self, wanted: &str) -> &Finding {
        self.findings().find(|f| name(f) == wanted).unwrap_or_else(|| panic!("{wanted} is missing: {}", self.all()))
    }

    /// Whether a finding of this name is there.
    #[track_caller]
    pub(crate) fn has(&self, wanted: &str) -> bool {
        self.report();
        self.findings().any(|f| name(f) == wanted)
    }

    /// All of these are there.
    #[track_caller]
    pub(crate) fn must(&self, wanted: &[&str]) -> &Self {
        for wanted in wanted {
            self.finding(wanted);
        }
        self
    }

    /// None of these codes is there with a warning or worse, for any subject; `memory.` stands for every code of that runbook.
    #[track_caller]
    pub(crate) fn must_not(&self, codes: &[&str]) -> &Self {
        self.report();
        for finding in self.open() {
            let unwanted = |code: &&&str| finding.code == **code || (code.ends_with('.') && finding.code.starts_with(**code));
            assert!(!codes.iter().any(|code| unwanted(&code)), "{} must not be there: {}", name(finding), self.all());
        }
        self
    }

    /// Exactly these are the root causes; the exit code is that of the worst of them.
    #[track_caller]
    pub(crate) fn roots(&self, wanted: &[&str]) -> &Self {
        self.report();
        let found: BTreeSet<String> = self.open().filter(|f| f.explained_by.is_none()).map(name).collect();
        let wanted: BTreeSet<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
        assert!(found == wanted, "the roots are {found:?}, not {wanted:?}: {}", self.all());
        if self.baseline.is_empty() {
            let code = match self.open().map(|f| f.severity).max() {
                None | Some(Severity::Info) => 0,
                Some(Severity::Warn) => 1,
                Some(Severity::Crit) => 2,
            };
            assert!(self.code == code, "the exit code should be {code}: {}", self.all());
        }
        self
    }

    /// One finding directly explains another.
    #[track_caller]
    pub(crate) fn explains(&self, cause: &str, effect: &str) -> &Self {
        let (cause, effect) = (self.finding(cause), self.finding(effect));
        assert!(effect.explained_by.as_ref() == Some(&cause.id), "{} is not explained: {}", name(effect), self.all());
        self
    }

    /// What one finding says, message and evidence, contains each of these.
    #[track_caller]
    pub(crate) fn says(&self, wanted: &str, words: &[&str]) -> &Self {
        let finding = self.finding(wanted);
        let text = format!("{}{}\n{}", finding.message, evidence(finding), finding.hint);
        for word in words {
            assert!(text.contains(word), "{wanted} does not say {word:?}: {}", self.all());
        }
        self
    }

    /// The row of a check.
    #[track_caller]
    pub(crate) fn check(&self, check: &str, target: &str) -> &CheckRow {
        let rows = &self.report().checks;
        rows.iter()
            .find(|c| c.check == check && c.target == target)
            .unwrap_or_else(|| panic!("no row {check} {target}: {}", self.all()))
    }

    /// The offer of a fix, refused or not.
    #[track_caller]
    pub(crate) fn offer(&self, fix: &str, subject: &str) -> Option<&FixOffer> {
        self.report().fixes.iter().find(|o| o.id == fix && o.subject == subject)
    }

    /// The exit code of a command.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert!(self.code == code, "the exit code should be {code}: {}", self.all());
        self
    }
}

fn name(finding: &Finding) -> String {
    format!("{} {}", finding.code, finding.subject)
}

/// Every piece of evidence, each on a line of its own after a line end.
fn evidence(finding: &Finding) -> String {
    finding.evidence.iter().map(|e| ["\n", &e.label, ": ", &e.value].concat()).collect()
}
