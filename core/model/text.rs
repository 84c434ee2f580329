//! Escaping of untrusted text for terminals and shells.

/// Makes untrusted text safe to print on one line: control characters (which can move the cursor, recolour or retitle a terminal)
/// and invisible characters, which reorder text (Unicode "Trojan Source", CVE-2021-42574) or hide a message from people but not
/// from programs (tag characters, variation selectors), become `\u{…}` escapes; tabs and line ends become spaces.
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

/// A text shortened to `max` characters in its middle: the reason of a wrapped error is at its end.
#[must_use]
pub fn ends(text: &str, max: usize) -> String {
    let length = text.chars().count();
    if length <= max {
        return text.to_owned();
    }
    let head = max / 3;
    let tail: String = text.chars().skip(length - (max - head - 3)).collect();
    format!("{} … {tail}", text.chars().take(head).collect::<String>())
}

/// Quotes a word for a POSIX shell.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Bidirectional controls, line separators, and characters without a glyph: `Default_Ignorable_Code_Point` of Unicode
/// (`DerivedCoreProperties.txt`), the interlinear annotations and the empty Braille pattern.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_words_are_quoted() {
        assert_eq!((shell_word("web-1"), shell_word("/var/lib")), ("web-1".to_owned(), "/var/lib".to_owned()));
        assert_eq!(shell_word("/srv/my disk"), "'/srv/my disk'");
        assert_eq!(shell_word("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
    }

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        assert_eq!(printable("a\x1b[31mb\x07\u{202E}c"), "a\\u{1b}[31mb\\u{7}\\u{202e}c");
        assert_eq!(printable("née 日本\tx\ny"), "née 日本 x y");
        assert_eq!(printable("a\u{2028}b\u{E0041}\u{FE0F}\u{AD}"), "a\\u{2028}b\\u{e0041}\\u{fe0f}\\u{ad}");
    }
}
