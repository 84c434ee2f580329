//! The end of a value, and whether the value is a secret or only in the position of one.

use std::ops::Range;

/// Limit of a value that is parsed to its end; of a longer one, the word that contains it is removed.
pub(super) const MAX_VALUE_BYTES: usize = 4096;

/// Maximum distance of the preceding quote or bracket around a value.
const MAX_LOOKBACK: usize = 256;

pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

/// First position from `at` on where `stop` is true, or the end.
pub(super) fn until(text: &[u8], at: usize, stop: impl Fn(u8) -> bool) -> usize {
    text[at.min(text.len())..].iter().position(|b| stop(*b)).map_or(text.len(), |n| at + n)
}

/// Position after the blanks at `at`.
pub(super) fn skip_blanks(text: &[u8], at: usize) -> usize {
    until(text, at, |b| !is_blank(b))
}

/// End of the word at `at`, after at most [`MAX_VALUE_BYTES`].
pub(super) fn word_end(text: &[u8], at: usize) -> usize {
    until(&text[..text.len().min(at + MAX_VALUE_BYTES)], at, |b| b.is_ascii_whitespace())
}

/// End of the line of `at`, after at most [`MAX_VALUE_BYTES`].
pub(super) fn line_end(text: &[u8], at: usize) -> usize {
    whole_line_end(&text[..text.len().min(at + MAX_VALUE_BYTES)], at)
}

/// End of the line of `at`, without a limit.
fn whole_line_end(text: &[u8], at: usize) -> usize {
    memchr::memchr2(b'\n', b'\r', &text[at.min(text.len())..]).map_or(text.len(), |n| at + n)
}

/// End of a value that is longer than the limit: the next quote or the end of the line.
pub(super) fn long_end(text: &[u8], span: &Range<usize>) -> usize {
    if span.len() + 16 < MAX_VALUE_BYTES {
        return span.end;
    }
    until(text, span.end, |b| is_quote(b) || b == b'\n')
}

/// Position of the closing quote for the opening one at `at`. Escaped and doubled quotes do not close. Without one, the end of
/// the line.
pub(super) fn closing_quote(text: &[u8], at: usize) -> usize {
    let quote = text[at];
    let end = text.len().min(at + MAX_VALUE_BYTES);
    let mut i = at + 1;
    while i < end {
        match text[i] {
            b'\\' => i += 1,
            b'\n' if i - at > MAX_LOOKBACK || memchr::memchr(quote, &text[i..end]).is_none() => return i,
            b if b == quote => {
                let doubled = text.get(i + 1) == Some(&quote) && quote == b'\'' && text.get(i + 2).is_some_and(|b| !is_end(*b));
                if !doubled {
                    return i;
                }
                i += 1;
            }
            _ => {}
        }
        i += 1;
    }
    end
}

/// Whether no part of a value can follow.
fn is_end(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b';' | b')' | b']' | b'}' | b'&' | b'<' | b'>' | b':' | b'|')
}

/// Whether there is `name=` at `at`, after blanks.
pub(super) fn is_pair(text: &[u8], at: usize) -> bool {
    pair_follows(text, at, b"=", false)
}

/// Whether a name and one of these signs follow at `at`, which means that the preceding text was the end of a value.
fn pair_follows(text: &[u8], at: usize, signs: &[u8], with_blanks: bool) -> bool {
    /// Limit of a name.
    const MAX_NAME: usize = 48;
    let end = text.len().min(at + MAX_NAME);
    let start = until(&text[..end], at, |b| b != b' ');
    let quote = text.get(start).copied().filter(|b| is_quote(*b));
    let start = start + usize::from(quote.is_some());
    if !text.get(start).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
        return start >= text.len();
    }
    let named =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'[' | b']' | b'%') || (with_blanks && b == b' ');
    let mut sign = until(&text[..end], start, |b| !named(b));
    if quote.is_some() && text.get(sign) == quote.as_ref() {
        sign += 1;
    }
    text.get(sign).is_some_and(|b| signs.contains(b))
}

/// Whether an opening sign before `at`, in the same line, is not closed yet. For quotes, open and close are the same.
fn is_open(text: &[u8], at: usize, open: u8, close: u8) -> bool {
    let start = at.saturating_sub(MAX_LOOKBACK);
    let line = text[start..at].iter().rposition(|b| *b == b'\n').map_or(start, |n| start + n + 1);
    let mut depth = 0_usize;
    for byte in &text[line..at] {
        if *byte == close && (open != close || depth > 0) {
            depth = depth.saturating_sub(1);
        } else if *byte == open {
            depth += 1;
        }
    }
    depth > 0
}

/// The surroundings of a value.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each of which one kind of text has")]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ValueContext {
    /// Beginning of the name of the value.
    pub(super) start: usize,
    /// A quote directly before the name: it encloses name and value.
    pub(super) quote: Option<u8>,
    /// The value extends to the end of the line: a line of a file.
    pub(super) whole_line: bool,
    /// The value is the rest of the line, with any characters: an entry of an environment.
    pub(super) entry: bool,
    /// The value is itself a query, and `&` does not end it: a shared access signature.
    pub(super) query: bool,
    /// `;` ends it: an entry of a connection string.
    pub(super) list: bool,
}

/// The end of the unquoted value at `at`.
pub(super) fn unquoted_end(text: &[u8], at: usize, context: ValueContext) -> usize {
    if context.entry {
        return whole_line_end(text, at);
    }
    let end = text.len().min(at + MAX_VALUE_BYTES);
    let mut depth = Vec::new();
    let mut i = at;
    while i < end {
        let next = text.get(i + 1).copied();
        match text[i] {
            b'\n' | b'\r' => break,
            b if b.is_ascii_whitespace() => {
                let goes_on = context.whole_line || context.quote.is_some() || (context.list && ends_in_list(text, i));
                if !goes_on || pair_follows(text, i + 1, b"=", false) || (context.whole_line && next == Some(b'#')) {
                    break;
                }
            }
            b'\\' => match next {
                Some(b'n' | b'r' | b't' | b'"' | b'\'') => break,
                Some(_) => i += 1,
                None => {}
            },
            quote @ (b'"' | b'\'' | b'`') => {
                let inside = || context.quote == Some(quote) || is_open(text, context.start, quote, quote);
                let goes_on = next.is_some_and(|b| b.is_ascii_alphanumeric() || !(is_end(b) || is_quote(b) || inside()));
                if !goes_on {
                    break;
                }
            }
            b',' if next.is_none_or(|b| is_end(b) || is_quote(b)) || pair_follows(text, i + 1, b"=:", false) => break,
            b';' if next.is_none_or(|b| is_end(b) || is_quote(b)) || pair_follows(text, i + 1, b"=", true) => break,
            b'&' if context.query => {}
            b'&' if next.is_none_or(|b| is_end(b) || is_quote(b)) || pair_follows(text, i + 1, b"=", false) => break,
            b'#' if is_in_url(text, context.start) => break,
            b'<' if next == Some(b'/') => break,
            open @ (b'(' | b'[' | b'{') => depth.push(open),
            close @ (b')' | b']' | b'}' | b'>') => {
                let open = match close {
                    b')' => b'(',
                    b']' => b'[',
                    b'}' => b'{',
                    _ => b'<',
                };
                if depth.last() == Some(&open) {
                    depth.pop();
                } else if is_open(text, context.start, open, close) && next.is_none_or(|b| is_end(b) || is_quote(b) || b == b'.')
                {
                    break;
                }
            }
            _ => {}
        }
        i += 1;
    }
    while i > at && is_blank(text[i - 1]) {
        i -= 1;
    }
    i
}

/// Whether the value at `at` is an entry of a list with `;`: another entry follows in the same line.
fn ends_in_list(text: &[u8], at: usize) -> bool {
    let end = line_end(text, at).min(at + MAX_LOOKBACK);
    memchr::memchr_iter(b';', &text[at..end]).any(|n| {
        let after = at + n + 1;
        after >= text.len() || is_end(text[after]) || is_quote(text[after]) || pair_follows(text, after, b"=", true)
    })
}

/// Whether a name is a parameter of a URL.
fn is_in_url(text: &[u8], name: usize) -> bool {
    name > 0 && matches!(text[name - 1], b'?' | b'&')
}

/// Words in the position of a value that describe the value.
const STATEMENTS: &[&str] = &[
    "a",
    "accepted",
    "age",
    "an",
    "and",
    "are",
    "argument",
    "as",
    "at",
    "auth",
    "authentication",
    "bad",
    "be",
    "been",
    "bool",
    "bucket",
    "but",
    "by",
    "bytes",
    "cannot",
    "changed",
    "char",
    "check",
    "checks",
    "column",
    "configured",
    "contains",
    "could",
    "created",
    "database",
    "deleted",
    "denied",
    "detected",
    "did",
    "disabled",
    "does",
    "empty",
    "enabled",
    "encrypted",
    "entry",
    "error",
    "exchange",
    "expired",
    "expires",
    "failed",
    "failure",
    "field",
    "file",
    "flag",
    "for",
    "format",
    "found",
    "from",
    "generated",
    "given",
    "group",
    "has",
    "hash",
    "have",
    "history",
    "if",
    "in",
    "incorrect",
    "input",
    "int",
    "integer",
    "invalid",
    "is",
    "it",
    "leaked",
    "length",
    "lifetime",
    "line",
    "loaded",
    "lookup",
    "lost",
    "malformed",
    "manager",
    "mandatory",
    "matched",
    "may",
    "mechanism",
    "method",
    "mismatch",
    "missing",
    "must",
    "needed",
    "needs",
    "new",
    "no",
    "not",
    "null",
    "of",
    "ok",
    "on",
    "only",
    "option",
    "optional",
    "or",
    "pair",
    "parameter",
    "plugin",
    "policy",
    "prompt",
    "protected",
    "provided",
    "received",
    "refresh",
    "refreshed",
    "rejected",
    "renewal",
    "request",
    "required",
    "requires",
    "reset",
    "response",
    "reuse",
    "review",
    "revoked",
    "rotated",
    "rotation",
    "scope",
    "set",
    "should",
    "specified",
    "store",
    "stored",
    "str",
    "strength",
    "string",
    "supplied",
    "table",
    "text",
    "that",
    "the",
    "this",
    "to",
    "too",
    "type",
    "undefined",
    "unexpected",
    "unknown",
    "unset",
    "updated",
    "using",
    "valid",
    "validation",
    "value",
    "varchar",
    "verification",
    "verified",
    "was",
    "were",
    "when",
    "which",
    "will",
    "with",
    "without",
    "wrong",
    "your",
];

/// Values that stand for an empty value.
const EMPTY_VALUES: &[&str] = &[
    "none",
    "null",
    "nil",
    "undefined",
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "empty",
    "unset",
    "n/a",
    "redacted",
    "hidden",
    "masked",
    "filtered",
    "removed",
    "enabled",
    "disabled",
    "nopass",
];

/// Directories of files with secrets; their paths are not secrets.
const SECRET_DIRECTORIES: &[&str] = &[
    "/run/",
    "/etc/",
    "/var/",
    "/opt/",
    "/home/",
    "/usr/",
    "/mnt/",
    "/srv/",
    "/data/",
    "/tmp/",
    "/root/",
    "/secrets/",
    "/vault/",
    "/proc/",
    "/dev/",
    "/certs/",
    "/app/",
    "/config/",
    "/keys/",
    "/tls/",
    "/ssl/",
    "/lib/",
];

/// Whether a word describes a secret: `password expired`.
pub(super) fn is_statement(value: &[u8]) -> bool {
    let word = trimmed(value).to_ascii_lowercase();
    STATEMENTS.iter().any(|w| w.as_bytes() == word)
}

/// The value without punctuation around it.
pub(super) fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value {
        if !matches!(first, b'(' | b'[' | b'{' | b'"' | b'\'' | b'`' | b'<') {
            break;
        }
        value = rest;
    }
    while let [rest @ .., last] = value {
        if !matches!(last, b'.' | b',' | b';' | b':' | b'!' | b'?' | b')' | b']' | b'}' | b'"' | b'\'' | b'`' | b'>') {
            break;
        }
        value = rest;
    }
    value
}

/// Whether this is certainly no secret: empty, a mask, or a reference to the secret.
pub(super) fn is_no_secret(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let text = text.trim();
    let masked = |c: char| matches!(c, '*' | '•' | '.' | '-' | '_' | '#');
    text.is_empty()
        || text.chars().all(masked)
        || (text.len() >= 3 && text.chars().all(|c| matches!(c, 'x' | 'X')))
        || EMPTY_VALUES.iter().any(|n| text.trim_matches(['(', ')', '[', ']', '<', '>', ',']).eq_ignore_ascii_case(n))
        || (text.starts_with('<') && text.ends_with('>'))
        || is_reference(text)
        || is_path(text)
        || is_placeholder(text)
}

/// `${NAME}`, `$(command)`, `{{ name }}`: references to a secret.
pub(super) fn is_reference(text: &str) -> bool {
    let variable = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let braced = |open: &str, close: &str| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    braced("${", "}").is_some_and(variable)
        || braced("{{", "}}").is_some_and(|name| !name.contains(['"', '\'']))
        || text.starts_with("$(")
        || text.starts_with("$__")
        || text.starts_with("file:/")
}

/// `$1`, `?`, as statements of SQL have them; `PASSWORD`, as the usage of a program has it.
fn is_placeholder(text: &str) -> bool {
    const METAVARIABLES: &[&str] = &["PASSWORD", "PASS", "PASSPHRASE", "TOKEN", "SECRET", "KEY", "VALUE", "STRING", "TEXT"];
    let bare = text.trim_matches(['[', ']', '<', '>', '(', ')', ',', '.', ';']);
    METAVARIABLES.contains(&bare)
        || text == "?"
        || text.strip_prefix('$').is_some_and(|n| !n.is_empty() && n.len() <= 2 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether the value is the path of a file, which may contain a secret and is none.
pub(super) fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '@' | '+' | ':');
    let text = text.strip_prefix("./").or_else(|| text.strip_prefix("~/")).map_or(text, |_| text);
    text.chars().all(plain)
        && (SECRET_DIRECTORIES.iter().any(|p| text.starts_with(p))
            || text == "/"
            || text.starts_with("./")
            || text.starts_with("~/"))
}

/// Whether the value is a number, with the signs of counts and sizes.
pub(super) fn is_number(value: &[u8]) -> bool {
    let signs =
        |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'/' | b'%' | b'k' | b'K' | b'M' | b'm' | b's' | b'+' | b'-');
    let value = trimmed(value);
    value.first().is_some_and(u8::is_ascii_digit) && value.iter().all(signs)
}

/// Composition of a word of kinds of characters.
struct Composition {
    digits: usize,
    lower: usize,
    upper: usize,
    symbols: usize,
    other: usize,
}

impl Composition {
    fn of(word: &[u8]) -> Self {
        let mut counts = Self { digits: 0, lower: 0, upper: 0, symbols: 0, other: 0 };
        for byte in word {
            match byte {
                b'0'..=b'9' => counts.digits += 1,
                b'a'..=b'z' => counts.lower += 1,
                b'A'..=b'Z' => counts.upper += 1,
                b'!' | b'$' | b'%' | b'^' | b'&' | b'*' | b'#' | b'~' | b'?' => counts.symbols += 1,
                b'-' | b'_' | b'+' | b'=' => {}
                _ => counts.other += 1,
            }
        }
        counts
    }
}

/// Whether a word is unlike the words of a sentence about a password: `hunter2`, `c4nary!`.
pub(super) fn looks_like_password(word: &[u8]) -> bool {
    let bare = trimmed(word);
    let counts = Composition::of(bare);
    let letters = counts.lower + counts.upper;
    bare.len() >= 6 && letters >= 2 && (counts.digits > 0 || counts.symbols > 0) && counts.other == 0 && !bare.starts_with(b"--")
}

/// Whether the value is a long word of letters and digits: like a token, and unlike a word of a language.
pub(super) fn looks_like_token(word: &[u8], shortest: usize) -> bool {
    let bare = trimmed(word);
    let counts = Composition::of(bare);
    let letters = counts.lower + counts.upper;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'=' | b'/' | b'.' | b'%' | b'~');
    bare.len() >= shortest
        && letters >= 2
        && counts.digits >= 2
        && bare.iter().all(plain)
        && !bare.contains(&b'/') | (counts.lower > 0 && counts.upper > 0 && !bare.starts_with(b"/"))
}

/// Whether a word has a long unbroken run of letters and digits: a token within a sentence, rather than the name of an object.
pub(super) fn looks_opaque(word: &[u8]) -> bool {
    /// Shorter runs are parts of names: the suffix of a pod name has 10 characters.
    const MIN_RUN: usize = 12;
    trimmed(word).split(|b| !b.is_ascii_alphanumeric()).any(|run| {
        let counts = Composition::of(run);
        run.len() >= MIN_RUN && counts.digits >= 2 && counts.lower + counts.upper >= 2
    })
}

/// Whether the value is like `0a1b…` or a UUID: hashes and ids are no secrets.
pub(super) fn looks_like_id(word: &[u8]) -> bool {
    trimmed(word).iter().all(|b| b.is_ascii_hexdigit() || *b == b'-')
}

/// Base64 of `user:password`.
pub(super) fn is_basic_login(word: &[u8]) -> bool {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let bare = word.strip_suffix(b"==").or_else(|| word.strip_suffix(b"=")).unwrap_or(word);
    bare.len() >= 4
        && STANDARD_NO_PAD.decode(bare).is_ok_and(|plain| plain.contains(&b':') && plain.iter().all(|b| *b >= b' ' && *b != 0x7f))
}

/// The part of `span` inside the quotes around it.
pub(super) fn without_quotes(text: &[u8], span: Range<usize>) -> Range<usize> {
    let inner = &text[span.clone()];
    match inner {
        [first, .., last] if first == last && is_quote(*first) => span.start + 1..span.end - 1,
        _ => span,
    }
}
