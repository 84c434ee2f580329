//! Rules that the three crates cannot enforce: the modules that may read, act and print.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Code allowed only in these places.
const RULES: &[(&str, &[&str])] = &[
    ("Command::new(", &["core/probe", "src/fix", "src/cli", "src/supervise.rs"]),
    // files named by a process are opened below its root, with its rights
    ("}/root", &["core/probe/io"]),
    ("env::var", &["core/probe", "src/config", "src/failpoint.rs", "src/audit"]),
    ("SystemTime::now", &["core/probe"]),
    ("Timestamp::now", &["core/probe"]),
    ("println!", &[]),
    ("eprintln!", &[]),
    ("opsctl_core::probe::docker", &["core", "runbooks", "src/engine", "src/discover", "src/fix", "src/config"]),
];

/// Rust files below a directory, without test-only files.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let declared = fs::read_to_string(directory.join("mod.rs")).unwrap_or_default();
    let is_for_tests = |name: &str| {
        let name = name.trim_end_matches(".rs");
        ["", "pub(crate) "].iter().any(|public| declared.contains(&format!("#[cfg(test)]\n{public}mod {name};")))
    };
    for entry in fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() && name != "tests" && name != "fixtures" && name != "snapshots" {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|x| x == "rs") && !name.ends_with("tests.rs") && !is_for_tests(&name) {
            found.push(entry);
        }
    }
}

/// The code of a file: up to its tests, without comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
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
        let pure = !file.ends_with("style.rs");
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

/// Modules of `src` in rows, the lowest first: a module imports from earlier rows only.
const SRC_LAYERS: &[&[&str]] = &[
    &["catalog", "correlate", "failpoint", "image", "output", "watchdog"],
    &["config", "render", "state"],
    &["audit", "discover", "site", "waive"],
    &["changes", "engine", "report"],
    &["deliver", "fix"],
    &["diagnosis", "respond"],
    &["listen"],
    &["cli"],
    &["supervise"],
];

/// Readers of the system (`core/probe`) in rows, the lowest first: a reader imports from earlier rows only.
const READERS: &[&[&str]] = &[
    &["error", "lag", "panics", "product", "redact", "shared"],
    &["io", "memo"],
    &["network", "proc"],
    &["kernel", "proxies"],
    &["systemd"],
    &["docker"],
    &["cx"],
    &["logs", "names", "nginx", "ports"],
    &["servers", "tls"],
    &["endpoint"],
    &["changes", "needs"],
];

/// Modules in a directory, without fuzz targets, which call every parser.
fn modules(root: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(root).unwrap().map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    names.filter(|name| !matches!(name.as_str(), "fuzz" | "lib" | "main" | "mod")).collect()
}

/// Files of a module: its own, and all below its directory.
fn files_of(root: &Path, module: &str) -> Vec<PathBuf> {
    let mut files = vec![root.join(format!("{module}.rs"))];
    files.retain(|file| file.is_file());
    if root.join(module).is_dir() {
        sources(&root.join(module), &mut files);
    }
    files.retain(|file| !file.ends_with("fuzz.rs"));
    files
}

/// Imports of the modules in `root`, with the path `parent`, from their own or a later row.
fn imports_from_above(root: &Path, parent: &str, rows: &[&[&str]]) -> Vec<String> {
    let listed: BTreeSet<String> = rows.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(modules(root), listed, "every module has one row");
    let row_of = |module: &str| rows.iter().position(|row| row.contains(&module));
    let mut found = Vec::new();
    for module in rows.concat() {
        for file in files_of(root, module) {
            let is_own = file.parent() == Some(root) || file == root.join(module).join("mod.rs");
            for (number, line) in code(&file) {
                let line = if is_own { line.replace("super::", parent) } else { line };
                for path in line.split(parent).skip(1) {
                    let other = path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                    if other != module && row_of(other) >= row_of(module) {
                        found.push(format!("{}:{number}: {module} imports {parent}{other}", file.display()));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn modules_import_from_lower_layers_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let found = imports_from_above(&root, "crate::", SRC_LAYERS);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn readers_import_from_lower_readers_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("core/probe");
    let mut found = imports_from_above(&root, "crate::probe::", READERS);
    // the context is exported by `crate::probe` itself
    for reader in READERS.iter().take_while(|row| !row.contains(&"cx")).copied().flatten() {
        let files = files_of(&root, reader).into_iter();
        let naming = files.filter(|file| code(file).iter().any(|(_, line)| line.contains("ProbeCx")));
        found.extend(naming.map(|file| format!("{}: {reader} imports ProbeCx", file.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
