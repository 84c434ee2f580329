//! Patterns of secrets, recognized by their format or by the text before them. One automaton finds the positions where a secret
//! may follow; a parser for each kind continues from there. Every parser reads a bounded number of bytes, so that the total time
//! is proportional to the text.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::names::{self, Class, MAX_NAME_BYTES};
use super::spans::Spans;
use super::values::{self, ValueContext, is_blank, is_quote, skip_blanks, until};
use super::{lines, options, tokens, urls};

/// Kind of a position where a secret may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// Part of the name of a value.
    Name,
    /// `://`.
    Url,
    /// `@`, of a login without a scheme.
    At,
    /// Address of a webhook, which may have no scheme.
    Webhook,
    /// `Bearer`, `Basic`.
    Scheme,
    /// Prefix of a token: its index in [`tokens::TOKENS`].
    Token(usize),
    /// Characteristic part of a token with an arbitrary prefix.
    Marker,
    /// Prefix of a password hash.
    Hash,
    /// `-----BEGIN`.
    Pem,
    /// A program with options for secrets: its index in [`options::PROGRAMS`].
    Program(usize),
    /// `kind: Secret` may be near.
    Data,
    /// A line of a file with a format of its own.
    Line,
}

/// Substrings of the names in [`names`]: each name contains one of them.
const NAMES: &[&str] = &[
    "pass",
    "pwd",
    "pw",
    "secret",
    "token",
    "cred",
    "key",
    "auth",
    "cookie",
    "jwt",
    "sid",
    "session",
    "salt",
    "sig",
    "webhook",
    "psk",
    "otp",
    "community",
    "kennwort",
    "identified",
    "xsrf",
];

static TRIGGERS: LazyLock<(AhoCorasick, Vec<Trigger>)> = LazyLock::new(|| {
    let names = NAMES.iter().map(|n| (*n, Trigger::Name));
    let tokens = tokens::TOKENS.iter().enumerate().map(|(i, t)| (t.start, Trigger::Token(i)));
    let programs = options::PROGRAMS.iter().enumerate().flat_map(|(i, p)| p.names.iter().map(move |n| (*n, Trigger::Program(i))));
    let with = |trigger| move |text: &&'static str| (*text, trigger);
    let all = names
        .chain(tokens)
        .chain(programs)
        .chain([("://", Trigger::Url), ("@", Trigger::At), ("-----begin", Trigger::Pem), ("data:", Trigger::Data)])
        .chain([("\"data\"", Trigger::Data), ("bearer", Trigger::Scheme), ("basic", Trigger::Scheme)])
        .chain(urls::WEBHOOKS.iter().map(with(Trigger::Webhook)))
        .chain(tokens::MARKERS.iter().map(with(Trigger::Marker)))
        .chain(tokens::HASHES.iter().map(with(Trigger::Hash)))
        .chain(lines::STARTS.iter().map(with(Trigger::Line)));
    let (patterns, triggers): (Vec<&str>, Vec<Trigger>) = all.unzip();
    let automaton = AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(patterns);
    #[expect(clippy::expect_used, reason = "constant patterns, compiled by every test")]
    (automaton.expect("constant patterns"), triggers)
});

/// Origin of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A string.
    Text,
    /// Strings of an array, joined by line breaks.
    Lines,
    /// The same, each `NAME=value`.
    Environment,
}

/// A text that is searched for secrets.
pub(super) struct Search<'a> {
    pub(super) text: &'a [u8],
    pub(super) form: Form,
    /// Whether a word is a learned secret that is too short or too common to be removed everywhere.
    pub(super) is_short_secret: &'a dyn Fn(&[u8]) -> bool,
    pub(super) found: Spans,
    /// Names before this position are done.
    name_end: usize,
    /// The last secret.
    last: Range<usize>,
    /// Whether the text contains `kind: Secret`; `None` until it is needed.
    kubernetes: Option<bool>,
}

/// Matches of secret patterns in `text`.
pub(super) fn find(text: &[u8], form: Form, is_short_secret: &dyn Fn(&[u8]) -> bool) -> Spans {
    let mut search = Search { text, form, is_short_secret, found: Spans::default(), name_end: 0, last: 0..0, kubernetes: None };
    let (automaton, triggers) = &*TRIGGERS;
    for hit in automaton.find_overlapping_iter(text) {
        let (start, end) = (hit.start(), hit.end());
        let trigger = triggers[hit.pattern().as_usize()];
        // no other secret begins within a secret; a hash or a token can continue after the value of a name
        let same = start == search.last.start && matches!(trigger, Trigger::Hash | Trigger::Token(_) | Trigger::Marker);
        if search.last.contains(&start) && !same {
            continue;
        }
        match trigger {
            Trigger::Name => search.name(start, end),
            Trigger::Url => urls::url(&mut search, start),
            Trigger::At => urls::login(&mut search, start),
            Trigger::Webhook => urls::webhook(&mut search, end),
            Trigger::Scheme => search.scheme(start, end),
            Trigger::Token(i) => tokens::token(&mut search, start, &tokens::TOKENS[i]),
            Trigger::Marker => tokens::marker(&mut search, start, end),
            Trigger::Hash => tokens::hash(&mut search, start, end),
            Trigger::Pem => tokens::pem(&mut search, start),
            Trigger::Program(i) => options::program(&mut search, start, end, &options::PROGRAMS[i]),
            Trigger::Data => lines::data(&mut search, start, end),
            Trigger::Line => lines::line(&mut search, start, end),
        }
    }
    search.found
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

impl Search<'_> {
    /// Adds a secret, and skips its content.
    pub(super) fn add(&mut self, start: usize, end: usize) {
        if start < end {
            let end = values::long_end(self.text, &(start..end));
            self.found.push(start..end);
            self.last = start..end;
        }
    }

    pub(super) fn at(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    pub(super) fn before(&self, at: usize) -> Option<u8> {
        at.checked_sub(1).and_then(|i| self.at(i))
    }

    /// Whether the text contains a Kubernetes Secret.
    pub(super) fn holds_kubernetes_secret(&mut self) -> bool {
        const KINDS: &[&str] = &["kind: Secret", "kind: \"Secret\"", "\"kind\":\"Secret\"", "\"kind\": \"Secret\""];
        let text = self.text;
        *self.kubernetes.get_or_insert_with(|| KINDS.iter().any(|kind| memchr::memmem::find(text, kind.as_bytes()).is_some()))
    }

    /// Whether a secret was removed from this position before.
    pub(super) fn is_redacted(&self, at: usize) -> bool {
        self.text[at.min(self.text.len())..].starts_with(super::REDACTED.as_bytes())
    }

    /// Beginning of the line, searched backwards by at most the maximum length of a name.
    pub(super) fn line_start(&self, at: usize) -> Option<usize> {
        let from = at.saturating_sub(MAX_NAME_BYTES);
        match self.text[from..at].iter().rposition(|b| *b == b'\n') {
            Some(n) => Some(from + n + 1),
            None => (from == 0).then_some(0),
        }
    }

    /// Parses the name around a part of it, and the value after it.
    fn name(&mut self, start: usize, end: usize) {
        if start < self.name_end {
            return;
        }
        let first = start.saturating_sub(MAX_NAME_BYTES);
        let mut from = self.text[first..start].iter().rposition(|b| !is_name_byte(*b)).map_or(first, |n| first + n + 1);
        let mut to = until(&self.text[..self.text.len().min(end + MAX_NAME_BYTES)], end, |b| !is_name_byte(b));
        self.name_end = to;
        if to - from > MAX_NAME_BYTES {
            return;
        }
        while to > end && matches!(self.text[to - 1], b'.' | b'-') {
            to -= 1;
        }
        while from < start && self.text[from] == b'.' {
            from += 1;
        }
        let name = &self.text[from..to];
        if name.eq_ignore_ascii_case(b"identified") {
            return self.identified(to);
        }
        let bare = until(name, 0, |b| b != b'-');
        let directive = names::is_directive(&name[bare..]);
        let class = match names::class(name) {
            Some(class) => class,
            None if directive => Class::Password,
            None => return,
        };
        self.named(from, to, class, directive);
    }

    /// Parses the value of the name at `from..to`.
    fn named(&mut self, from: usize, to: usize, class: Class, directive: bool) {
        let quote = self.before(from).filter(|b| is_quote(*b));
        let closed = quote.is_some() && self.at(to) == quote;
        let mut i = if closed { to + 1 } else { to };
        let bracket = self.at(i) == Some(b']') && (closed || self.before(from) == Some(b'['));
        if bracket && matches!(self.at(skip_blanks(self.text, i + 1)), Some(b'=' | b':')) {
            i += 1;
        } else if self.text[i..].starts_with(b"[]") {
            i += 2;
        }
        let sign = skip_blanks(self.text, i);
        let next = self.at(sign + 1);
        let lower = self.text[from..to].to_ascii_lowercase();
        let query = lower.ends_with(b"accesssignature") || lower.ends_with(b"access_signature");
        let context = ValueContext { start: from, quote: quote.filter(|_| !closed), query, ..ValueContext::default() };
        match self.at(sign) {
            Some(b'=') if next == Some(b'>') => self.value(sign + 2, class, b'>', context),
            Some(b'=') if matches!(next, Some(b'=' | b'~')) => {}
            Some(b'=') => {
                let spaced = sign > i && next.is_some_and(is_blank);
                // `password= user=app`
                if sign == i && next.is_some_and(is_blank) && values::is_pair(self.text, sign + 1) {
                    return;
                }
                let entry = self.form == Form::Environment && self.before(from).is_none_or(|b| b == b'\n');
                let whole_line = spaced && self.begins_line(from);
                let list = self.before(self.blanks_before(from)) == Some(b';');
                self.value(sign + 1, class, b'=', ValueContext { whole_line, entry, list, ..context });
            }
            Some(b':') if next == Some(b':') => {}
            Some(b':') if next == Some(b'=') => self.value(sign + 2, class, b'=', context),
            // `arn:aws:secretsmanager:…:secret:name`, `https://x-access-token:…@host`
            Some(b':') if self.before(from) == Some(b':') || self.text[..from].ends_with(b"://") => {}
            Some(b':') => {
                let whole_line = next.is_some_and(is_blank) && self.begins_line(from);
                self.value(sign + 1, class, b':', ValueContext { whole_line, ..context });
            }
            Some(b'>') if self.before(from) == Some(b'<') => {
                let end = until(&self.text[..self.text.len().min(sign + values::MAX_VALUE_BYTES)], sign + 1, |b| b == b'<');
                if self.text[end..].starts_with(b"</") {
                    self.judge(sign + 1, end, class, b'>');
                }
            }
            Some(b',') if self.is_first_of_pair(from, closed) => {
                let at = until(self.text, sign + 1, |b| !b.is_ascii_whitespace());
                if self.at(at + 1) != Some(b'-') || self.text[from] != b'-' {
                    self.value(at, class, b',', context);
                }
            }
            Some(b'(') if sign == to && next.is_some_and(is_quote) => self.value(sign + 1, class, b'=', context),
            _ if self.paired(i, class) => {}
            Some(_) if sign > i || (self.form != Form::Text && self.at(i) == Some(b'\n')) => {
                self.spaced(from, to, sign, class, directive, closed);
            }
            _ => {}
        }
    }

    /// `("password", "secret")`, `{password, <<"secret">>}`, `"--password", "secret"`.
    fn is_first_of_pair(&self, from: usize, closed: bool) -> bool {
        let before = if closed { from.checked_sub(2).and_then(|i| self.at(i)) } else { self.before(from) };
        (closed && self.text[from] == b'-') || before == Some(if closed { b'(' } else { b'{' })
    }

    /// Position before the blanks that end at `at`.
    fn blanks_before(&self, at: usize) -> usize {
        let from = at.saturating_sub(MAX_NAME_BYTES);
        self.text[from..at].iter().rposition(|b| !is_blank(*b)).map_or(from, |n| from + n + 1)
    }

    /// Whether only indentation, a dash or `export` precedes this position in its line.
    fn begins_line(&self, at: usize) -> bool {
        self.line_start(at).is_some_and(|line| {
            let before = self.text[line..at].trim_ascii();
            before.is_empty() || before == b"-" || before == b"export" || before == b"\"" || before == b"'"
        })
    }

    /// Parses `"name": "DB_PASSWORD", "value": "secret"`, also as YAML and XML; returns whether it matches.
    fn paired(&mut self, after: usize, class: Class) -> bool {
        /// Maximum distance between the name and the word.
        const MAX_GAP: usize = 48;
        let gap = |b: u8| b.is_ascii_whitespace() || matches!(b, b',' | b'"' | b'\'' | b'-');
        let end = self.text.len().min(after + MAX_GAP);
        let word = until(&self.text[..end], after, |b| !gap(b));
        if word == after || !self.text[word..].get(..5).is_some_and(|w| w.eq_ignore_ascii_case(b"value")) {
            return false;
        }
        let mut sign = word + 5;
        if self.at(sign).is_some_and(is_quote) {
            sign += 1;
        }
        let sign = skip_blanks(self.text, sign);
        match self.at(sign) {
            Some(b':') => {
                self.value(
                    sign + 1,
                    class,
                    b':',
                    ValueContext { start: word, whole_line: self.begins_line(word), ..ValueContext::default() },
                );
            }
            Some(b'=') => self.value(sign + 1, class, b'=', ValueContext { start: word, ..ValueContext::default() }),
            _ => return false,
        }
        true
    }

    /// Parses the value at `at`, after blanks. `sign`: the character between it and its name.
    fn value(&mut self, at: usize, class: Class, sign: u8, context: ValueContext) {
        match class {
            Class::Authorization => return self.authorization(at, context),
            Class::Cookie if sign != b'=' => return self.cookie(at, context),
            _ => {}
        }
        let mut at = skip_blanks(self.text, at);
        if self.text[at..].starts_with(b"<<\"") {
            at += 2;
        }
        // `@"…"` of C#, `b'…'` and `r"…"` of Python, `E'…'` of PostgreSQL, `Some("…")`
        let prefix = until(&self.text[..self.text.len().min(at + 16)], at, |b| !b.is_ascii_alphanumeric() && b != b'@');
        let opened = prefix + usize::from(self.at(prefix) == Some(b'('));
        if opened > at && self.at(opened).is_some_and(is_quote) && (opened > prefix || prefix - at <= 2) {
            at = opened;
        }
        match self.at(at) {
            None | Some(b'\n' | b'\r') => {}
            Some(quote) if is_quote(quote) => {
                // inside a string in quotes of this kind, the quote ends that string
                if context.quote != Some(quote) {
                    self.quoted(at, class, sign);
                }
            }
            Some(b'[') if class != Class::Webhook => self.list(at, class, sign),
            Some(b'{') if self.at(at + 1) == Some(b'{') => {}
            Some(b'{') if sign == b'=' && self.value_in_braces(at, class) => {}
            Some(b'{') if sign != b'=' => {}
            Some(b'|' | b'>') if sign == b':' && self.block(at, context.start) => {}
            // `<your password>`
            Some(b'<') if self.text[at..self.text.len().min(at + 48)].contains(&b'>') => {}
            // `$(command)`
            Some(b'$') if self.at(at + 1) == Some(b'(') => {}
            // the shell's name for the current directory
            Some(b'/') if sign == b'=' && self.text[..at].to_ascii_lowercase().ends_with(b"pwd=") => {}
            Some(_) => {
                let end = match class {
                    Class::Login => {
                        until(&self.text[..values::word_end(self.text, at)], at, |b| is_quote(b) || b == b']' || b == b'}')
                    }
                    _ => values::unquoted_end(self.text, at, context),
                };
                let word = &self.text[at..values::word_end(self.text, at).min(end)];
                let prose = sign == b':' && is_blank(self.before(at).unwrap_or(b' ')) && values::is_statement(word);
                if !prose {
                    self.judge(at, end, class, sign);
                }
            }
        }
    }

    /// Parses a value in quotes, including text directly attached to it, as in shells.
    fn quoted(&mut self, at: usize, class: Class, sign: u8) {
        let triple = [self.text[at]; 3];
        if self.text[at..].starts_with(&triple) {
            let limit = self.text.len().min(at + values::MAX_VALUE_BYTES);
            let end = memchr::memmem::find(&self.text[at + 3..limit], &triple).map_or(limit, |n| at + 3 + n);
            return self.judge(at + 3, end, class, sign);
        }
        let mut end = values::closing_quote(self.text, at);
        loop {
            if sign != b'=' {
                break;
            }
            let after = end + 1;
            let goes_on = match self.at(after) {
                Some(b'\\') => self.at(after + 1).is_some_and(is_quote) && self.at(after + 2).is_some_and(is_quote),
                Some(b'"' | b'\'') => {
                    self.at(after) != self.at(at) && self.at(after + 1).is_some_and(|b| b.is_ascii_alphanumeric())
                }
                _ => false,
            };
            if !goes_on {
                break;
            }
            let open = until(self.text, after, |b| b != b'\\');
            let open = if self.at(after) == Some(b'\\') { open + 1 } else { open };
            if !self.at(open).is_some_and(is_quote) {
                break;
            }
            end = values::closing_quote(self.text, open);
        }
        self.judge(at + 1, end, class, sign);
    }

    /// `["one", "two"]`.
    fn list(&mut self, at: usize, class: Class, sign: u8) {
        let end = self.text.len().min(at + values::MAX_VALUE_BYTES);
        let mut i = at + 1;
        while i < end && self.text[i] != b']' {
            if is_quote(self.text[i]) {
                let close = values::closing_quote(self.text, i);
                self.judge(i + 1, close, class, sign);
                i = close;
            }
            i += 1;
        }
    }

    /// Parses `{secret}` of ODBC, where `}}` stands for a brace. `false` if the brace is not closed.
    fn value_in_braces(&mut self, at: usize, class: Class) -> bool {
        let end = self.text.len().min(at + values::MAX_VALUE_BYTES);
        let mut i = at + 1;
        while i < end {
            if self.text[i] == b'}' {
                if self.at(i + 1) != Some(b'}') {
                    self.judge(at + 1, i, class, b'=');
                    return true;
                }
                i += 1;
            }
            i += 1;
        }
        false
    }

    /// Parses a block of YAML: `|` or `>`, and lines that are indented more than the line of the name. `false` if there is none.
    fn block(&mut self, at: usize, name: usize) -> bool {
        let first = values::line_end(self.text, at);
        if !self.text[at + 1..first].iter().all(|b| matches!(b, b'-' | b'+' | b'1'..=b'9' | b' ')) || first >= self.text.len() {
            return false;
        }
        let Some(line) = self.line_start(name) else { return false };
        let indent = skip_blanks(self.text, line) - line;
        let (mut next, mut end) = (first + 1, first);
        while next < self.text.len() && next - at < values::MAX_VALUE_BYTES * 4 {
            let text = skip_blanks(self.text, next);
            let last = values::line_end(self.text, next);
            if text < last && text - next <= indent {
                break;
            }
            if text < last {
                end = last;
            }
            next = last + 1;
        }
        self.add(skip_blanks(self.text, first + 1), end);
        true
    }

    /// Adds a value, or the secret part of it, unless it is only a text in the position of a secret.
    fn judge(&mut self, start: usize, end: usize, class: Class, sign: u8) {
        let value = &self.text[start..end.max(start)];
        if values::is_no_secret(value) || value == super::REDACTED.as_bytes() {
            return;
        }
        let number = values::is_number(value);
        match class {
            Class::Plural if number => {}
            // test results
            Class::Password if number && value.len() <= 4 && sign != b'=' => {}
            Class::Password | Class::Secret | Class::Plural => self.add(start, end),
            Class::Login => {
                if let Some(n) = value.iter().position(|b| *b == b':') {
                    self.add(start + n + 1, end);
                }
            }
            Class::Webhook => {
                let host = memchr::memmem::find(value, b"://").map_or(0, |n| n + 3);
                let path = until(value, host, |b| b == b'/');
                if host > 0 && path < value.len() {
                    self.add(start + path + 1, end);
                }
            }
            Class::Weak | Class::Cookie | Class::Authorization => {
                if values::looks_like_token(value, 16) || values::is_basic_login(value) || (self.is_short_secret)(value) {
                    self.add(start, end);
                }
            }
            Class::Key => {
                if values::looks_like_token(value, 16) && !values::looks_like_id(value) && !value.contains(&b'.') {
                    self.add(start, end);
                }
            }
        }
    }

    /// Parses a value separated from its name by blanks only: an option, a line of a file, a statement of SQL, a sentence.
    fn spaced(&mut self, from: usize, to: usize, at: usize, class: Class, directive: bool, closed: bool) {
        let option = self.text[from] == b'-' && !closed;
        let certain = matches!(class, Class::Password | Class::Secret | Class::Plural | Class::Login);
        // the value of an option in an array is the next element
        let element =
            self.form != Form::Text && option && self.at(to) == Some(b'\n') && self.before(from).is_none_or(|b| b == b'\n');
        let at = if element { to + 1 } else { at };
        let Some(first) = self.at(at) else { return };
        if first == b'\n' || first == b'\r' {
            return;
        }
        if element {
            let end = values::line_end(self.text, at);
            if certain && (first != b'-' || class == Class::Password) {
                self.judge(at, end, class, b' ');
            }
            return;
        }
        if is_quote(first) {
            let end = values::closing_quote(self.text, at);
            let inner = &self.text[at + 1..end];
            match class {
                Class::Authorization => self.authorization(at, ValueContext { start: from, ..ValueContext::default() }),
                Class::Password if directive || option || (!closed && first != b'`') => self.judge(at + 1, end, class, b' '),
                _ if directive || (option && certain) => self.judge(at + 1, end, class, b' '),
                _ if self.is_redis_auth(from, to) => lines::redis_auth(self, at),
                Class::Secret if values::looks_opaque(inner) => self.judge(at + 1, end, class, b' '),
                _ => {}
            }
            return;
        }
        let end = values::word_end(self.text, at);
        let word = &self.text[at..end];
        let name_is = |name: &[u8]| self.text[from..to].eq_ignore_ascii_case(name);
        if option && certain {
            if first != b'-' && !values::is_statement(word) {
                let end = values::unquoted_end(self.text, at, ValueContext { start: from, ..ValueContext::default() });
                self.judge(at, end, class, b' ');
            }
        } else if option && class == Class::Weak && word.contains(&b':') && memchr::memmem::find(word, b"://").is_none() {
            self.judge(at, end, Class::Login, b' ');
        } else if name_is(b"auth-pass") {
            // `sentinel auth-pass name secret`
            let second = skip_blanks(self.text, end);
            self.judge(second, values::word_end(self.text, second), class, b' ');
        } else if directive || (certain && (self.is_short_secret)(word)) {
            let end = values::unquoted_end(self.text, at, ValueContext { start: from, ..ValueContext::default() });
            self.judge(at, end, class, b' ');
        } else if class == Class::Login || self.text[..from].trim_ascii_end().ends_with(b"stats") {
            // `stats auth admin:secret`
            self.judge(at, end, Class::Login, b' ');
        } else if self.is_redis_auth(from, to) {
            lines::redis_auth(self, at);
        } else if certain {
            self.sentence(from, to, at, class);
        }
    }

    /// `AUTH secret`, at the beginning of a command.
    fn is_redis_auth(&self, from: usize, to: usize) -> bool {
        &self.text[from..to] == b"AUTH"
            && match self.before(self.blanks_before(from)) {
                None => true,
                Some(b'2' | b'3') => self.text[..from].trim_ascii_end()[..self.text[..from].trim_ascii_end().len() - 1]
                    .trim_ascii_end()
                    .ends_with(b"HELLO"),
                Some(b) => matches!(b, b'"' | b'>' | b'\n'),
            }
    }

    /// Parses a secret in a sentence: only words that do not occur in sentences.
    fn sentence(&mut self, from: usize, to: usize, at: usize, class: Class) {
        let mut at = at;
        let mut end = values::word_end(self.text, at);
        let is_about = matches!(&self.text[at..end], b"for" | b"of");
        if is_about {
            // `the password for root is secret`
            let line = &self.text[..values::line_end(self.text, at).min(at + MAX_NAME_BYTES)];
            let Some(n) = memchr::memmem::find(&line[end.min(line.len())..], b" is ") else { return };
            (at, end) = (end + n + 1, end + n + 3);
        }
        // `password is secret`, `password 7 0822455D0A16`
        if matches!(&self.text[at..end], b"is" | b"was" | b"to" | b"=" | b"0" | b"5" | b"7" | b"8" | b"9") {
            at = skip_blanks(self.text, end);
            end = values::word_end(self.text, at);
        }
        let word = &self.text[at..end];
        let bare = values::trimmed(word);
        let name = &self.text[from..to];
        let line = || self.begins_line(from) && skip_blanks(self.text, end) >= values::line_end(self.text, at);
        let secret = match class {
            // a test result is followed by its name
            Class::Password if name.eq_ignore_ascii_case(b"pass") => false,
            Class::Password => {
                values::looks_like_password(word)
                    || (!is_about && self.follows_login(from) && !values::is_statement(word))
                    || (!is_about
                        && line()
                        && !values::is_statement(word)
                        && name.is_ascii()
                        && bare.iter().all(u8::is_ascii_alphanumeric))
            }
            _ => values::looks_opaque(word),
        };
        if secret && !values::is_no_secret(word) {
            // a sentence ends with a period, a password may end with anything else
            let end = if word.ends_with(b".") || word.ends_with(b",") { end - 1 } else { end };
            self.add(at, end);
        }
    }

    /// `login me password secret`: whether a name follows `login` before this position.
    fn follows_login(&self, at: usize) -> bool {
        let from = at.saturating_sub(MAX_NAME_BYTES);
        let mut words = self.text[from..at].split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).rev();
        words.next().is_some() && words.next() == Some(b"login")
    }

    /// Parses `IDENTIFIED BY 'secret'`, `IDENTIFIED WITH plugin BY 'secret'`.
    fn identified(&mut self, at: usize) {
        let end = self.text.len().min(at + 96);
        let Some(quote) = self.text[at..end].iter().position(|b| is_quote(*b)).map(|n| at + n) else { return };
        let between = self.text[at..quote].to_ascii_lowercase();
        let words: Vec<&[u8]> = between.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()).collect();
        let by = matches!(words.as_slice(), [b"by"] | [b"by", b"password"] | [b"with", _, b"by" | b"as"]);
        if by {
            self.add(quote + 1, values::closing_quote(self.text, quote));
        }
    }

    /// End of a header: the quote around it, or the end of the line.
    fn header_end(&self, at: usize, context: ValueContext) -> usize {
        let line = values::line_end(self.text, at).min(at + values::MAX_VALUE_BYTES);
        match context.quote {
            Some(quote) => until(&self.text[..line], at, |b| b == quote),
            None => line,
        }
    }

    /// Parses the text after the scheme of `Authorization: Basic …`.
    fn authorization(&mut self, at: usize, context: ValueContext) {
        let mut at = skip_blanks(self.text, at);
        let mut end = self.header_end(at, context);
        if self.at(at) == Some(b'[') {
            end = until(&self.text[..end], at, |b| b == b']');
            at += 1;
        }
        if self.at(at).is_some_and(is_quote) && context.quote != self.at(at) {
            end = values::closing_quote(self.text, at);
            at += 1;
        }
        if at >= end {
            return;
        }
        let scheme = until(&self.text[..end], at, |b| !b.is_ascii_alphanumeric() && b != b'-');
        let rest = skip_blanks(&self.text[..end], scheme);
        let word = &self.text[at..scheme];
        if values::is_statement(word) {
            return;
        }
        if rest == scheme {
            // without a scheme
            let stop = |b: u8| b.is_ascii_whitespace() || is_quote(b) || matches!(b, b',' | b';' | b')' | b'}');
            let end = until(&self.text[..end], at, stop);
            let value = &self.text[at..end];
            if values::looks_like_token(value, 8) {
                self.add(at, end);
            }
            return;
        }
        let several = word.eq_ignore_ascii_case(b"digest") || word.starts_with(b"AWS") || word.eq_ignore_ascii_case(b"hawk");
        let stop = |b: u8| b.is_ascii_whitespace() || is_quote(b) || matches!(b, b',' | b';' | b')' | b'}' | b']');
        let end = if several { end } else { until(&self.text[..end], rest, stop) };
        if !self.is_redacted(rest) {
            self.add(rest, end);
        }
    }

    /// Parses all of `Cookie: name=value; …`.
    fn cookie(&mut self, at: usize, context: ValueContext) {
        let mut at = skip_blanks(self.text, at);
        let mut end = self.header_end(at, context);
        if self.at(at).is_some_and(is_quote) && context.quote != self.at(at) {
            end = values::closing_quote(self.text, at);
            at += 1;
        }
        if at < end && self.text[at..end].contains(&b'=') {
            self.add(at, end);
        }
    }

    /// Parses `Bearer` and `Basic` without their header.
    fn scheme(&mut self, start: usize, end: usize) {
        let at = skip_blanks(self.text, end);
        if at == end || self.before(start).is_some_and(|b| b.is_ascii_alphanumeric()) {
            return;
        }
        let token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b'-');
        let stop = until(&self.text[..self.text.len().min(at + values::MAX_VALUE_BYTES)], at, |b| !token(b));
        let word = &self.text[at..stop];
        let secret = if end - start == 5 {
            values::is_basic_login(word) || values::looks_like_token(word, 8)
        } else {
            values::looks_like_token(word, 12)
        };
        if secret {
            self.add(at, stop);
        }
    }
}
