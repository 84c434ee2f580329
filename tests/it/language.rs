//! The language of comments, documents and user-visible texts: the terms of the field, within the word budget of the models.
//!
//! `cargo test --test it language -- --nocapture` prints the counts; `OPSCTL_LANGUAGE_ROOT=DIRECTORY` counts another checkout.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Word groups with the most occurrences per 1000 words: the highest of ripgrep, uv, cargo-deny and humility, measured in their comments.
const BUDGET: &[(&str, &str, f64)] = &[
    ("what", r"\bwhat(ever)?\b", 1.0),
    ("who", r"\b(who|whom|whose|whoever)\b", 0.1),
    ("somebody", r"\b((some|any|every)(body|one)|nobody|no one)\b", 0.05),
    ("ask", r"\bask(s|ed|ing)?\b", 0.1),
    ("say", r"\b(say|says|said|saying|tell|tells|told|telling)\b", 0.2),
];

/// Terms that a standard term replaced.
const REPLACED: &[(&str, &str)] = &[
    (r"\banew\b", "recreated"),
    (r"\bfolders?\b", "directory"),
    (r"\bways? out\b", "egress, default route"),
    (r"\b(taken|takes|took|take) back\b", "reverted, rolled back"),
    (r"\blog of requests\b", "access log"),
    (r"\bturn(s|ed)? (\w+ )?away\b", "rejects"),
    (r"\b(says|said) no\b", "rejects"),
    (r"\b(gives|gave|give) up\b", "timed out"),
    (r"\bnobody listens\b", "no listener, connection refused"),
    (r"\b(is|are|was|has|have) gone\b", "was removed, no longer exists"),
    (r"\bstands? in\b", "is in"),
    (r"\blies? on\b", "is on"),
    (r"\bsettle[sd]?\b", "resolves, reconciles"),
    (r"\bhears?\b|\bheard\b", "receives"),
    (r"\bgreet(s|ed)\b", "sends its greeting"),
    (r"\bmend(s|ed)?\b", "fix, repair"),
    (r"\bresident memory at death\b", "RSS when killed"),
];

/// A piece of language.
struct Piece {
    file: PathBuf,
    line: usize,
    kind: &'static str,
    text: String,
}

fn root() -> PathBuf {
    std::env::var_os("OPSCTL_LANGUAGE_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().map(|e| e.unwrap().path()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_dir() && !matches!(name.as_str(), "target" | "recordings" | "snapshots" | "corpus") {
            files(&entry, found);
        } else if entry.extension().is_some_and(|x| x == "rs" || x == "md") {
            found.push(entry);
        }
    }
}

/// Comments, string literals of three words or more, and the prose of Markdown; code in backticks is left out.
fn pieces() -> Vec<Piece> {
    let root = root();
    let mut all = Vec::new();
    for directory in ["core", "runbooks", "src", "tests", "docs", "packaging"] {
        files(&root.join(directory), &mut all);
    }
    all.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name)));
    let own = Path::new(file!()).file_name();
    all.retain(|file| file.file_name() != own);
    all.sort();
    let mut pieces = Vec::new();
    for file in all {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let shown = file.strip_prefix(&root).unwrap_or(&file).to_owned();
        if file.extension().is_some_and(|x| x == "md") {
            prose(&shown, &text, &mut pieces);
        } else {
            rust(&shown, &text, &mut pieces);
        }
    }
    pieces
}

fn prose(file: &Path, text: &str, pieces: &mut Vec<Piece>) {
    let mut code = false;
    for (i, line) in text.lines().enumerate() {
        code ^= line.starts_with("```");
        if !code {
            pieces.push(Piece { file: file.to_owned(), line: i + 1, kind: "documents", text: without_code(line) });
        }
    }
}

/// Strings count as texts outside of tests only: there they quote other programs.
fn rust(file: &Path, text: &str, pieces: &mut Vec<Piece>) {
    let is_test = file.starts_with("tests") || file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
    let end = if is_test { 0 } else { text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len()) };
    let bytes = text.as_bytes();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            pieces.push(Piece { file: file.to_owned(), line, kind: "comments", text: without_code(&rest[..length]) });
            length
        } else if let Some((literal, length)) = literal(text, at) {
            if at < end && literal.split_whitespace().count() > 2 && !is_sql(literal) {
                pieces.push(Piece { file: file.to_owned(), line, kind: "texts", text: without_code(literal) });
            }
            length
        } else {
            character(rest)
        };
        line += text[at..at + length].matches('\n').count();
        at += length;
    }
}

/// Statements for the state database: the names of its columns are stored and do not change.
fn is_sql(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    ["create", "select", "insert", "update", "delete"].iter().any(|word| first.eq_ignore_ascii_case(word))
}

/// A string literal that begins here, and its length with the quotes.
fn literal(text: &str, at: usize) -> Option<(&str, usize)> {
    let rest = &text[at..];
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let raw = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r').filter(|_| at == 0 || !is_word(&text.as_bytes()[at - 1]));
    if let Some(raw) = raw {
        let hashes = raw.bytes().take_while(|b| *b == b'#').count();
        if let Some(inner) = raw[hashes..].strip_prefix('"') {
            let length = inner.find(&format!("\"{}", "#".repeat(hashes)))?;
            let start = rest.len() - inner.len();
            return Some((&inner[..length], start + length + 1 + hashes));
        }
    }
    let inner = rest.strip_prefix('"')?;
    let mut escaped = false;
    let length = inner.bytes().position(|b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    })?;
    Some((&inner[..length], length + 2))
}

/// The length of the next character of code: a character literal is one, a lifetime is none.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices();
    let (_, first) = characters.next().unwrap_or((0, ' '));
    if first == '\'' {
        let inner = &rest[1..];
        if let Some(escape) = inner.strip_prefix('\\') {
            return 3 + escape.char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(i, _)| i);
        }
        let quoted = inner.chars().next().map_or(0, char::len_utf8);
        if inner[quoted..].starts_with('\'') {
            return quoted + 2;
        }
    }
    first.len_utf8()
}

/// Without code in backticks and without placeholders.
fn without_code(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        out.push_str(if i % 2 == 0 { part } else { " " });
    }
    out.to_lowercase()
}

#[test]
fn character_literals_do_not_begin_strings() {
    let mut pieces = Vec::new();
    rust(Path::new("x.rs"), "f('\"', '\\'', '\\\\', \"three small words\"); // and a comment\n", &mut pieces);
    let found: Vec<(&str, &str)> = pieces.iter().map(|p| (p.kind, p.text.trim())).collect();
    assert_eq!(found, [("texts", "three small words"), ("comments", "// and a comment")]);
}

#[test]
fn word_counts_are_within_the_budget() {
    let mut table = String::new();
    let mut over = Vec::new();
    let groups: Vec<(&str, Regex, f64)> = BUDGET.iter().map(|(n, p, limit)| (*n, Regex::new(p).unwrap(), *limit)).collect();
    let mut texts: BTreeMap<&str, Vec<Piece>> = BTreeMap::new();
    for piece in pieces() {
        texts.entry(piece.kind).or_default().push(piece);
    }
    for (kind, pieces) in &texts {
        let words: usize = pieces.iter().map(|p| p.text.split_whitespace().count()).sum();
        let _ = write!(table, "{kind:<10} {words:>7} words, per 1000:");
        for (name, pattern, limit) in &groups {
            let matches: Vec<&Piece> = pieces.iter().filter(|p| pattern.is_match(&p.text)).collect();
            let count: usize = matches.iter().map(|p| pattern.find_iter(&p.text).count()).sum();
            let rate = count as f64 * 1000.0 / words.max(1) as f64;
            let _ = write!(table, "  {name} {rate:.1}");
            if rate > *limit {
                let shown = matches.iter().take(12).map(|p| format!("  {}:{}: {}", p.file.display(), p.line, p.text.trim()));
                over.push(format!(
                    "{kind}: {name} {rate:.2} per 1000 words, limit {limit}\n{}",
                    shown.collect::<Vec<_>>().join("\n")
                ));
            }
        }
        table.push('\n');
    }
    println!("{table}");
    assert!(over.is_empty(), "{table}\n{}", over.join("\n"));
}

#[test]
fn replaced_terms_are_not_used() {
    let patterns: Vec<(Regex, &str)> = REPLACED.iter().map(|(old, new)| (Regex::new(old).unwrap(), *new)).collect();
    let mut found = Vec::new();
    for piece in pieces() {
        for (pattern, new) in &patterns {
            if let Some(old) = pattern.find(&piece.text) {
                found.push(format!("{}:{}: `{}` is `{new}`", piece.file.display(), piece.line, old.as_str()));
            }
        }
    }
    println!("{} uses of replaced terms", found.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
}
