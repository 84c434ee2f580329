//! The report of one run of opsctl. Findings are named as in its output: `container.oom-killed container:api`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use opsctl_core::model::{CheckRow, FixOffer, Report, Reported, Severity};

use super::asserted::{Asserted, add_row};

/// One run of opsctl, without the findings on the machine from before the test.
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
    /// The fix of the run.
    fix: Option<String>,
    /// Assertions on the run; `None` for a replay, so that assertions are not counted twice.
    asserted: Option<RefCell<Asserted>>,
}

impl Run {
    #[track_caller]
    pub(super) fn of(command: &mut Command, baseline: &BTreeSet<String>) -> Self {
        let started = Instant::now();
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self::ended(&output, started.elapsed(), baseline)
    }

    /// A run that has exited.
    pub(super) fn ended(output: &Output, took: Duration, baseline: &BTreeSet<String>) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            report: serde_json::from_str(&stdout).ok(),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took,
            baseline: baseline.clone(),
            fix: None,
            asserted: Some(RefCell::default()),
        }
    }

    /// The run of a fix.
    pub(super) fn applying(self, fix: &str) -> Self {
        Self { fix: Some(fix.to_owned()), ..self }
    }

    /// A replay, on which only the assertions on the original are repeated.
    #[track_caller]
    pub(super) fn replay(command: &mut Command, baseline: &BTreeSet<String>) -> Self {
        Self { asserted: None, ..Self::of(command, baseline) }
    }

    /// Assertions so far.
    pub(super) fn asserted(&self) -> Asserted {
        self.asserted.as_ref().map(|a| a.borrow().clone()).unwrap_or_default()
    }

    /// Keeps an assertion, and fails if it does not hold.
    #[track_caller]
    fn assert(&self, assertion: &str, held: bool, of: &str, keep: impl FnOnce(&mut Asserted), message: impl FnOnce() -> String) {
        if let Some(asserted) = &self.asserted {
            add_row(assertion, held, of);
            keep(&mut asserted.borrow_mut());
        }
        assert!(held, "{}: {}", message(), self.all());
    }

    /// The whole report, for the message of a failed assertion.
    fn all(&self) -> String {
        let Some(report) = &self.report else {
            return format!("no report; exit {}\n{}{}", self.code, self.stdout, self.stderr);
        };
        let by_id = |id: &str| report.findings.iter().find(|f| f.id == id).map(name).unwrap_or_default();
        let findings = report.findings.iter().map(|f| {
            let because = f.explained_by.as_deref().map(|c| format!(" (explained by {})", by_id(c))).unwrap_or_default();
            let fixes = if f.fixes.is_empty() { String::new() } else { format!(" [{}]", f.fixes.join(" ")) };
            let baseline = if self.baseline.contains(&name(f)) { " (from before the test)" } else { "" };
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

    /// Findings since the test began; empty if opsctl printed no report.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Reported> {
        self.report.iter().flat_map(|r| &r.findings).filter(|f| !self.baseline.contains(&name(f)))
    }

    /// Findings that need attention, without those of severity info.
    fn open(&self) -> impl Iterator<Item = &Reported> {
        self.findings().filter(|f| f.severity > Severity::Info)
    }

    fn find(&self, expected: &str) -> Option<&Reported> {
        self.findings().find(|f| name(f) == expected)
    }

    /// The finding of this name, which must exist.
    #[track_caller]
    pub(crate) fn finding(&self, expected: &str) -> &Reported {
        self.must(&[expected]);
        self.find(expected).unwrap_or_else(|| panic!("{expected} is missing: {}", self.all()))
    }

    /// Whether a finding of this name exists.
    #[track_caller]
    pub(crate) fn has(&self, expected: &str) -> bool {
        self.report();
        self.find(expected).is_some()
    }

    /// Asserts that all of these findings exist.
    #[track_caller]
    pub(crate) fn must(&self, expected: &[&str]) -> &Self {
        for finding in expected {
            let keep = |a: &mut Asserted| _ = a.must.insert((*finding).to_owned());
            self.assert("must", self.find(finding).is_some(), finding, keep, || format!("{finding} is missing"));
        }
        self
    }

    /// Asserts that none of these codes is reported with a warning or worse, for any subject; `memory.` stands for every code of
    /// that runbook.
    #[track_caller]
    pub(crate) fn must_not(&self, codes: &[&str]) -> &Self {
        self.report();
        for code in codes {
            let unwanted = self.open().find(|f| f.code == *code || (code.ends_with('.') && f.code.starts_with(code)));
            let keep = |a: &mut Asserted| _ = a.must_not.insert((*code).to_owned());
            let message = || format!("{} must not be there", unwanted.map(name).unwrap_or_default());
            self.assert("not", unwanted.is_none(), code, keep, message);
        }
        self
    }

    /// Asserts that exactly these are the root causes; the exit code is that of the worst of them.
    #[track_caller]
    pub(crate) fn roots(&self, expected: &[&str]) -> &Self {
        self.report();
        let found: BTreeSet<String> = self.open().filter(|f| f.explained_by.is_none()).map(name).collect();
        let expected: BTreeSet<String> = expected.iter().map(|w| (*w).to_owned()).collect();
        let keep = |a: &mut Asserted| a.roots = Some(expected.clone());
        let message = || format!("the roots are {found:?}, not {expected:?}");
        self.assert("roots", found == expected, &expected.iter().cloned().collect::<Vec<_>>().join(", "), keep, message);
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

    /// Asserts that one finding directly explains another.
    #[track_caller]
    pub(crate) fn explains(&self, cause: &str, effect: &str) -> &Self {
        self.must(&[cause, effect]);
        let held = self.find(cause).is_some_and(|c| self.find(effect).is_some_and(|e| e.explained_by.as_ref() == Some(&c.id)));
        let keep = |a: &mut Asserted| _ = a.explains.insert((cause.to_owned(), effect.to_owned()));
        self.assert("explains", held, effect, keep, || format!("{effect} is not explained by {cause}"));
        self
    }

    /// Cause and effect of every finding with a cause.
    pub(super) fn edges(&self) -> Vec<super::recordings::Edge> {
        let cause = |f: &Reported| self.report().findings.iter().find(|c| Some(&c.id) == f.explained_by.as_ref()).map(name);
        self.report().findings.iter().filter_map(|f| Some((cause(f)?, name(f)))).collect()
    }

    /// Asserts that a finding is explained by another one, directly or not.
    #[track_caller]
    pub(crate) fn traces(&self, root: &str, effect: &str) -> &Self {
        self.must(&[root, effect]);
        let cause = |f: &&Reported| self.findings().find(|c| Some(&c.id) == f.explained_by.as_ref());
        let held = std::iter::successors(self.find(effect), cause).skip(1).any(|f| name(f) == root);
        let keep = |a: &mut Asserted| _ = a.traces.insert((root.to_owned(), effect.to_owned()));
        self.assert("explains", held, effect, keep, || format!("{effect} is not explained by {root}, directly or not"));
        self
    }

    /// Asserts that message and evidence of a finding contain each of these texts.
    #[track_caller]
    pub(crate) fn mentions(&self, expected: &str, words: &[&str]) -> &Self {
        let finding = self.finding(expected);
        let text = format!("{}{}\n{}", finding.message, evidence(finding), finding.hint);
        for word in words {
            let keep = |a: &mut Asserted| _ = a.says.entry(expected.to_owned()).or_default().insert((*word).to_owned());
            self.assert("says", text.contains(word), word, keep, || format!("{expected} does not contain {word:?}"));
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

    /// Asserts the verdict of a check.
    #[track_caller]
    pub(crate) fn verdict(&self, check: &str, target: &str, expected: &str) -> &Self {
        let row = self.check(check, target);
        let keep = |a: &mut Asserted| _ = a.verdicts.insert((check.to_owned(), target.to_owned(), expected.to_owned()));
        self.assert("must", row.verdict == expected, check, keep, || format!("{check} {target} is not {expected}"));
        self
    }

    /// The offer of a fix, refused or not.
    #[track_caller]
    pub(crate) fn offer(&self, fix: &str, subject: &str) -> Option<&FixOffer> {
        self.report().fixes.iter().find(|o| o.id == fix && o.subject == subject)
    }

    /// Asserts that a fix that would not help is not offered.
    #[track_caller]
    pub(crate) fn offers_no(&self, fix: &str, subject: &str) -> &Self {
        let held = self.offer(fix, subject).is_none();
        let keep = |a: &mut Asserted| _ = a.not_offered.insert((fix.to_owned(), subject.to_owned()));
        self.assert("not", held, &format!("offer of {fix}"), keep, || format!("{fix} of {subject} is offered"));
        self
    }

    /// Asserts the exit code of a command.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        if let Some(fix) = &self.fix {
            add_row(&format!("fix {code}"), self.code == code, fix);
        }
        assert!(self.code == code, "the exit code should be {code}: {}", self.all());
        self
    }
}

fn name(finding: &Reported) -> String {
    format!("{} {}", finding.code, finding.subject)
}

/// Every piece of evidence, each on its own line, after a line break.
fn evidence(finding: &Reported) -> String {
    finding.evidence.iter().map(|e| ["\n", &e.label, ": ", &e.value].concat()).collect()
}
