//! What is wrong with a configuration file, shown where it is.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use opsctl_core::model::printable;
use opsctl_core::probe::trusted::TrustError;
use opsctl_core::probe::{REDACTED, Redactor};
use unicode_width::UnicodeWidthStr;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the file it is about.
    pub span: Range<usize>,
    /// A phrase naming the key.
    pub message: String,
}

impl Problem {
    /// A problem at these bytes.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

/// A configuration that cannot be used. Exit code 78 (`EX_CONFIG` of sysexits.h).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration from {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not text, larger than any configuration, or not safe to follow.
    #[error("{path}: {why}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Another user can change the file or a directory above it.
    #[error("{path} is not used: {refusal}")]
    Untrusted {
        /// Which file.
        path: PathBuf,
        /// The component, its owner and mode, and the command that mends it.
        refusal: TrustError,
    },
    /// Several files cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<ConfigError>),
    /// The file says something that has no meaning.
    #[error("{}", Located { path, text, problems })]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What it says.
        text: String,
        /// In the order of the file.
        problems: Vec<Problem>,
    },
}

/// Problems with their line, caret and place.
struct Located<'a> {
    path: &'a PathBuf,
    text: &'a str,
    problems: &'a [Problem],
}

/// Widest piece of a source line that is shown, in characters.
const WIDEST: usize = 110;

/// Line and column (both from 1, columns in characters) of a byte offset.
#[must_use]
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let offset = floor(text, offset);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// A line as it may be shown: without passwords, and without what follows the host where the address itself is the secret.
fn without_secrets(line: &str) -> String {
    let line = Redactor::default().scrub(line);
    let key = line.split('=').next().unwrap_or_default().trim();
    let path = line.find("://").and_then(|at| Some(at + 3 + line[at + 3..].find('/')? + 1));
    match path {
        Some(path) if matches!(key, "to" | "heartbeat") => format!("{}{REDACTED}\"", &line[..path]),
        _ => line,
    }
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let (line, column) = position(self.text, problem.span.start);
            writeln!(f, "{}:{line}:{column}: {}", self.path.display(), printable(&problem.message))?;
            let source = self.text.lines().nth(line - 1).unwrap_or_default();
            // a very long line is shown around the place
            let first = if column > WIDEST { column - WIDEST / 2 } else { 0 };
            let shown: String = without_secrets(source).chars().skip(first).take(WIDEST).collect();
            let before: String = source.chars().skip(first).take(column - 1 - first).collect();
            let end = floor(self.text, problem.span.end).max(floor(self.text, problem.span.start));
            let marked = self.text[floor(self.text, problem.span.start)..end].lines().next().unwrap_or_default();
            let marked: String = marked.chars().take(WIDEST.saturating_sub(before.chars().count())).collect();
            let (shown, before, marked) = (printable(&shown), printable(&before), printable(&marked));
            let margin = line.to_string().len();
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{line} | {}", shown.trim_end())?;
            write!(f, "{:margin$} | {}{}", "", " ".repeat(before.width()), "^".repeat(marked.width().max(1)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let problems = [Problem::new(span, "here")];
        Located { path: &"c.toml".into(), text, problems: &problems }.to_string()
    }

    #[test]
    fn the_caret_stands_under_the_place_also_after_wide_characters() {
        assert_eq!(shown("a = 1\n", 4..5), "c.toml:1:5: here\n  |\n1 | a = 1\n  |     ^");
        assert_eq!(shown("x\nß = \"日本\" #\n", 7..15), "c.toml:2:5: here\n  |\n2 | ß = \"日本\" #\n  |     ^^^^^^");
        assert_eq!(shown("a", 1..1), "c.toml:1:2: here\n  |\n1 | a\n  |  ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}bad{}", "x".repeat(5000), "y".repeat(5000));
        let shown = shown(&text, 5000..5003);
        assert!(shown.lines().all(|l| l.len() <= WIDEST + 4), "{shown}");
        assert!(shown.contains("bad") && shown.ends_with("^^^"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_is_shown(text in "\\PC{0,40}(\n\\PC{0,40}){0,3}", a in 0usize..200, b in 0usize..200) {
            prop_assert!(shown(&text, a..b).contains("here"));
        }
    }
}
