//! Replays of the recordings of the incidents (`tests/incidents/`) have the same result as live: needs no root and no engine.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::{RECORDINGS, edges, replays};

/// Names of the recordings.
fn names() -> BTreeSet<String> {
    let files = fs::read_dir(RECORDINGS).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    files.filter_map(|f| Some(f.strip_suffix(".json")?.trim_end_matches(".asserted").to_owned())).collect()
}

#[test]
fn every_incident_has_a_recording() {
    let incidents = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/incidents");
    let names = names();
    let files = fs::read_dir(incidents).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let scenario = |f: &String| f.strip_suffix(".rs").filter(|stem| *stem != "mod").map(str::to_owned);
    let missing: Vec<_> = files
        .filter_map(|f| scenario(&f))
        .filter(|stem| !names.iter().any(|n| n == stem || n.starts_with(&format!("{stem}."))))
        .collect();
    assert!(missing.is_empty(), "without a recording: {missing:?}; OPSCTL_REGENERATE=1 tests/incidents/run writes them");
}

#[test]
fn live_assertions_hold_in_the_replay() {
    for name in names() {
        println!("{name}");
        replays(&name);
    }
}

#[test]
fn recordings_are_small_and_hold_no_secret() {
    let of = |directory: &Path| fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect::<Vec<PathBuf>>();
    let kept = Path::new(RECORDINGS);
    for file in of(kept).into_iter().chain(of(kept.parent().unwrap())).filter(|f| f.is_file()) {
        let text = fs::read_to_string(&file).unwrap();
        // every secret of the lab contains this word
        assert!(!text.contains("canary"), "{} holds a secret", file.display());
        assert!(text.len() < 300_000, "{} has {} bytes", file.display(), text.len());
    }
}

/// Every edge in the recordings of the incidents. A new one is a false link unless the incident proves it: read it before you accept
/// it with `tests/regenerate`.
#[test]
fn edges_of_the_incidents_are_those_reviewed() {
    let mut text = String::new();
    let (mut all, mut asserted_found, mut asserted_all) = (0, 0, 0);
    for name in names() {
        let (edges, asserted) = edges(&name);
        // a trace has findings between its ends
        let reaches = |root: &String, effect: &String| {
            let mut at = effect;
            while let Some((cause, _)) = edges.iter().find(|(_, e)| e == at) {
                if cause == root {
                    return true;
                }
                at = cause;
            }
            false
        };
        all += edges.len();
        asserted_all += asserted.len();
        asserted_found += asserted.iter().filter(|(root, effect)| reaches(root, effect)).count();
        if !edges.is_empty() {
            let _ = writeln!(text, "{name}");
        }
        for (cause, effect) in &edges {
            let _ = writeln!(text, "  {cause} -> {effect}");
        }
    }
    text = format!("{all} edges; {asserted_found} of {asserted_all} asserted causes found\n\n{text}");
    insta::assert_snapshot!(text);
}
