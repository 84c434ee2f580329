//! Lines of files with a format of their own: `.pgpass`, access lists of Redis, Kubernetes Secrets.

use super::kinds::Search;
use super::values::{self, is_quote, skip_blanks, until};

/// Substrings of such lines.
pub(super) const STARTS: &[&str] =
    &[":*:", ":5432:", ":5433:", ":5434:", ":6432:", " on >", " off >", " #", " on nopass >", "reset >", "resetpass >"];

/// Parses a line that contains one of [`STARTS`].
pub(super) fn line(search: &mut Search<'_>, start: usize, end: usize) {
    if search.text[start] == b':' {
        pgpass(search, start);
    } else if search.text[end - 1] == b'#' {
        let stop = values::word_end(search.text, end);
        if stop - end == 64 && search.text[end..stop].iter().all(u8::is_ascii_hexdigit) {
            search.add(end, stop);
        }
    } else {
        let stop = until(search.text, end, |b| b.is_ascii_whitespace() || is_quote(b));
        if !values::is_no_secret(&search.text[end..stop]) {
            search.add(end, stop);
        }
    }
}

/// `host:port:database:user:password`.
fn pgpass(search: &mut Search<'_>, at: usize) {
    let text = search.text;
    let Some(start) = search.line_start(at) else { return };
    let end = values::line_end(text, at);
    let line = &text[start..end.min(start + values::MAX_VALUE_BYTES)];
    let mut fields = vec![0];
    let mut i = 0;
    while i < line.len() {
        match line[i] {
            b'\\' => i += 1,
            b':' => fields.push(i + 1),
            b if b.is_ascii_whitespace() && fields.len() < 5 => return,
            _ => {}
        }
        i += 1;
    }
    let [_, port, database, user, password] = fields[..] else { return };
    let field = |from: usize, to: usize| &line[from..to - 1];
    let number = |f: &[u8]| f == b"*" || (!f.is_empty() && f.iter().all(u8::is_ascii_digit));
    let name = |f: &[u8]| f.first().is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'*'));
    if number(field(port, database)) && !field(database, user).is_empty() && name(field(user, password)) {
        search.add(start + password, start + line.len());
    }
}

/// Parses `AUTH secret`, `"AUTH" "user" "secret"`, `AUTH PLAIN …`, after the word.
pub(super) fn redis_auth(search: &mut Search<'_>, at: usize) {
    /// Maximum number of words after it.
    const MAX_WORDS: usize = 2;
    let mut at = at;
    for _ in 0..MAX_WORDS {
        at = skip_blanks(search.text, at);
        let Some(first) = search.at(at) else { return };
        let quoted = is_quote(first);
        let from = at + usize::from(quoted);
        let end = if quoted { values::closing_quote(search.text, at) } else { values::word_end(search.text, at) };
        let word = &search.text[from..end];
        if first == b'\n' || values::is_statement(word) || word.ends_with(b":") {
            return;
        }
        // mechanisms of SMTP
        if !matches!(word, b"PLAIN" | b"LOGIN" | b"CRAM-MD5" | b"XOAUTH2") && !values::is_no_secret(word) {
            search.add(from, end);
        }
        at = end + usize::from(quoted);
    }
}

/// Parses all values of a Kubernetes Secret, regardless of their names.
pub(super) fn data(search: &mut Search<'_>, start: usize, end: usize) {
    /// Limit of a block, in bytes.
    const MAX_DOCUMENT: usize = 16 * 1024;
    let text = search.text;
    if !search.holds_kubernetes_secret() {
        return;
    }
    if search.text[start] == b'"' {
        return object(search, end);
    }
    let Some(line) = search.line_start(start) else { return };
    let indent = skip_blanks(text, line) - line;
    let before = &text[line + indent..start];
    if !(before.is_empty() || before == b"string") || values::line_end(text, end) != end {
        return;
    }
    let mut next = end + 1;
    while next < text.len() && next < end + MAX_DOCUMENT {
        let stop = values::line_end(text, next);
        let first = skip_blanks(text, next);
        if first >= stop || first - next <= indent {
            break;
        }
        if let Some(sign) = text[first..stop].iter().position(|b| *b == b':').map(|n| first + n) {
            let value = skip_blanks(text, sign + 1);
            let span = values::without_quotes(text, value..stop);
            if value < stop && !matches!(text[value], b'|' | b'>') && !search.is_redacted(span.start) {
                search.add(span.start, span.end);
            }
        } else {
            // a line of a block
            search.add(first, stop);
        }
        next = stop + 1;
    }
}

/// Parses the string values of the object after `"data"`.
fn object(search: &mut Search<'_>, at: usize) {
    let text = search.text;
    let colon = skip_blanks(text, at);
    if search.at(colon) != Some(b':') {
        return;
    }
    let open = until(text, colon + 1, |b| !b.is_ascii_whitespace());
    if search.at(open) != Some(b'{') {
        return;
    }
    let end = text.len().min(open + values::MAX_VALUE_BYTES * 4);
    let (mut i, mut value) = (open + 1, false);
    while i < end && text[i] != b'}' {
        match text[i] {
            b':' => value = true,
            b',' => value = false,
            b'"' => {
                let close = values::closing_quote(text, i);
                if value && !search.is_redacted(i + 1) {
                    search.found.push(i + 1..close);
                }
                i = close;
            }
            _ => {}
        }
        i += 1;
    }
}
