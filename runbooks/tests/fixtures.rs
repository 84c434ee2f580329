//! Runs every `runbooks/*/fixtures/*.json`: recorded evidence with the exact expected findings.
//!
//! `OPSCTL_REGENERATE=1 cargo test -p opsctl-runbooks --test fixtures` updates the files with differing findings:
//! review the diff before you commit it.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;

use opsctl_core::model::{EvidenceText, Judged, Object};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    about: String,
    check: String,
    target: Object,
    taken_at: jiff::Timestamp,
    evidence: serde_json::Value,
    #[serde(default)]
    expect: Vec<Expected>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skip: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    code: String,
    severity: String,
    message: String,
}

/// The file of a fixture: indented by one space.
fn pretty(fixture: &Fixture) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    fixture.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).unwrap();
    text.push(b'\n');
    text
}

#[test]
fn recorded_evidence_gives_the_expected_findings() {
    let runbooks = opsctl_runbooks::all(&opsctl_runbooks::Settings::default());
    let checks: Vec<_> = runbooks.iter().flat_map(|r| &r.checks).collect();
    let mut problems = Vec::new();
    let (mut covered, mut healthy) = (BTreeSet::new(), BTreeSet::new());
    for name in opsctl_runbooks::NAMES {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("fixtures");
        let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files {
            let case = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
            let text = std::fs::read_to_string(&file).unwrap();
            let f: Fixture = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{case}: {e}"));
            let Some(check) = checks.iter().find(|c| c.spec().id == f.check) else {
                problems.push(format!("{case}: there is no check {}", f.check));
                continue;
            };
            covered.insert(f.check.clone());
            if f.expect.is_empty() {
                healthy.insert(f.check.clone());
            }
            let judged = Judged { target: &f.target, taken_at: f.taken_at };
            let evidence = EvidenceText::of(&f.evidence).unwrap();
            let judgement = check.judge(&judged, &evidence).unwrap_or_else(|e| panic!("{case}: {e}"));
            let got: Vec<Expected> = judgement
                .findings
                .iter()
                .map(|x| Expected { code: x.code.clone(), severity: x.severity.to_string(), message: x.message.clone() })
                .collect();
            let same = got == f.expect && judgement.gaps == f.gaps && judgement.skip == f.skip;
            if !same && std::env::var_os("OPSCTL_REGENERATE").is_some() {
                let new = Fixture { expect: got, gaps: judgement.gaps.clone(), skip: judgement.skip.clone(), ..f };
                std::fs::write(&file, pretty(&new)).unwrap();
                continue;
            }
            if !same {
                problems.push(format!(
                    "{case} ({}):\n  expected {:#?} gaps {:?} skip {:?}\n  got      {got:#?} gaps {:?} skip {:?}",
                    f.about, f.expect, f.gaps, f.skip, judgement.gaps, judgement.skip
                ));
            }
            // every reported code and fix is declared in the spec, and every offered fix can be planned or refused
            for finding in &judgement.findings {
                if !check.spec().codes.iter().any(|c| c.id == finding.code) {
                    problems.push(format!("{case}: {} is not a code of {}", finding.code, f.check));
                }
                for fix in &finding.fixes {
                    if !check.spec().fixes.iter().any(|s| s.id == fix) {
                        problems.push(format!("{case}: {fix} is not a fix of {}", f.check));
                    }
                    let _ = check.plan(fix, finding, &judged, &evidence).unwrap();
                }
            }
        }
    }
    for check in checks {
        if !covered.contains(check.spec().id) {
            problems.push(format!("{} has no fixture", check.spec().id));
        } else if !healthy.contains(check.spec().id) {
            problems.push(format!("{} has no fixture without a finding", check.spec().id));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
