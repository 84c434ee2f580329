//! Every command and every output in README.md.

use std::path::Path;
use std::process::{Command, Stdio};

/// The fenced blocks of the README: language and lines.
fn blocks() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, lines)), None) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    blocks
}

fn of(language: &str) -> Vec<Vec<String>> {
    blocks().into_iter().filter(|(l, _)| l == language).map(|(_, lines)| lines).collect()
}

#[test]
fn every_output_is_what_the_command_prints() {
    let blocks = of("console");
    assert!(blocks.len() >= 3);
    for block in blocks {
        let command = block[0].strip_prefix("$ opsctl ").unwrap_or_else(|| panic!("{}", block[0]));
        let output = Command::new(env!("CARGO_BIN_EXE_opsctl"))
            .args(command.split_whitespace())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("LANG", "C.UTF-8")
            .env("OPSCTL_STATE_DIR", "/nonexistent/opsctl")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim_end(), block[1..].join("\n"), "{}", block[0]);
    }
}

#[test]
fn every_command_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for line in of("sh").concat() {
        // what stands in quotes is one word
        let pieces = line.split('\'').enumerate();
        let words: Vec<&str> =
            pieces.flat_map(|(i, piece)| if i % 2 == 1 { vec![piece] } else { piece.split_whitespace().collect() }).collect();
        let arguments = match words.as_slice() {
            ["opsctl", rest @ ..] | ["cargo", "run", "--release", "--", rest @ ..] => rest,
            ["cargo", "build", ..] => continue,
            [script] => {
                assert!(root.join(script).exists(), "{script}");
                continue;
            }
            _ => panic!("what is this? {line}"),
        };
        let parsed = opsctl::cli::command().try_get_matches_from(["opsctl"].iter().chain(arguments));
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        seen += 1;
    }
    assert!(seen >= 10, "the commands were found");
}

#[test]
fn the_main_command_runs_and_the_fixes_it_names_exist() {
    // on whatever host this is: an answer, and never an error of opsctl's own
    let output = Command::new(env!("CARGO_BIN_EXE_opsctl"))
        .args(["diagnose", "--format", "json"])
        .env("OPSCTL_STATE_DIR", tempfile::tempdir().unwrap().path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.code().is_some_and(|c| c <= 3), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["checks"].as_array().is_some_and(|c| !c.is_empty()), "{report}");
    let catalog = opsctl::catalog::Catalog::new();
    for line in of("sh").concat().iter().filter_map(|l| l.strip_prefix("opsctl fix ")) {
        let fix = line.split_whitespace().next().unwrap();
        assert!(catalog.fixes().iter().any(|f| f.id == fix), "{fix}");
    }
}

#[test]
fn the_configuration_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("runbooks.d");
    std::fs::create_dir(&folder).unwrap();
    for block in of("toml") {
        // a runbook of one's own is a file of that folder
        let file = if block[0] == "[runbook]" { folder.join("runbook.toml") } else { dir.path().join("config.toml") };
        std::fs::write(&file, block.join("\n")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_opsctl")).args(["config", "check"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_table_of_faults_is_the_tested_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let table: Vec<String> = read("tests/faults.md").lines().filter(|l| l.starts_with('|')).map(str::to_owned).collect();
    assert!(table.len() > 10 && read("README.md").contains(&table.join("\n")), "README.md has not the table of tests/faults.md");
}
