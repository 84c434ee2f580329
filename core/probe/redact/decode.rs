//! Other encodings of the same text: JSON escapes, percent-encoding, HTML entities. A secret is searched in the decoded text as
//! well as in the text itself, so that the encoding of its characters does not matter.

use std::ops::Range;

/// Limit of nested decodings: JSON within JSON within a URL has three layers.
const MAX_DEPTH: usize = 3;

/// Limit of decoded texts for one text.
const MAX_TEXTS: usize = 12;

/// A decoded text, with the origin of every byte.
pub(super) struct Decoded {
    /// The decoded text; percent-encoding may produce bytes that are not UTF-8.
    pub(super) bytes: Vec<u8>,
    /// Position of each byte in the original text; one more for the end.
    origin: Vec<u32>,
}

impl Decoded {
    /// The part of the original text that a part of this one comes from.
    pub(super) fn origin(&self, span: &Range<usize>) -> Range<usize> {
        let at = |i: usize| self.origin.get(i).or(self.origin.last()).map_or(0, |o| *o as usize);
        at(span.start)..at(span.end)
    }
}

/// An encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// `\"`, `\n`, `\u00e9`, in strings of JSON and of most languages.
    Escapes,
    /// `%40`, and `+` for a space.
    Percent,
    /// `&quot;`, `&#39;`.
    Entities,
}

/// All decodings of `text`, except itself. Empty for nearly every text: few contain an escape. `plus`: a `+` alone is decoded
/// too, because a learned secret contains a space.
pub(super) fn decoded(text: &[u8], plus: bool) -> Vec<Decoded> {
    let mut found: Vec<(Decoded, usize)> = Vec::new();
    for encoding in encodings(text, plus) {
        found.extend(decode(text, None, encoding).map(|d| (d, 1)));
    }
    let mut next = 0;
    while next < found.len() && found.len() < MAX_TEXTS {
        let (depth, mut inner) = (found[next].1, Vec::new());
        if depth < MAX_DEPTH {
            let outer = &found[next].0;
            for encoding in encodings(&outer.bytes, false) {
                inner.extend(decode(&outer.bytes, Some(outer), encoding).map(|d| (d, depth + 1)));
            }
        }
        for one in inner {
            if !found.iter().any(|(known, _)| known.bytes == one.0.bytes) {
                found.push(one);
            }
        }
        next += 1;
    }
    found.into_iter().map(|(decoded, _)| decoded).take(MAX_TEXTS).collect()
}

/// Encodings with a sign in the text.
fn encodings(text: &[u8], plus: bool) -> impl Iterator<Item = Encoding> {
    let has = |byte| memchr::memchr(byte, text).is_some();
    let signs = [
        (Encoding::Escapes, has(b'\\')),
        (Encoding::Percent, has(b'%') || (plus && has(b'+'))),
        (Encoding::Entities, has(b'&') && has(b';')),
    ];
    signs.into_iter().filter_map(|(encoding, present)| present.then_some(encoding))
}

/// The decoded text, or `None` if there is nothing to decode. `outer` is the decoding that `text` comes from.
fn decode(text: &[u8], outer: Option<&Decoded>, encoding: Encoding) -> Option<Decoded> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut starts: Vec<u32> = Vec::with_capacity(text.len() + 1);
    let mut changed = false;
    let mut at = 0;
    let origin_of =
        |at: usize| outer.map_or(u32::try_from(at).unwrap_or(u32::MAX), |o| o.origin.get(at).copied().unwrap_or(u32::MAX));
    while at < text.len() {
        let rest = &text[at..];
        let one = match encoding {
            Encoding::Escapes if rest[0] == b'\\' => escape(rest),
            Encoding::Percent if rest[0] == b'%' => hex(rest.get(1..3)).map(|byte| (u32::from(byte), 3, true)),
            Encoding::Percent if rest[0] == b'+' => Some((u32::from(b' '), 1, true)),
            Encoding::Entities if rest[0] == b'&' => entity(rest),
            _ => None,
        };
        match one {
            Some((code, length, true)) => {
                bytes.push(u8::try_from(code).unwrap_or(b'?'));
                starts.push(origin_of(at));
                at += length;
                changed = true;
            }
            Some((code, length, false)) => {
                let mut buffer = [0; 4];
                let encoded = char::from_u32(code).unwrap_or('\u{fffd}').encode_utf8(&mut buffer);
                bytes.extend_from_slice(encoded.as_bytes());
                starts.extend(std::iter::repeat_n(origin_of(at), encoded.len()));
                at += length;
                changed = true;
            }
            None => {
                bytes.push(rest[0]);
                starts.push(origin_of(at));
                at += 1;
            }
        }
    }
    starts.push(origin_of(text.len()));
    changed.then_some(Decoded { bytes, origin: starts })
}

/// A character, its length in the encoded text, and whether it is a raw byte.
type Character = (u32, usize, bool);

/// `\n`, `\"`, `\u0041`, `\ud83d\ude00`, `\x41`.
fn escape(rest: &[u8]) -> Option<Character> {
    let simple = |byte: u8| Some((u32::from(byte), 2, false));
    match rest.get(1)? {
        b'n' => simple(b'\n'),
        b'r' => simple(b'\r'),
        b't' => simple(b'\t'),
        b'"' => simple(b'"'),
        b'\'' => simple(b'\''),
        b'\\' => simple(b'\\'),
        b'/' => simple(b'/'),
        b'x' => hex(rest.get(2..4)).map(|byte| (u32::from(byte), 4, true)),
        b'u' => {
            let unit = |at: usize| Some(u32::from(hex(rest.get(at..at + 2))?) << 8 | u32::from(hex(rest.get(at + 2..at + 4))?));
            let high = unit(2)?;
            if (0xd800..0xdc00).contains(&high) && rest.get(6..8) == Some(b"\\u") {
                let low = unit(8).filter(|low| (0xdc00..0xe000).contains(low))?;
                return Some((0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12, false));
            }
            Some((high, 6, false))
        }
        _ => None,
    }
}

fn hex(digits: Option<&[u8]>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    match digits? {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// `&amp;`, `&#39;`, `&#x27;`.
fn entity(rest: &[u8]) -> Option<Character> {
    /// Limit of a known entity, with its signs.
    const MAX_LENGTH: usize = 10;
    let end = rest.iter().take(MAX_LENGTH).position(|byte| *byte == b';')?;
    let name = std::str::from_utf8(&rest[1..end]).ok()?;
    let code = match name {
        "amp" => u32::from(b'&'),
        "lt" => u32::from(b'<'),
        "gt" => u32::from(b'>'),
        "quot" => u32::from(b'"'),
        "apos" => u32::from(b'\''),
        "nbsp" => u32::from(b' '),
        "sol" => u32::from(b'/'),
        "colon" => u32::from(b':'),
        "equals" => u32::from(b'='),
        "commat" => u32::from(b'@'),
        _ => match name.strip_prefix('#')?.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => name[1..].parse().ok()?,
        },
    };
    Some((code, end + 1, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        decoded(text.as_bytes(), false).iter().map(|d| String::from_utf8_lossy(&d.bytes).into_owned()).collect()
    }

    #[test]
    fn plain_text_has_no_decoding() {
        assert!(texts("a plain text, 97% of it & more").is_empty());
    }

    #[test]
    fn nested_encodings_are_decoded() {
        assert!(texts(r#"\\\"a\\\""#).contains(&r#""a""#.to_owned()), "{:?}", texts(r#"\\\"a\\\""#));
        assert!(texts("%2522").contains(&"\"".to_owned()));
        assert!(texts(r"%5Cu0041").contains(&"A".to_owned()));
        assert!(texts("&amp;#39;").contains(&"'".to_owned()));
        assert!(texts(r"\ud83d\ude00").contains(&"😀".to_owned()));
    }

    #[test]
    fn decoded_parts_keep_their_origin() {
        let text = r#"x \u0061b\"c"#;
        let found = decoded(text.as_bytes(), false);
        let span = 2..4;
        assert_eq!(&found[0].bytes[span.clone()], b"ab");
        assert_eq!(&text[found[0].origin(&span)], r"\u0061b");
        assert_eq!(found[0].origin(&(5..6)), text.len() - 1..text.len());
    }

    #[test]
    fn number_of_decodings_is_bounded() {
        let text = "%255C&amp;quot;\\u0025+".repeat(50);
        assert!(decoded(text.as_bytes(), true).len() <= MAX_TEXTS);
    }
}
