//! Text from outside must not drive a terminal.

/// Makes foreign text safe to print on one line: control characters (which can move the cursor, recolour or
/// retitle a terminal), and the invisible characters that reorder text (Unicode "Trojan Source", CVE-2021-42574),
/// become `\u{…}` escapes; tabs and line ends become spaces.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || is_invisible(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Zero-width and bidirectional controls.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_drives_a_terminal_and_keeps_the_rest() {
        assert_eq!(printable("a\x1b[31mb\x07\u{202E}c"), "a\\u{1b}[31mb\\u{7}\\u{202e}c");
        assert_eq!(printable("née 日本\tx\ny"), "née 日本 x y");
    }
}
