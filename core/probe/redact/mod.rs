//! Redaction of secrets: every string of every piece of evidence passes through this module before it is judged, recorded, logged
//! or shown.
//!
//! Two kinds of secrets are replaced by [`REDACTED`]:
//!
//! - **Learned secrets**: the values of secret variables in the environments of containers and servers, passwords of configurations and of
//!   logins. They are removed everywhere: verbatim, with any of their characters escaped as in JSON (also JSON within JSON),
//!   percent-encoded or as HTML entities, in base64 (both alphabets, padded or not, also in the middle of a longer text such as
//!   `user:password`), in hexadecimal digits, and cut off at the end of a text.
//! - **Patterns of secrets**, which need not be learned first: values of names like `password` ([`names`]), logins in addresses
//!   ([`urls`]), options of programs ([`options`]), headers, tokens with a known prefix, private keys and hashes of passwords
//!   ([`tokens`]), lines of files with a format of their own ([`lines`]). The corpus of this module has an example of each.
//!
//! A learned secret of less than [`MIN_LEARNED_BYTES`] bytes, or one that is an ordinary word ([`ORDINARY`]), would remove large
//! parts of a report, and within a sentence it is not recognizable as a password. It is removed only in the position of a secret:
//! as the value of a secret name, as the login of an address, after an option for a secret.

#[cfg(test)]
mod corpus;
mod decode;
mod kinds;
mod learned;
mod lines;
mod names;
mod options;
mod spans;
mod tokens;
mod urls;
mod values;

use std::borrow::Cow;

use kinds::Form;
use learned::Learned;
use names::Class;
use spans::{Spans, replaced};

/// Replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// Minimum length of a secret that is removed everywhere. Shorter values are common as ordinary words, and are removed only in
/// the position of a secret.
const MIN_LEARNED_BYTES: usize = 6;

/// Limit of passes over one text: a removed secret can join two parts that look like another one.
const MAX_PASSES: usize = 4;

/// Limit of a text; a longer one is cut, because unchecked text is not shown. No evidence is that long.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// Limit of bytes learned from one environment. The output of one process must not crowd out that of others.
const MAX_ENVIRONMENT_BYTES: usize = 64 << 10;

/// Values of secret-looking variables on many hosts that are ordinary words everywhere else.
const ORDINARY: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "default",
    "disabled",
    "enabled",
    "localhost",
    "production",
    "staging",
    "development",
    "docker",
    "container",
    "healthy",
    "unhealthy",
    "running",
    "exited",
    "require",
    "prefer",
    "optional",
    "required",
    "public",
    "private",
    "redacted",
    "username",
    "administrator",
    "example",
    "service",
    "server",
    "system",
    "database",
    "postgres",
    "postgresql",
    "mysqld",
    "mariadb",
    "mongodb",
    "rabbitmq",
    "memcached",
    "elasticsearch",
    "celery",
    "django",
    "grafana",
    "prometheus",
    "alertmanager",
    "kubernetes",
    "application",
    "backend",
    "frontend",
    "worker",
    "message",
    "changed",
    "failed",
    "error",
    "warning",
];

/// Learned secrets of a run, and the patterns of secrets.
#[derive(Debug, Default)]
pub struct Redactor {
    learned: Learned,
}

impl Redactor {
    /// Increases with every learned secret and name: a text that was scrubbed at the same generation need not be scrubbed again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.learned.generation()
    }

    /// Registers the name of an object. It is shown even if it is used as a password, but only as a whole name.
    pub fn register_name(&self, name: &str) {
        self.learned.register_name(name);
    }

    /// Learns the secrets in a `NAME=value` list: values of secret names, and matches of secret patterns in the others, also
    /// within JSON, lists and addresses.
    pub fn learn_environment<'a>(&self, environment: impl IntoIterator<Item = &'a str>) {
        let mut left = MAX_ENVIRONMENT_BYTES;
        for entry in environment {
            if let Some((name, value)) = entry.split_once('=') {
                let Some(rest) = left.checked_sub(value.len()) else { continue };
                left = rest;
                self.learn_variable(name, value);
            }
        }
    }

    /// Learns the secrets in the words of a command.
    pub fn learn_arguments<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) {
        let mut joined = String::new();
        for word in arguments {
            if joined.len() + word.len() > MAX_ENVIRONMENT_BYTES {
                break;
            }
            if !joined.is_empty() {
                joined.push('\n');
            }
            joined.push_str(word);
        }
        self.learn_found(&joined, Form::Lines);
    }

    fn learn_variable(&self, name: &str, value: &str) {
        let found = self.learn_found(&format!("{name}={value}"), Form::Environment);
        let class = names::class(name.as_bytes());
        if let Ok(json) = serde_json::from_str::<serde_json::Value>(value)
            && (json.is_object() || json.is_array())
        {
            return self.learn_json(&json, class.is_some());
        }
        // the secret of an address is its login
        let address = value.contains("://");
        if class.is_some_and(|class| class != Class::Login && !(address && (found || class == Class::Key))) {
            self.learn(value);
            // one of several
            value.split([',', ';', ' ', '\n']).filter(|one| one.len() < value.len()).for_each(|one| self.learn_long(one));
        } else if looks_random(value) && !is_named_as_id(name, value) {
            self.learn(value);
        }
        for url in value.split([',', ' ', ';']) {
            if let Some(password) = urls::password(url) {
                self.learn(password);
                self.learn_decoded(password);
            }
        }
    }

    /// Learns one of several values under a secret name, unless it is a word.
    fn learn_long(&self, secret: &str) {
        if values::looks_like_password(secret.as_bytes()) || looks_random(secret) {
            self.learn(secret);
        }
    }

    /// Learns the matches of secret patterns in a text; returns whether there are any.
    fn learn_found(&self, text: &str, form: Form) -> bool {
        let mut any = false;
        let nothing_short = |_: &[u8]| false;
        let mut learn = |bytes: &[u8]| {
            for span in kinds::find(bytes, form, &nothing_short).merged(&String::from_utf8_lossy(bytes)) {
                if let Some(secret) = bytes.get(span).and_then(|s| std::str::from_utf8(s).ok()) {
                    any = true;
                    self.learn(secret);
                    self.learn_decoded(secret);
                }
            }
        };
        learn(text.as_bytes());
        for decoded in decode::decoded(text.as_bytes(), false) {
            learn(&decoded.bytes);
        }
        any
    }

    /// Learns the decoded form of a secret that is written with escapes.
    fn learn_decoded(&self, secret: &str) {
        for decoded in decode::decoded(secret.as_bytes(), false) {
            if let Ok(secret) = std::str::from_utf8(&decoded.bytes) {
                self.learn(secret);
            }
        }
    }

    /// Learns the secrets in JSON: values of secret names, and within a secret every text that does not look like a word.
    fn learn_json(&self, json: &serde_json::Value, within: bool) {
        match json {
            serde_json::Value::String(text) => {
                let found = self.learn_found(text, Form::Text);
                if within && !found && !text.contains("://") {
                    self.learn_long(text);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.learn_json(item, within)),
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(text) if is_secret_name(name) => self.learn(text),
                        _ => self.learn_json(value, within),
                    }
                }
            }
            _ => {}
        }
    }

    /// Learns one secret. A short or an ordinary one is removed only in the position of a secret.
    pub fn learn(&self, secret: &str) {
        let secret = secret.trim();
        // a path is the location of a secret, not the secret
        if secret.is_empty()
            || REDACTED.contains(secret)
            || (secret.starts_with('/') && !secret.contains(' ') && values::is_path(secret))
        {
            return;
        }
        if values::is_no_secret(secret.as_bytes()) && !secret.starts_with("${") {
            return;
        }
        if secret.len() < MIN_LEARNED_BYTES || ORDINARY.contains(&secret.to_ascii_lowercase().as_str()) {
            self.learned.insert_short(secret);
        } else {
            self.learned.insert(secret);
        }
    }

    /// `text` without secrets.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let mut text = bounded(text);
        for _ in 0..MAX_PASSES {
            let spans = self.find(text.as_bytes(), Form::Text);
            if spans.is_empty() {
                break;
            }
            let clean = replaced(&text, &spans.merged(&text));
            if clean == text {
                break;
            }
            text = Cow::Owned(clean);
        }
        text.into_owned()
    }

    /// The secrets in a text and in its decoded forms.
    fn find(&self, text: &[u8], form: Form) -> Spans {
        let is_short = |word: &[u8]| self.learned.is_short(word);
        let mut found = self.learned.find(text);
        found.extend_with(&kinds::find(text, form, &is_short), Clone::clone);
        for decoded in decode::decoded(text, self.learned.has_space()) {
            found.extend_with(&self.learned.find(&decoded.bytes), |span| decoded.origin(span));
            found.extend_with(&kinds::find(&decoded.bytes, form, &is_short), |span| decoded.origin(span));
        }
        found
    }

    /// Removes secrets from strings that belong together: the words of a command, the lines of a log, the entries of an
    /// environment. Returns whether any was removed.
    fn scrub_strings(&self, strings: &mut [&mut String]) -> bool {
        let is_entry =
            |s: &str| s.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.bytes().all(is_variable_byte));
        let form = if strings.iter().all(|s| is_entry(s)) { Form::Environment } else { Form::Lines };
        let mut any = false;
        for _ in 0..MAX_PASSES {
            let joined = strings.iter().map(|s| s.as_str()).collect::<Vec<_>>().join("\n");
            let spans = self.find(joined.as_bytes(), form);
            if spans.is_empty() {
                break;
            }
            let spans = spans.merged(&joined);
            let (mut start, mut changed, mut first) = (0, false, 0);
            for string in strings.iter_mut() {
                let end = start + string.len();
                while first < spans.len() && spans[first].end <= start {
                    first += 1;
                }
                let inside = spans[first..].iter().take_while(|s| s.start < end);
                let inside: Vec<_> =
                    inside.map(|s| s.start.max(start) - start..s.end.min(end) - start).filter(|s| !s.is_empty()).collect();
                if !inside.is_empty() {
                    let clean = replaced(string, &inside);
                    changed |= clean != **string;
                    **string = clean;
                }
                start = end + 1;
            }
            if !changed {
                break;
            }
            any = true;
        }
        any
    }

    /// Scrubs every string of a JSON value in place; returns whether any secret was removed. A string under a secret name is
    /// removed as a whole. Field names of opsctl stay; other keys are scrubbed as well.
    pub fn scrub_json(&self, value: &mut serde_json::Value) -> bool {
        match value {
            serde_json::Value::String(s) => {
                let clean = self.scrub(s);
                let changed = clean != *s;
                if changed {
                    *s = clean;
                }
                changed
            }
            serde_json::Value::Array(items) => self.scrub_items(items),
            serde_json::Value::Object(fields) => self.scrub_fields(fields),
            _ => false,
        }
    }

    fn scrub_items(&self, items: &mut [serde_json::Value]) -> bool {
        let mut changed = false;
        let mut strings = Vec::new();
        let mut bytes = 0;
        for item in items {
            if item.as_str().is_none_or(|s| bytes + s.len() >= MAX_TEXT_BYTES) {
                changed |= self.scrub_json(item);
            } else if let serde_json::Value::String(s) = item {
                bytes += s.len() + 1;
                strings.push(s);
            }
        }
        if !strings.is_empty() {
            changed |= self.scrub_strings(&mut strings);
        }
        changed
    }

    fn scrub_fields(&self, fields: &mut serde_json::Map<String, serde_json::Value>) -> bool {
        // `{"name": "DB_PASSWORD", "value": "secret"}`
        let named = ["name", "key", "Name", "Key"].iter().filter_map(|k| fields.get(*k)?.as_str()).any(is_secret_name);
        let mut changed = false;
        for (name, value) in fields.iter_mut() {
            let is_secret = || is_secret_name(name) || (named && name.eq_ignore_ascii_case("value"));
            match value {
                serde_json::Value::String(s) if is_secret() && s != REDACTED && !values::is_no_secret(s.as_bytes()) => {
                    REDACTED.clone_into(s);
                    changed = true;
                }
                other => changed |= self.scrub_json(other),
            }
        }
        let foreign = |name: &&String| !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let renamed: Vec<(String, String)> =
            fields.keys().filter(foreign).map(|k| (k.clone(), self.scrub(k))).filter(|(old, new)| old != new).collect();
        for (old, new) in renamed {
            if let Some(value) = fields.remove(&old) {
                let free = (2..).map(|n| format!("{new} ({n})"));
                let name =
                    std::iter::once(new.clone()).chain(free).find(|name| !fields.contains_key(name)).unwrap_or(new.clone());
                fields.insert(name, value);
                changed = true;
            }
        }
        changed
    }
}

/// A text, cut to the limit.
fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT_BYTES {
        return Cow::Borrowed(text);
    }
    let end = (0..=MAX_TEXT_BYTES).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    Cow::Owned(format!("{} [{} more bytes left out]", &text[..end], text.len() - end))
}

fn is_variable_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

/// Whether every value of this name is secret.
fn is_secret_name(name: &str) -> bool {
    matches!(
        names::class(name.as_bytes()),
        Some(Class::Password | Class::Secret | Class::Plural | Class::Cookie | Class::Authorization)
    )
}

/// Whether a value of a harmless-looking variable can only be a token: long, without separators, letters and digits mixed.
fn looks_random(value: &str) -> bool {
    value.len() >= 20
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '='))
        && value.chars().filter(char::is_ascii_digit).count() >= 4
        && value.chars().filter(char::is_ascii_alphabetic).count() >= 4
}

/// Whether the name of a variable marks its value as a hash or an id: `GIT_COMMIT`, `IMAGE_DIGEST`, `REQUEST_ID`.
fn is_named_as_id(name: &str, value: &str) -> bool {
    const IDS: &[&str] = &[
        "id",
        "uuid",
        "git",
        "commit",
        "sha",
        "sha1",
        "sha256",
        "sha512",
        "md5",
        "rev",
        "revision",
        "digest",
        "checksum",
        "version",
        "tag",
        "image",
        "hash",
        "release",
        "ref",
        "hostname",
        "host",
        "pod",
        "node",
        "gpg",
        "fingerprint",
    ];
    let named = name.split('_').any(|word| IDS.iter().any(|id| word.eq_ignore_ascii_case(id)));
    named && (values::looks_like_id(value.as_bytes()) || value.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let r = Redactor::default();
        r.register_name("shared_postgres");
        r.learn_environment([
            "POSTGRES_PASSWORD=postgres",
            "API_TOKEN=hunter2-canary",
            "DATABASE_URL=postgres://app:p4ss-canary@db:5432/app",
            "PATH=/usr/local/bin:/usr/bin",
            "TLS_KEY=/etc/ssl/key.pem",
            "LANG=C.UTF-8",
            "BUILD=abcdefgh12345678abcdefgh",
        ]);
        r
    }

    #[test]
    fn learned_secrets_are_removed_everywhere() {
        let r = redactor();
        assert_eq!(r.scrub("login hunter2-canary failed"), format!("login {REDACTED} failed"));
        assert_eq!(r.scrub("p4ss-canary"), REDACTED);
        assert_eq!(r.scrub("x abcdefgh12345678abcdefgh"), format!("x {REDACTED}"));
    }

    #[test]
    fn names_paths_and_ordinary_words_stay() {
        let r = redactor();
        for text in
            ["shared_postgres", "/usr/local/bin:/usr/bin", "/etc/ssl/key.pem", "C.UTF-8", "password authentication failed"]
        {
            assert_eq!(r.scrub(text), text);
        }
        assert_eq!(r.scrub("/etc/ssl/key.pem: no such file"), "/etc/ssl/key.pem: no such file");
    }

    #[test]
    fn patterns_match_secrets_that_were_not_learned() {
        let r = Redactor::default();
        for (text, secret) in [
            ("connecting to redis://:s3cret@cache:6379/0", "s3cret"),
            ("POSTGRES_PASSWORD=abc", "abc"),
            (r#"{"api_key":"zzz-1","user":"x"}"#, "zzz-1"),
            ("Authorization: Bearer abc.def.ghijk", "abc.def.ghijk"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJhbGci"),
            ("key AKIAIOSFODNN7EXAMPLE used", "AKIAIOSFODNN7EXAMPLE"),
            ("mysql --password hunter3 -u root", "hunter3"),
            ("token: tok-99", "tok-99"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIzzz==", "MIIzzz"),
            (r#"{"private_key": "-----BEGIN PRIVATE KEY-----\nMIIzzz\nzz\n-----END PRIVATE KEY-----\n"}"#, "MIIzzz"),
        ] {
            let clean = r.scrub(text);
            assert!(!clean.contains(secret), "{text} -> {clean}");
            assert!(clean.contains(REDACTED), "{text} -> {clean}");
        }
    }

    #[test]
    fn variable_references_in_advice_stay() {
        let r = redactor();
        let advice = "[[server]] name = \"queue\" user = \"…\" password = \"${RABBITMQ_PASSWORD}\"";
        assert_eq!(r.scrub(advice), advice);
        for text in ["password=${abc}", "password=${ABC", "password=${}", "password=$ABC", "password=${A B}"] {
            assert!(r.scrub(text).contains(REDACTED), "{text} -> {}", r.scrub(text));
        }
        // a learned secret is removed, in any form
        r.learn("${HUNTER_2}");
        assert!(!r.scrub("password=${HUNTER_2}").contains("HUNTER"));
    }

    #[test]
    fn scrubbing_twice_changes_nothing() {
        let r = redactor();
        for text in ["password=hunter2-canary", "redis://:s3cret@cache", "plain"] {
            let once = r.scrub(text);
            assert_eq!(r.scrub(&once), once);
        }
    }

    #[test]
    fn every_string_of_a_document_is_scrubbed() {
        let r = redactor();
        let mut v = serde_json::json!({"a": ["hunter2-canary", {"b": "x hunter2-canary"}], "n": 1});
        r.scrub_json(&mut v);
        assert!(!v.to_string().contains("canary"), "{v}");
    }

    fn learned(secret: &str) -> Redactor {
        let r = Redactor::default();
        r.learn(secret);
        r
    }

    #[test]
    fn learned_secret_in_json_is_removed() {
        let r = learned("ca\"na\\ry/\u{e9} 1");
        for (text, clean) in [
            (r#"a "ca\"na\\ry/é 1" b"#, r#"a "[redacted]" b"#),
            (r#"a "ca\"na\\ry\/\u00e9 1" b"#, r#"a "[redacted]" b"#),
            (r#"a \"ca\\\"na\\\\ry/é 1\" b"#, r#"a \"[redacted]\" b"#),
            (r#"a \\\"ca\\\\\\\"na\\\\\\\\ry/é 1\\\" b"#, r#"a \\\"[redacted]\\\" b"#),
        ] {
            assert_eq!(r.scrub(text), clean);
        }
    }

    #[test]
    fn learned_secret_in_percent_encoding_is_removed() {
        let r = learned("ca/n+a r&y=\u{e9}");
        for text in [
            "ca%2Fn%2Ba%20r%26y%3D%C3%A9",
            "ca%2fn%2ba+r%26y%3d%c3%a9",
            "ca/n%2Ba%20r&y=%C3%A9",
            "ca%252Fn%252Ba%2520r%2526y%253D%25C3%25A9",
        ] {
            assert_eq!(r.scrub(&format!("GET /?x={text} 200")), "GET /?x=[redacted] 200", "{text}");
        }
    }

    #[test]
    fn learned_secret_in_html_is_removed() {
        assert_eq!(learned("can<a&ry\"").scrub("<p>can&lt;a&amp;ry&#34;</p>"), "<p>[redacted]</p>");
    }

    #[test]
    fn learned_secret_in_base64_is_removed() {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        let secret = "c4n?a>ry~\u{ff}\u{fe}";
        let r = learned(secret);
        for before in ["", "u", "us", "usr", "user:", "a longer text before "] {
            for after in ["", "1", "12", " and a text behind"] {
                for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
                    let encoded = engine.encode(format!("{before}{secret}{after}"));
                    let clean = r.scrub(&format!("x \"{encoded}\" y"));
                    // the rest encodes the text before the secret
                    let left = clean.strip_prefix("x \"").and_then(|c| c.strip_suffix("[redacted]\" y")).unwrap_or("not removed");
                    assert!(engine.encode(before).starts_with(left), "{before}…{after} {encoded}: {clean}");
                }
            }
        }
    }

    #[test]
    fn short_learned_secret_in_basic_auth_is_removed() {
        assert_eq!(learned("canary").scrub("proxy sent dXNlcjpjYW5hcnk= upstream"), "proxy sent dXNlcj[redacted] upstream");
    }

    #[test]
    fn learned_secret_in_hexadecimal_digits_is_removed() {
        let r = learned("canary-1");
        assert_eq!(r.scrub("key 63616e6172792d31 set"), "key [redacted] set");
        assert_eq!(r.scrub("key 63616E6172792D31 set"), "key [redacted] set");
    }

    #[test]
    fn short_learned_secret_is_removed_only_in_the_position_of_a_secret() {
        let r = Redactor::default();
        r.learn_environment(["REDIS_PASSWORD=x7k", "DB_PASSWORD=guest", "APP_SECRET=postgres"]);
        for text in ["guest postgres x7k", "user guest logged in to postgres", "redis-cli -h guest"] {
            assert_eq!(r.scrub(text), text);
        }
        assert_eq!(r.scrub("password x7k rejected"), "password [redacted] rejected");
        assert_eq!(r.scrub("tried the password postgres"), "tried the password [redacted]");
        assert_eq!(r.scrub("amqp://guest:guest@queue"), "amqp://guest:[redacted]@queue");
        assert_eq!(r.scrub("auth=x7k"), "auth=[redacted]");
    }

    #[test]
    fn secrets_in_json_of_an_environment_are_learned() {
        let r = Redactor::default();
        r.learn_environment([
            r#"APP={"db":{"host":"db-host","password":"can\u0061ry-1"},"list":[{"api_key":"canary-2"}]}"#,
            r#"CREDENTIALS={"kind":"account","id":"c4nary0123","url":"https://example.org/token"}"#,
        ]);
        assert_eq!(r.scrub("canary-1, canary-2, c4nary0123"), "[redacted], [redacted], [redacted]");
        assert_eq!(r.scrub("db-host account https://example.org/token"), "db-host account https://example.org/token");
    }

    #[test]
    fn secrets_in_lists_of_an_environment_are_learned() {
        let r = Redactor::default();
        r.learn_environment([
            "ConnectionStrings__Main=Server=db-host;User Id=app;Password=can ary;1;Encrypt=true",
            "CELERY=amqp://a:canary-1@q1//;amqp://a:canary-2@q2//",
            "API_TOKENS=c4nary0001,c4nary0002",
            "OPTIONS=host=db-host,password=canary-4,ssl=true",
        ]);
        for secret in ["can ary;1", "canary-1", "canary-2", "c4nary0001", "c4nary0002", "canary-4"] {
            assert_eq!(r.scrub(&format!("it is {secret}, so")), "it is [redacted], so", "{secret}");
        }
        assert_eq!(r.scrub("db-host app true"), "db-host app true");
    }

    #[test]
    fn percent_encoded_password_of_an_environment_is_learned_decoded() {
        let r = Redactor::default();
        r.learn_environment(["DATABASE_URL=postgres://app:can%40ry%2F1@db/app"]);
        assert_eq!(r.scrub("sent can@ry/1 and can%40ry%2f1"), "sent [redacted] and [redacted]");
    }

    #[test]
    fn secrets_of_a_command_are_learned() {
        let r = Redactor::default();
        r.learn_arguments(["app", "--password", "canary one", "--url", "redis://:canary-2@cache", "--port", "6379"]);
        assert_eq!(r.scrub("canary one, canary-2 on 6379"), "[redacted], [redacted] on 6379");
    }

    #[test]
    fn hashes_and_ids_of_an_environment_are_not_learned() {
        let r = Redactor::default();
        r.learn_environment([
            "GIT_COMMIT=4f2b6c0e9d8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c",
            "POD_UID=550e8400-e29b-41d4-a716-446655440000",
            "REQUEST_ID=0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        ]);
        let text = "4f2b6c0e9d8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c 0a1b2c3d4e5f60718293a4b5c6d7e8f9";
        assert_eq!(r.scrub(text), text);
    }

    #[test]
    fn one_environment_cannot_crowd_out_another() {
        let r = Redactor::default();
        let many: Vec<String> = (0..100_000).map(|i| format!("SECRET_{i}=value-{i:032}")).collect();
        (0..20).for_each(|_| r.learn_environment(many.iter().map(String::as_str)));
        r.learn_environment(["DB_PASSWORD=canary-late"]);
        assert_eq!(r.scrub("canary-late"), REDACTED);
    }

    #[test]
    fn value_of_a_secret_field_is_removed_whole() {
        let r = Redactor::default();
        let mut v = serde_json::json!({
            "requirepass": "can ary", "token": "x", "tokens": 5, "password_file": "/run/x", "user": "app",
            "env": [{"name": "DB_PASSWORD", "value": "can ary"}, {"name": "TZ", "value": "UTC"}],
        });
        assert!(r.scrub_json(&mut v));
        let clean = serde_json::json!({
            "requirepass": "[redacted]", "token": "[redacted]", "tokens": 5, "password_file": "/run/x", "user": "app",
            "env": [{"name": "DB_PASSWORD", "value": "[redacted]"}, {"name": "TZ", "value": "UTC"}],
        });
        assert_eq!(v, clean);
    }

    #[test]
    fn secrets_in_keys_are_removed() {
        let r = learned("canary-1");
        let mut v = serde_json::json!({"by_path": {"/reset/canary-1": 1, "/reset/canary-1/": 2, "/x?token=abc": 3}});
        assert!(r.scrub_json(&mut v));
        let clean = serde_json::json!({"by_path": {"/reset/[redacted]": 1, "/reset/[redacted]/": 2, "/x?token=[redacted]": 3}});
        assert_eq!(v, clean);
        let mut twins = serde_json::json!({"a/canary-1": 1, "a/canary-1canary-1": 2});
        r.scrub_json(&mut twins);
        assert_eq!(twins.as_object().map(serde_json::Map::len), Some(2), "{twins}");
    }

    #[test]
    fn multi_byte_characters_stay_whole() {
        let r = learned("canäry-1");
        assert_eq!(r.scrub("ü=canäry-1€ password=ä€ü"), "ü=[redacted]€ password=[redacted]");
    }

    #[test]
    fn long_value_is_removed_to_its_end() {
        let long = "0a1B".repeat(5000);
        for (before, after) in [
            ("{\"secret\":\"", "\",\"a\":1}"),
            ("password=", ""),
            ("Authorization: Bearer ", ""),
            ("API_KEY='x y ", "' z"),
            ("x eyJhbGciOiJIUzI1NiJ9.", ""),
        ] {
            let clean = Redactor::default().scrub(&format!("{before}{long}{after}"));
            assert!(clean.len() < 100 && clean.ends_with(after), "{clean:.200}");
        }
    }

    #[test]
    fn text_that_is_too_long_is_cut() {
        let text = "x ".repeat(MAX_TEXT_BYTES);
        let clean = Redactor::default().scrub(&text);
        assert!(clean.len() < MAX_TEXT_BYTES + 100 && clean.ends_with("more bytes left out]"));
    }

    /// Texts that would make a naive parser read from every position to the end.
    #[test]
    fn scrubbing_time_is_linear() {
        let hostile = [
            "-----BEGIN PRIVATE KEY-----\nMII",
            "password=\"",
            "password='a ",
            "https://a:b",
            "a:b@",
            "mysql -p",
            "{\"password\":",
            "eyJhbGciOiJIUzI1NiJ9.",
            "data:\n a: b\nkind: Secret\n",
            "\\\\\\\"%25",
            "aaaaaaaa",
            "Authorization: ",
            "echo a | sudo ",
            "password: |\n  a\n",
            "$6$aaaaaaaa$",
            "identified ",
            "Private-Lines: 200\n",
            ":5432:",
            "Cookie: a=b",
            "password ",
            "&quot;",
            "cred[",
            "a=(((((",
            "user:password,",
            "key-key_key.",
            "--from-literal=",
        ];
        let r = Redactor::default();
        (6..60).for_each(|n| r.learn(&"a".repeat(n)));
        let time = |text: &str| {
            let started = std::time::Instant::now();
            let _ = r.scrub(text);
            started.elapsed()
        };
        for part in hostile {
            let (short, long) = (part.repeat(2_000), part.repeat(16_000));
            let (one, eight) = (time(&short).max(time(&short)), time(&long));
            assert!(eight < one * 40 + std::time::Duration::from_millis(50), "{part:?}: {one:?} and {eight:?}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
        #[test]
        fn learned_secrets_are_removed_in_every_encoding(
            secret in "[ -~]{6,40}", before in "[ -~]{0,12}", after in "[ -~]{0,12}", how in 0_u8..6,
        ) {
            use base64::Engine as _;
            let plain = secret.trim();
            proptest::prop_assume!(plain.len() >= MIN_LEARNED_BYTES && !REDACTED.contains(plain) && !values::is_no_secret(plain.as_bytes()));
            proptest::prop_assume!(!ORDINARY.contains(&plain.to_ascii_lowercase().as_str()));
            let r = learned(plain);
            let json = |text: &str| {
                let quoted = serde_json::Value::from(text).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            };
            let percent = |text: &str| text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect::<String>();
            let encoded = match how {
                0 => plain.to_owned(),
                1 => json(plain),
                2 => json(&json(plain)),
                3 => percent(plain),
                4 => percent(&json(plain)),
                _ => base64::engine::general_purpose::STANDARD.encode(format!("{before}{plain}")),
            };
            // an escape at the end of `before` must not include its first character
            let text = format!("{} {encoded} {after}", before.replace(['\\', '%', '&'], ""));
            let clean = r.scrub(&text);
            let sure = if how == 5 { encoded[encoded.len().saturating_sub(10)..].trim_end_matches('=').to_owned() } else { encoded.clone() };
            proptest::prop_assert!(!clean.contains(&sure), "{text} became {clean}");
            proptest::prop_assert_eq!(r.scrub(&clean), clean);
        }
    }
}
