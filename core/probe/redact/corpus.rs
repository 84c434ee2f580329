//! Texts with secrets, and texts that only look like secrets, each with the expected result.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Redactor;

const SECRETS: &str = include_str!("corpus/secrets.txt");
const INNOCENTS: &str = include_str!("corpus/innocents.txt");

/// Prevents repository scanners from reporting the sample tokens.
const SPLIT: &str = "<+>";

/// Separates the strings of an array.
const ELEMENT: &str = "\\x1f";

struct Case {
    name: String,
    text: String,
    expected: String,
}

fn cases(file: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for record in format!("\n{file}").split("\n=== ").skip(1) {
        let (name, body) = record.split_once('\n').unwrap_or((record, ""));
        let body = body.replace(SPLIT, "");
        let (text, expected) = body.split_once("\n--->\n").unwrap_or((&body, &body));
        let trim = |t: &str| t.trim_end_matches('\n').to_owned();
        cases.push(Case { name: name.to_owned(), text: trim(text), expected: trim(expected) });
    }
    cases
}

/// A case as evidence holds it: a string, or an array of strings.
fn scrubbed(redactor: &Redactor, text: &str) -> String {
    if !text.contains(ELEMENT) {
        return redactor.scrub(text);
    }
    let mut array: serde_json::Value = text.split(ELEMENT).collect();
    redactor.scrub_json(&mut array);
    let strings = array.as_array().into_iter().flatten().filter_map(|s| s.as_str());
    strings.collect::<Vec<_>>().join(ELEMENT)
}

#[track_caller]
fn check(cases: &[Case]) {
    let mut wrong = String::new();
    let mut count = 0;
    for case in cases {
        let redactor = Redactor::default();
        let found = scrubbed(&redactor, &case.text);
        let twice = scrubbed(&redactor, &found);
        if found != case.expected || twice != found {
            count += 1;
            // writing to a string cannot fail
            let _ = writeln!(wrong, "=== {}\n{}\n--- expected\n{}\n--- found\n{found}", case.name, case.text, case.expected);
            if twice != found {
                let _ = writeln!(wrong, "--- found after a second run\n{twice}");
            }
        }
    }
    assert!(wrong.is_empty(), "{count} of {} cases are wrong:\n{wrong}", cases.len());
}

#[test]
fn secret_shapes_are_removed() {
    let cases = cases(SECRETS);
    assert!(cases.len() >= 100, "{}", cases.len());
    check(&cases);
}

#[test]
fn innocent_look_alikes_stay() {
    let cases = cases(INNOCENTS);
    assert!(cases.len() >= 100, "{}", cases.len());
    check(&cases);
}

#[test]
fn case_names_are_unique() {
    let mut names: Vec<String> = [SECRETS, INNOCENTS].into_iter().flat_map(|f| cases(f).into_iter().map(|c| c.name)).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// Every JSON file below a directory.
fn json_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok).map(|e| e.path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|p| p.is_dir());
    let files = files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "json"));
    files.chain(directories.iter().flat_map(|d| json_files(d))).collect()
}

#[test]
fn recorded_evidence_stays() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = [json_files(&top.join("runbooks")), json_files(&top.join("tests/recordings"))].concat();
    assert!(files.len() > 1000, "{}", files.len());
    for file in files {
        let text = std::fs::read(&file).unwrap_or_default();
        let recorded: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let mut scrubbed = recorded.clone();
        Redactor::default().scrub_json(&mut scrubbed);
        if let Some(wrong) = first_difference(&recorded, &scrubbed) {
            panic!("{}: {wrong}", file.display());
        }
    }
}

fn first_difference(one: &serde_json::Value, other: &serde_json::Value) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (one, other) {
        (Array(a), Array(b)) if a.len() == b.len() => a.iter().zip(b).find_map(|(a, b)| first_difference(a, b)),
        (Object(a), Object(b)) => a.iter().find_map(|(name, a)| match b.get(name) {
            Some(b) => first_difference(a, b),
            None => Some(format!("the key {name} is missing")),
        }),
        (a, b) => (a != b).then(|| format!("{a} became {b}")),
    }
}
