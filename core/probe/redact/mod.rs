//! Secrets never leave the process: every string of every piece of evidence goes through here before it is judged,
//! recorded, journalled or shown.

#[cfg(test)]
mod corpus;
mod learned;

use std::sync::LazyLock;

use regex::{Captures, Regex};

use learned::Learned;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Shorter values are too common as ordinary words to be removed wherever they occur; patterns still catch them beside their key.
const SHORTEST_LEARNED: usize = 6;

/// Words that are values of secret-looking variables on half of all hosts and ordinary words everywhere else.
const ORDINARY: &[&str] = &[
    "password",
    "passwd",
    "postgres",
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
];

/// Names whose values are secret. `KEY` only as a word of its own: `MONKEY_COUNT` is no key.
#[expect(clippy::expect_used, reason = "a constant pattern, compiled by a test")]
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(passw|pwd|passphrase|secret|token|credential|apikey|api_key|private|(^|_)(key|auth|dsn|salt|pass|sid|jwt)($|_)|webhook)")
        .expect("constant pattern")
});

/// What a secret looks like without having been seen before.
#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static PATTERNS: LazyLock<[Regex; 6]> = LazyLock::new(|| {
    let p = |s| Regex::new(s).expect("constant pattern");
    [
        // a PEM private key, to its end or as far as it goes; the first, because others take its head for a value
        p(
            r"(?P<keep>-----BEGIN [A-Z ]*PRIVATE KEY-----)(?:(?s:.*?)(?P<tail>-----END [A-Z ]*PRIVATE KEY-----)|[\sA-Za-z0-9+/=\\:,\[\]-]*)",
        ),
        // scheme://user:password@host, also with an empty user
        p(r"(?P<keep>[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:)[^\s@/]+(?P<tail>@)"),
        // key=value, key: value, "key":"value", --key value
        p(
            r#"(?i)(?P<keep>(?:passw(?:or)?d|pwd|passphrase|secret|(?:access|auth|api|refresh|bearer|id|session)?[_-]?token|api[_-]?key|access[_-]?key(?:[_-]?id)?|secret[_-]?key|private[_-]?key|client[_-]?secret|credentials?|requirepass|masterauth)[A-Za-z0-9_-]*["']?\s*(?:[=:]|\s)\s*["']?)(?P<value>[^\s"',;&)\]}]+)"#,
        ),
        // Authorization: Basic …, Bearer …
        p(r"(?i)(?P<keep>\b(?:bearer|basic|authorization:?\s+\w+)\s+)[A-Za-z0-9._~+/=-]{8,}"),
        // JSON Web Tokens
        p(r"(?P<keep>)eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
        // keys that announce themselves: AWS, GitHub, GitLab, Slack, Stripe, Google
        p(
            r"(?P<keep>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\bglpat-[A-Za-z0-9_-]{16,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|\bAIza[A-Za-z0-9_-]{30,}",
        ),
    ]
});

/// Knows the secrets seen in this run and what secrets look like.
#[derive(Debug, Default)]
pub struct Redactor {
    learned: Learned,
}

impl Redactor {
    /// Takes note of names that are not secret even if somebody used them as a password.
    pub fn know_name(&self, name: &str) {
        self.learned.know_name(name);
    }

    /// Learns the secrets in a `NAME=value` list.
    pub fn learn_environment<'a>(&self, environment: impl IntoIterator<Item = &'a str>) {
        for entry in environment {
            if let Some((name, value)) = entry.split_once('=') {
                self.learn_variable(name, value);
            }
        }
    }

    fn learn_variable(&self, name: &str, value: &str) {
        if SECRET_NAME.is_match(name) || looks_random(value) {
            self.learn(value);
        }
        // a URL hides its password inside an ordinary looking value
        for url in value.split([',', ' ', ';']) {
            if let Some(password) = url_password(url) {
                self.learn(password);
            }
        }
    }

    /// Learns one secret.
    pub fn learn(&self, secret: &str) {
        let secret = secret.trim();
        if secret.len() < SHORTEST_LEARNED || ORDINARY.contains(&secret.to_ascii_lowercase().as_str()) {
            return;
        }
        // a path is where a secret lies, not the secret
        if secret.starts_with('/') && !secret.contains(' ') {
            return;
        }
        self.learned.insert(secret);
    }

    /// `text` without secrets.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let mut text = std::borrow::Cow::Borrowed(text);
        if let Some(removed) = self.learned.removed_from(&text) {
            text = removed.into();
        }
        for pattern in PATTERNS.iter() {
            if pattern.is_match(&text) {
                let replaced = pattern.replace_all(&text, |c: &Captures<'_>| {
                    let kept = |v: regex::Match<'_>| {
                        v.as_str().starts_with(REDACTED.trim_end_matches(']'))
                            || is_reference(v.as_str(), &text[v.end()..])
                            // "password authentication failed"
                            || (v.as_str() == "authentication" && c["keep"].ends_with(' '))
                    };
                    if c.name("value").is_some_and(kept) {
                        return c[0].to_owned();
                    }
                    format!("{}{REDACTED}{}", &c["keep"], c.name("tail").map_or("", |m| m.as_str()))
                });
                text = replaced.into_owned().into();
            }
        }
        text.into_owned()
    }

    /// Scrubs every string of a JSON value in place; returns whether there was anything to remove. Keys are ours and stay.
    pub fn scrub_json(&self, value: &mut serde_json::Value) -> bool {
        // each of them, not only up to the first that has any
        let all = |found: &mut dyn Iterator<Item = &mut serde_json::Value>| {
            found.filter_map(|v| self.scrub_json(v).then_some(())).count() > 0
        };
        match value {
            serde_json::Value::String(s) => {
                let clean = self.scrub(s);
                let changed = clean != *s;
                if changed {
                    *s = clean;
                }
                changed
            }
            serde_json::Value::Array(items) => all(&mut items.iter_mut()),
            serde_json::Value::Object(fields) => all(&mut fields.values_mut()),
            _ => false,
        }
    }
}

/// `${NAME}`, as a configuration is told to have it: where a secret is, not the secret. The pattern stops before the brace.
fn is_reference(value: &str, rest: &str) -> bool {
    let name = value.strip_prefix("${").unwrap_or_default();
    let of_a_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_') && name.chars().all(of_a_name) && rest.starts_with('}')
}

/// The password of `scheme://user:password@host`.
fn url_password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (userinfo, _) = authority.rsplit_once('@')?;
    let (_, password) = userinfo.split_once(':')?;
    (!password.is_empty()).then_some(password)
}

/// A value of a harmless-looking variable that can only be a token: long, without separators, letters and digits mixed.
fn looks_random(value: &str) -> bool {
    value.len() >= 20
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '='))
        && value.chars().filter(char::is_ascii_digit).count() >= 4
        && value.chars().filter(char::is_ascii_alphabetic).count() >= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let r = Redactor::default();
        r.know_name("shared_postgres");
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
    fn learned_secrets_go_wherever_they_stand() {
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
    fn patterns_catch_what_was_never_learned() {
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
    fn advice_where_to_put_a_secret_stays_and_what_only_looks_so_does_not() {
        let r = redactor();
        let advice = "[[server]] name = \"queue\" user = \"…\" password = \"${RABBITMQ_PASSWORD}\"";
        assert_eq!(r.scrub(advice), advice);
        for text in ["password=${abc}", "password=${ABC", "password=${}", "password=$ABC", "password=${A B}"] {
            assert!(r.scrub(text).contains(REDACTED), "{text} -> {}", r.scrub(text));
        }
        // what was seen as a secret goes, however it is written
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
    fn reaches_every_string_of_a_document() {
        let r = redactor();
        let mut v = serde_json::json!({"a": ["hunter2-canary", {"b": "x hunter2-canary"}], "n": 1});
        r.scrub_json(&mut v);
        assert!(!v.to_string().contains("canary"), "{v}");
    }
}
