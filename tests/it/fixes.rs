//! The tables of `docs/fixes.md`: for every fix the reasons that permit and refuse it, its effect and its condition.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use opsctl::catalog::Catalog;
use opsctl_core::model::Risk;

/// Minimum number of permitted cases, and of cases in which the fix would be wrong.
const MIN_CASES: usize = 20;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the table with this header in `docs/fixes.md`.
fn table(header: &[&str]) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/fixes.md")).unwrap();
    let lines = text.lines().skip_while(|line| cells(line) != header);
    let rows: Vec<Vec<String>> = lines.skip(2).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert!(!rows.is_empty(), "docs/fixes.md has no table {header:?}");
    rows
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect()
}

fn unquoted(cell: &str) -> &str {
    cell.trim_matches('`')
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|x| x == "rs") {
            found.push(entry);
        }
    }
}

/// The code of the runbooks and of the program without its tests, and all of it with them.
fn code() -> (String, String) {
    let mut files = Vec::new();
    for directory in ["runbooks", "src", "tests"] {
        sources(&root().join(directory), &mut files);
    }
    let (mut product, mut all) = (String::new(), String::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let is_test = file.iter().any(|part| part == "tests") || file.ends_with("tests.rs");
        if !is_test {
            product.push_str(text.find("#[cfg(test)]\nmod tests").map_or(text.as_str(), |end| &text[..end]));
        }
        all.push_str(&text);
    }
    (product, all)
}

#[test]
fn every_fix_has_its_reasons_effect_and_condition() {
    let catalog = Catalog::new();
    let fixes: BTreeSet<&str> = catalog.fixes().iter().map(|f| f.id).collect();
    let (reasons, effects) = (table(&["fix", "reason found", "result", "test"]), table(&["fix", "effect", "condition"]));
    for rows in [&reasons, &effects] {
        let listed: BTreeSet<&str> = rows.iter().map(|row| unquoted(&row[0])).collect();
        assert_eq!(listed, fixes, "the fixes of the table, and of the catalog");
    }
    let is_planned = |row: &&Vec<String>| row[2].starts_with("planned");
    for fix in catalog.fixes().into_iter().filter(|f| f.risk < Risk::R4) {
        let permitted = reasons.iter().filter(is_planned).any(|row| unquoted(&row[0]) == fix.id);
        assert!(permitted, "{} has no reason that permits it", fix.id);
    }
    let planned = reasons.iter().filter(is_planned).count();
    assert!(planned >= MIN_CASES && reasons.len() - planned >= MIN_CASES, "{planned} of {} cases are planned", reasons.len());
}

#[test]
fn every_reason_has_a_text_of_the_program_and_a_test() {
    let (product, all) = code();
    for row in table(&["fix", "reason found", "result", "test"]) {
        let [fix, _, result, test] = &row[..] else { panic!("{row:?} has {} cells", row.len()) };
        let function = format!("fn {}(", unquoted(test));
        assert!(all.contains(&function), "{fix}: no test is named {test}");
        match result.split_once(": ") {
            Some(("refused" | "by hand", reason)) => {
                assert!(product.contains(unquoted(reason)), "{fix}: the program has no text {reason}");
            }
            _ => assert!(["planned", "planned as R3", "not offered"].contains(&result.as_str()), "{fix}: {result}"),
        }
    }
}
