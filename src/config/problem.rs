//! Errors of a configuration file, displayed with their position.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use opsctl_core::model::printable;
use opsctl_core::probe::io::trusted::TrustError;
use opsctl_core::probe::{REDACTED, Redactor};
use unicode_width::UnicodeWidthStr;

/// One error and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationError {
    /// Byte range in the file.
    pub span: Range<usize>,
    /// Message with the key.
    pub message: String,
}

impl ValidationError {
    /// A problem at these bytes.
    pub fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }
}

/// An invalid or unreadable configuration. Exit code 78 (`EX_CONFIG` of sysexits.h).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration from {path}: {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not text, larger than any configuration, or not safe to follow.
    #[error("{path}: {why}")]
    Unusable {
        /// File.
        path: PathBuf,
        /// Cause.
        why: String,
    },
    /// Another user can change the file or a directory above it.
    #[error("{path} is not used: {refusal}")]
    Untrusted {
        /// File.
        path: PathBuf,
        /// The component, its owner and mode, and the command that corrects it.
        refusal: TrustError,
    },
    /// Several files cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<ConfigError>),
    /// The file has invalid keys or values.
    #[error("{}", Located { path, text, problems })]
    Invalid {
        /// File.
        path: PathBuf,
        /// Its text.
        text: String,
        /// Errors in the order of the file.
        problems: Vec<ValidationError>,
    },
}

/// Problems displayed with line, position and caret.
struct Located<'a> {
    path: &'a PathBuf,
    text: &'a str,
    problems: &'a [ValidationError],
}

/// Limit of a displayed source line, in characters.
const MAX_LINE_WIDTH: usize = 110;

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

/// A line without secrets: without passwords, and without the path of URLs that are secrets.
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
            // a very long line is cut around the position
            let first = if column > MAX_LINE_WIDTH { column - MAX_LINE_WIDTH / 2 } else { 0 };
            let shown: String = without_secrets(source).chars().skip(first).take(MAX_LINE_WIDTH).collect();
            let before: String = source.chars().skip(first).take(column - 1 - first).collect();
            let end = floor(self.text, problem.span.end).max(floor(self.text, problem.span.start));
            let marked = self.text[floor(self.text, problem.span.start)..end].lines().next().unwrap_or_default();
            let marked: String = marked.chars().take(MAX_LINE_WIDTH.saturating_sub(before.chars().count())).collect();
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
        let problems = [ValidationError::new(span, "here")];
        Located { path: &"c.toml".into(), text, problems: &problems }.to_string()
    }

    #[test]
    fn caret_is_aligned_after_wide_characters() {
        assert_eq!(shown("a = 1\n", 4..5), "c.toml:1:5: here\n  |\n1 | a = 1\n  |     ^");
        assert_eq!(shown("x\nß = \"日本\" #\n", 7..15), "c.toml:2:5: here\n  |\n2 | ß = \"日本\" #\n  |     ^^^^^^");
        assert_eq!(shown("a", 1..1), "c.toml:1:2: here\n  |\n1 | a\n  |  ^");
    }

    #[test]
    fn long_line_is_cut_around_the_position() {
        let text = format!("{}bad{}", "x".repeat(5000), "y".repeat(5000));
        let shown = shown(&text, 5000..5003);
        assert!(shown.lines().all(|l| l.len() <= MAX_LINE_WIDTH + 4), "{shown}");
        assert!(shown.contains("bad") && shown.ends_with("^^^"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_position_in_any_text_is_displayed(text in "\\PC{0,40}(\n\\PC{0,40}){0,3}", a in 0usize..200, b in 0usize..200) {
            prop_assert!(shown(&text, a..b).contains("here"));
        }
    }
}
