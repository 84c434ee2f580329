//! Escaping of foreign text in XML and HTML.

use opsctl_core::model::printable;

/// Foreign text for an element or a quoted attribute: on one line, without markup, and without characters that XML 1.0 cannot
/// represent or that control a terminal.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\u{FFFE}' | '\u{FFFF}' => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The same, with line breaks kept.
pub(super) fn escape_lines(text: &str) -> String {
    text.lines().map(escape).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped() {
        assert_eq!(escape("<a href='x'>\"&\"\x1b\u{FFFF}\n"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;\\u{1b}\\u{ffff} ");
        assert_eq!(escape_lines("a<\nb\r\n\u{0}"), "a&lt;\nb\n\\u{0}");
    }
}
