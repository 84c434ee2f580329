//! Rules that the three crates cannot enforce: the modules that may read, act and print.

use std::fs;
use std::path::{Path, PathBuf};

/// Code allowed only in these places.
const RULES: &[(&str, &[&str])] = &[
    ("Command::new(", &["core/probe", "src/fix", "src/cli", "src/supervise.rs"]),
    // files named by a process are opened below its root, with its rights
    ("}/root", &["core/probe/io"]),
    ("env::var", &["core/probe", "src/config", "src/fix", "src/audit"]),
    ("SystemTime::now", &["core/probe"]),
    ("Timestamp::now", &["core/probe"]),
    ("println!", &[]),
    ("eprintln!", &[]),
    ("opsctl_core::probe::docker", &["core", "runbooks", "src/engine", "src/discover", "src/fix", "src/config"]),
];

/// Rust files below a directory, without test-only files.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() && name != "tests" && name != "fixtures" && name != "snapshots" {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|x| x == "rs") && !name.ends_with("tests.rs") {
            found.push(entry);
        }
    }
}

/// The code of a file: up to its tests, without comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end]
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.trim_start().starts_with("//"))
        .map(|(n, l)| (n + 1, l.to_owned()))
        .collect()
}

#[test]
fn reading_acting_and_printing_stay_in_their_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for floor in ["core", "runbooks", "src"] {
        sources(&root.join(floor), &mut files);
    }
    assert!(files.len() > 60, "no sources found");
    let mut found = Vec::new();
    for file in &files {
        let shown = file.strip_prefix(root).unwrap();
        for (number, line) in code(file) {
            for (pattern, allowed) in RULES {
                if line.contains(pattern) && !allowed.iter().any(|a| shown.starts_with(a)) {
                    found.push(format!(
                        "{}:{number}: {pattern} belongs in {}",
                        shown.display(),
                        if allowed.is_empty() { "no file" } else { "" }.to_owned() + &allowed.join(", ")
                    ));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn renderers_and_judges_read_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut renderers = Vec::new();
    sources(&root.join("src/render"), &mut renderers);
    for file in renderers {
        // only style.rs reads the environment of the process
        let pure = !file.ends_with("style.rs") && !file.ends_with("progress.rs");
        assert!(!pure || !code(&file).iter().any(|(_, l)| l.contains("probe::")), "{} imports probe", file.display());
    }
    let mut model = Vec::new();
    sources(&root.join("core/model"), &mut model);
    for file in model {
        for (n, line) in code(&file) {
            let io = ["std::fs", "std::net", "tokio::"].iter().any(|w| line.contains(w));
            assert!(!io, "{}:{n}: the model does no I/O", file.display());
        }
    }
}

/// Directories and files of `core/probe` that import from earlier ones only; all others import from these.
const READERS: &[&str] =
    &["error", "panics", "lag", "memo", "redact", "io", "product", "host_port", "proc", "kernel", "network", "systemd", "docker"];

#[test]
fn readers_import_from_lower_readers_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/probe");
    let all: Vec<String> = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| !matches!(name.as_str(), "mod" | "fuzz"))
        .collect();
    let mut found = Vec::new();
    for (at, reader) in READERS.iter().enumerate() {
        let higher = all.iter().filter(|other| !READERS[..=at].contains(&other.as_str()));
        let higher: Vec<String> = higher.map(|other| format!("crate::probe::{other}::")).collect();
        let mut files = Vec::new();
        if root.join(reader).is_dir() {
            sources(&root.join(reader), &mut files);
        } else {
            files.push(root.join(format!("{reader}.rs")));
        }
        for file in files.into_iter().filter(|f| !f.ends_with("fuzz.rs")) {
            for (number, line) in code(&file) {
                if let Some(path) = higher.iter().find(|path| line.contains(path.as_str())) {
                    found.push(format!("{}:{number}: {reader} imports {path}", file.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
