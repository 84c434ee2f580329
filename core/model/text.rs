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

/// A word as a POSIX shell reads it back.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Zero-width and bidirectional controls.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206F}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!((shell_word("web-1"), shell_word("/var/lib")), ("web-1".to_owned(), "/var/lib".to_owned()));
        assert_eq!(shell_word("/srv/my disk"), "'/srv/my disk'");
        assert_eq!(shell_word("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
    }

    #[test]
    fn escapes_what_drives_a_terminal_and_keeps_the_rest() {
        assert_eq!(printable("a\x1b[31mb\x07\u{202E}c"), "a\\u{1b}[31mb\\u{7}\\u{202e}c");
        assert_eq!(printable("née 日本\tx\ny"), "née 日本 x y");
    }
}
