//! Constant patterns for log lines.

use regex::Regex;

/// Compiles a constant pattern with ASCII classes. Those of Unicode have thousands of ranges, and dozens of patterns are compiled when the
/// first error line is read: on a starved host that would take the time of the report.
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
pub(super) fn pattern(text: &str) -> Regex {
    Regex::new(&ascii(text)).expect("constant pattern")
}

/// The pattern with the classes of Perl and word boundaries restricted to ASCII.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut in_class = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            match c {
                '[' if !in_class => in_class = true,
                ']' if in_class && !out.ends_with('[') && !out.ends_with("[^") => in_class = false,
                _ => {}
            }
            out.push(c);
            continue;
        }
        let Some(escaped) = chars.next() else { break };
        match (escaped, in_class) {
            ('w', false) => out.push_str("[0-9A-Za-z_]"),
            ('w', true) => out.push_str("0-9A-Za-z_"),
            ('d', false) => out.push_str("[0-9]"),
            ('d', true) => out.push_str("0-9"),
            ('s', false) => out.push_str("[ \\t]"),
            ('s', true) => out.push_str(" \\t"),
            ('S', false) => out.push_str("[^ \\t]"),
            ('b', false) => out.push_str("(?-u:\\b)"),
            (other, _) => out.extend(['\\', other]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_ascii() {
        assert_eq!(ascii(r"^[\w.-]+\s\[(\d+)\]\b"), r"^[0-9A-Za-z_.-]+[ \t]\[([0-9]+)\](?-u:\b)");
        assert_eq!(ascii(r"[^\]\s]"), r"[^\] \t]");
        assert!(pattern(r"\w+").is_match("a1") && !pattern(r"^\w$").is_match("é"));
    }
}
