//! Logs of real failures, and ordinary lines, in `tests/logs`.
//!
//! A failure begins with comments: `# source:`, `# line:` (a part of the line that gives the reason), `# reason:` (its kind, or
//! `none`) and `# object:` (or `-`). `# open:` marks a failure with a line that is not found yet.
//! `# completed:` marks excerpts with last lines that the stored copy of the source lacks.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "the corpus is read by tests only")]

use std::path::{Path, PathBuf};

use super::{Level, LogLine, errors, of_failure};

fn files(directory: &str) -> Vec<(String, Vec<String>)> {
    let directory: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/logs").join(directory);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut found: Vec<(String, Vec<String>)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, text.split('\n').map(str::to_owned).collect())
        })
        .collect();
    found.sort();
    found
}

fn log(lines: &[String]) -> Vec<LogLine> {
    lines.iter().map(|text| LogLine { at: None, text: text.clone() }).collect()
}

/// A log with a last line without end is read without an empty line behind it.
fn without_end(mut lines: Vec<String>) -> Vec<String> {
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn mismatch(lines: &[String]) -> Option<String> {
    let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(&format!("# {name}: ")));
    let (Some(line), Some(kind), Some(object)) = (header("line"), header("reason"), header("object")) else {
        return Some("the comments are incomplete".to_owned());
    };
    let begin = lines.iter().position(|line| !line.starts_with("# ")).unwrap_or_default();
    let found = of_failure(&log(&lines[begin..]));
    let first = found.first().cloned().unwrap_or_default();
    let reason = first.reason();
    let found_kind = reason.as_ref().map_or_else(|| "none".to_owned(), |r| format!("{:?}", r.kind));
    let found_object = reason.and_then(|r| r.object).unwrap_or_else(|| "-".to_owned());
    let is_right = first.text.contains(line) && found_kind == kind && found_object == object;
    (!is_right).then(|| format!("expected {kind} {object}: {line}\n    found {found_kind} {found_object}: {}", first.text))
}

#[test]
fn line_and_reason_of_real_failures() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, lines) in files("failures") {
        let lines = without_end(lines);
        let is_open = lines.iter().any(|line| line.starts_with("# open: "));
        count += 1;
        match mismatch(&lines) {
            Some(text) if !is_open => wrong.push(format!("{name}: {text}")),
            None if is_open => wrong.push(format!("{name}: is right, remove `# open:`")),
            Some(_) | None => {}
        }
    }
    assert!(count >= 180, "{count} failures");
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn ordinary_lines_are_no_errors() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, lines) in files("ordinary") {
        let lines = log(&without_end(lines));
        count += lines.len();
        let single = lines.iter().flat_map(|line| errors(&[line]));
        let all: Vec<&LogLine> = lines.iter().collect();
        let found = single.chain(errors(&all)).filter(|entry| entry.level >= Level::Error);
        wrong.extend(found.map(|entry| format!("{name}: {:?} {:?} {}", entry.level, entry.reason(), entry.text)));
    }
    assert!(count >= 150, "{count} lines");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
