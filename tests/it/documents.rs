//! Every command and every output in README.md and docs/, and the links between the pages.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A fenced block.
struct Block {
    page: PathBuf,
    language: String,
    lines: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages_in(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let mut pages: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|x| x == "md")).collect();
    pages.sort();
    pages
}

/// The hand-written pages, not those that only include the documentation of a runbook.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)).into();
    pages.extend(pages_in(&root().join("docs")));
    pages
}

fn blocks(language: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for page in pages() {
        let mut open: Option<Block> = None;
        for line in std::fs::read_to_string(&page).unwrap().lines() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(language)) => {
                    open = Some(Block { page: page.clone(), language: language.to_owned(), lines: Vec::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.lines.push(line.to_owned()),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block does not end", page.display());
    }
    blocks.into_iter().filter(|b| b.language == language).collect()
}

/// The lines of the `sh` blocks with their pages.
fn commands() -> Vec<(PathBuf, String)> {
    blocks("sh").into_iter().flat_map(|b| b.lines.into_iter().map(move |line| (b.page.clone(), line))).collect()
}

/// `OPSCTL_REGENERATE=1` replaces the outputs: read the difference.
#[test]
fn outputs_are_those_of_the_commands() {
    let blocks = blocks("console");
    assert!(blocks.len() >= 8);
    let mut different = Vec::new();
    for block in blocks {
        let command = block.lines[0].strip_prefix("$ opsctl ").unwrap_or_else(|| panic!("{}", block.lines[0]));
        let output = Command::new(env!("CARGO_BIN_EXE_opsctl"))
            .args(command.split_whitespace())
            .current_dir(root())
            .env("LANG", "C.UTF-8")
            .env("OPSCTL_STATE_DIR", "/nonexistent/opsctl")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let shown = block.lines[1..].join("\n");
        if printed.trim_end() == shown {
            continue;
        }
        if std::env::var_os("OPSCTL_REGENERATE").is_some() {
            let text = std::fs::read_to_string(&block.page).unwrap();
            let head = &block.lines[0];
            let text = text.replace(&format!("{head}\n{shown}\n"), &format!("{head}\n{}\n", printed.trim_end()));
            std::fs::write(&block.page, text).unwrap();
        } else {
            different.push(format!("{}: {}\n{printed}", block.page.display(), block.lines[0]));
        }
    }
    assert!(different.is_empty(), "OPSCTL_REGENERATE=1 replaces these outputs:\n{}", different.join("\n"));
}

#[test]
fn commands_are_accepted() {
    let mut seen = 0;
    for (page, line) in commands() {
        // a quoted part is one word
        let pieces = line.split('\'').enumerate();
        let words: Vec<&str> =
            pieces.flat_map(|(i, piece)| if i % 2 == 1 { vec![piece] } else { piece.split_whitespace().collect() }).collect();
        let arguments = match words.as_slice() {
            ["opsctl", rest @ ..] | ["cargo", "run", "--release", "--", rest @ ..] => rest,
            ["cargo", ..] => continue,
            [script, ..] if root().join(script).exists() => continue,
            _ => panic!("{}: not a command of this repository: {line}", page.display()),
        };
        let parsed = opsctl::cli::command().try_get_matches_from(["opsctl"].iter().chain(arguments));
        assert!(parsed.is_ok(), "{}: {line}: {}", page.display(), parsed.unwrap_err());
        seen += 1;
    }
    assert!(seen >= 10, "the commands were found");
}

#[test]
fn main_command_runs_on_any_host() {
    let output = Command::new(env!("CARGO_BIN_EXE_opsctl"))
        .args(["diagnose", "--format", "json"])
        .env("OPSCTL_STATE_DIR", tempfile::tempdir().unwrap().path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.code().is_some_and(|c| c <= 3), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["checks"].as_array().is_some_and(|c| !c.is_empty()), "{report}");
}

#[test]
fn fixes_of_commands_exist() {
    let catalog = opsctl::catalog::Catalog::new();
    for (page, line) in commands() {
        let Some(fix) = line.strip_prefix("opsctl fix ").and_then(|rest| rest.split_whitespace().next()) else { continue };
        assert!(fix.starts_with("--") || catalog.fixes().iter().any(|f| f.id == fix), "{}: {fix}", page.display());
    }
}

#[test]
fn configurations_are_valid() {
    let dir = tempfile::tempdir().unwrap();
    let runbooks = dir.path().join("runbooks.d");
    std::fs::create_dir(&runbooks).unwrap();
    for block in blocks("toml") {
        let is_runbook = block.lines[0] == "[runbook]";
        let file = if is_runbook { runbooks.join("runbook.toml") } else { dir.path().join("config.toml") };
        std::fs::write(&file, block.lines.join("\n")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_opsctl")).args(["config", "check"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {}", block.page.display(), String::from_utf8_lossy(&output.stderr));
    }
}

/// The relative targets of Markdown links.
fn links(text: &str) -> Vec<String> {
    let target = |rest: &str| rest.split_once(')').map(|(target, _)| target.split('#').next().unwrap_or_default().to_owned());
    text.split("](").skip(1).filter_map(target).filter(|t| !t.is_empty() && !t.contains("://")).collect()
}

#[test]
fn links_lead_to_files() {
    for page in pages() {
        for link in links(&std::fs::read_to_string(&page).unwrap()) {
            assert!(page.parent().unwrap().join(&link).exists(), "{}: {link} does not exist", page.display());
        }
    }
}

#[test]
fn summary_lists_every_page() {
    let docs = root().join("docs");
    let listed = links(&std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap());
    for page in pages_in(&docs).into_iter().chain(pages_in(&docs.join("runbooks"))) {
        let name = page.strip_prefix(&docs).unwrap().display().to_string();
        assert!(name == "SUMMARY.md" || listed.contains(&name), "docs/SUMMARY.md does not list {name}");
    }
}

#[test]
fn runbooks_have_a_page() {
    for (runbook, _) in opsctl::catalog::Catalog::new().runbooks() {
        let page = root().join(format!("docs/runbooks/{}.md", runbook.id));
        let include = format!("{{{{#include ../../runbooks/{}/RUNBOOK.md}}}}\n", runbook.id);
        assert_eq!(std::fs::read_to_string(&page).unwrap_or_default(), include, "{}", page.display());
    }
}

#[test]
fn readme_is_short() {
    let bytes = std::fs::read(root().join("README.md")).unwrap().len();
    assert!(bytes < 10_000, "README.md has {bytes} bytes, limit 10000");
}

/// The limits of a runbook: the settings of the configuration's JSON Schema; their descriptions name the sources.
fn thresholds() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_opsctl")).args(["config", "schema"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut page = "# Thresholds and their sources\n\nEvery limit is a key of `[runbooks.NAME]` in the configuration, and every default names its source. \
                    \"Judgement\" means: chosen by the developers of opsctl without a published source. This page is generated.\n"
        .to_owned();
    for (runbook, _) in opsctl::catalog::Catalog::new().runbooks() {
        let heading = format!("`[runbooks.{}]`.", runbook.id);
        let definitions = schema["$defs"].as_object().unwrap().values();
        let Some(settings) = definitions.into_iter().find(|d| d["description"] == heading.as_str()) else { continue };
        let _ = write!(page, "\n## {}\n\n| key | default | limit and source |\n|---|---|---|\n", runbook.id);
        for (key, property) in settings["properties"].as_object().unwrap() {
            let description = property["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
            let default = property["default"].to_string().replace('|', "\\|");
            let _ = writeln!(page, "| `{key}` | `{default}` | {description} |");
        }
    }
    page
}

fn causes() -> String {
    let catalog = opsctl::catalog::Catalog::new();
    let mut links = catalog.links();
    links.sort_by_key(|l| (l.cause, l.effect));
    let mut page = format!(
        "# Causes and effects\n\nThe {} links between findings. A link applies only to two findings that share the object in the third column. \
         \"Confirmed\": the shared object proves the mechanism. This page is generated.\n\n\
         | cause | effect | shared object | confidence | mechanism: because |\n|---|---|---|---|---|\n",
        links.len()
    );
    for l in links {
        let confidence = format!("{:?}", l.confidence).to_lowercase();
        let because = l.because.replace('|', "\\|");
        let _ = writeln!(page, "| `{}` | `{}` | {:?} | {confidence} | {because} |", l.cause, l.effect, l.tie);
    }
    page
}

/// `OPSCTL_REGENERATE=1` writes them.
#[test]
fn generated_pages_are_up_to_date() {
    for (name, page) in [("thresholds.md", thresholds()), ("causes.md", causes())] {
        let path = root().join("docs").join(name);
        if std::env::var_os("OPSCTL_REGENERATE").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap_or_default() == page, "docs/{name}: OPSCTL_REGENERATE=1 writes it");
    }
}
