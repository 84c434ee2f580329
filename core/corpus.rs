//! Recorded files and outputs of other programs in `tests/corpus`: public facts, each with its source and the expected reading.
//!
//! `tests/corpus/PROGRAM/NAME` begins with lines `# source: URL`, `# about: …` (optional), `# given: …` for facts that the text
//! does not contain (optional), and one `# expect: KEY = VALUE` per value, followed by a line `---` and the recorded text. A key
//! that is not listed is expected to be empty. Texts from reports are shortened to the lines that matter, and completed where a
//! report leaves lines or numbers out.

#![allow(clippy::disallowed_methods, reason = "the corpus is read by tests only")]

use std::collections::BTreeMap;
use std::path::Path;

/// Separates the description from the recorded text.
const SEPARATOR: &str = "\n---\n";

/// One recorded text.
pub struct Item {
    /// Its file name.
    pub name: String,
    /// Facts that the recorded text does not contain (`# given: …`), for example names of interfaces.
    pub given: String,
    /// The expected values.
    pub expect: BTreeMap<String, String>,
    /// The recorded text.
    pub text: String,
}

/// The items of a program, by file name.
///
/// # Panics
///
/// When a file has no source or no recorded text.
#[must_use]
pub fn items(program: &str) -> Vec<Item> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus").join(program);
    let mut files: Vec<_> = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|e| e.path()).collect();
    files.sort();
    files.iter().map(|file| item(file)).collect()
}

fn item(file: &Path) -> Item {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let all = String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned();
    let (head, text) = all.split_once(SEPARATOR).unwrap_or_else(|| panic!("{}: no recorded text", file.display()));
    assert!(head.lines().any(|l| l.starts_with("# source: ")), "{}: no source", file.display());
    let expected = |line: &str| {
        let (key, value) = line.strip_prefix("# expect: ")?.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    let given = head.lines().find_map(|l| l.strip_prefix("# given: ")).unwrap_or_default().to_owned();
    Item { name, given, expect: head.lines().filter_map(expected).collect(), text: text.to_owned() }
}

/// Reads every item of a program and compares all values.
///
/// # Panics
///
/// When a value differs from the expected one, or when there are fewer than `at_least` items.
pub fn check(program: &str, at_least: usize, read: impl Fn(&str) -> Vec<(&'static str, String)>) {
    check_items(program, at_least, |item| read(&item.text));
}

/// [`check`] for readings that depend on more than the recorded text.
///
/// # Panics
///
/// As [`check`].
pub fn check_items(program: &str, at_least: usize, read: impl Fn(&Item) -> Vec<(&'static str, String)>) {
    let all = items(program);
    assert!(all.len() >= at_least, "{program}: {} items, expected at least {at_least}", all.len());
    let mut wrong = Vec::new();
    for item in &all {
        let found: BTreeMap<String, String> = read(item).into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        for key in item.expect.keys().filter(|key| !found.contains_key(*key)) {
            wrong.push(format!("{program}/{}: {key} is not read", item.name));
        }
        for (key, value) in found {
            let expected = item.expect.get(&key).map_or("", String::as_str);
            // a value is one line
            let value = value.trim().replace('\n', "\\n");
            if value != expected {
                wrong.push(format!("{program}/{}: {key}\n  expected {expected}\n  got      {value}", item.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
