//! Names of secret values: `DB_PASSWORD`, `apiKey`, `X-Auth-Token`, but not `password_file` or `max_tokens`.

/// Limit of a name; a longer text is not a name, but encoded data.
pub(super) const MAX_NAME_BYTES: usize = 128;

/// Limit of the words of a name, from its end.
const MAX_WORDS: usize = 12;

/// Class of a name, which determines the value beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A password: any value is secret, also after a space.
    Password,
    /// A secret, a token, a key: any value is secret.
    Secret,
    /// Several secrets, or their number.
    Plural,
    /// `user:password`.
    Login,
    /// The address of a webhook: secret from the path on.
    Webhook,
    /// Possibly secret, depending on the format of the value: `auth`, `signature`, `session`.
    Weak,
    /// Possibly secret, and often the name or the hash of something: `key`.
    Key,
    /// The header `Authorization`: secret after its scheme.
    Authorization,
    /// The headers `Cookie` and `Set-Cookie`.
    Cookie,
}

/// Suffixes of words that mean a password.
const PASSWORD: &[&str] =
    &["password", "passwd", "passwort", "kennwort", "passphrase", "passcode", "pwd", "bindpw", "rootpw", "userpw"];

/// Words that end in `pass` and have another meaning.
const NOT_PASS: &[&str] =
    &["bypass", "compass", "surpass", "encompass", "trespass", "overpass", "underpass", "multipass", "wrongpass"];

/// Suffixes of words that mean another secret.
const SECRET: &[&str] = &[
    "secret",
    "token",
    "apikey",
    "authkey",
    "secretkey",
    "accesskey",
    "privatekey",
    "accountkey",
    "masterkey",
    "signingkey",
    "encryptionkey",
    "sharedkey",
    "licensekey",
    "masterauth",
    "accesssignature",
    "setcookie",
    "jwt",
    "psk",
    "otp",
];

/// Words that make a following `key` a secret.
const KEY_OF: &[&str] = &[
    "api",
    "access",
    "secret",
    "private",
    "account",
    "auth",
    "encryption",
    "decryption",
    "signing",
    "master",
    "app",
    "application",
    "consumer",
    "shared",
    "hmac",
    "aes",
    "jwt",
    "license",
    "licence",
    "storage",
    "deploy",
    "integration",
    "ingest",
    "admin",
    "subscription",
    "recovery",
    "unlock",
    "cipher",
    "service",
    "webhook",
    "client",
    "session",
    "cookie",
    "fernet",
    "crypt",
    "crypto",
];

/// Words that make a following `key` public.
const NOT_KEY_OF: &[&str] = &[
    "public",
    "primary",
    "foreign",
    "cache",
    "partition",
    "sort",
    "routing",
    "object",
    "socket",
    "host",
    "unique",
    "index",
    "known",
];

/// Words after the secret one that keep the name secret: `PASSWORD_OLD`, `secret_key_base`.
const QUALIFIERS: &[&str] = &[
    "old",
    "new",
    "current",
    "previous",
    "prev",
    "value",
    "val",
    "prod",
    "production",
    "dev",
    "test",
    "staging",
    "base",
    "primary",
    "secondary",
    "confirm",
    "confirmation",
    "repeat",
    "again",
    "plain",
    "plaintext",
    "text",
    "string",
    "str",
    "b",
    "base64",
    "hash",
    "hashed",
    "digest",
    "encrypted",
    "raw",
    "default",
    "id",
    "key",
    "data",
    "clear",
];

/// Words after the secret one that make the name of a variable a statement about the secret: `PASSWORD_FILE`, `TOKEN_TYPE`. In
/// other names, this applies to all words except [`QUALIFIERS`].
const ABOUT: &[&str] = &[
    "file",
    "files",
    "path",
    "paths",
    "dir",
    "directory",
    "name",
    "names",
    "type",
    "types",
    "len",
    "length",
    "count",
    "counts",
    "size",
    "ttl",
    "expiry",
    "expires",
    "expire",
    "expired",
    "expiration",
    "age",
    "policy",
    "encryption",
    "algorithm",
    "alg",
    "algo",
    "method",
    "mode",
    "uri",
    "url",
    "endpoint",
    "field",
    "fields",
    "header",
    "headers",
    "prompt",
    "min",
    "max",
    "enabled",
    "enable",
    "disabled",
    "valid",
    "validity",
    "validation",
    "limit",
    "limits",
    "rate",
    "version",
    "format",
    "arn",
    "store",
    "manager",
    "provider",
    "ref",
    "refs",
    "reference",
    "source",
    "location",
    "hint",
    "strength",
    "attempts",
    "timeout",
    "retries",
    "authentication",
    "auth",
    "required",
    "changed",
    "change",
    "reset",
    "rotation",
    "lifetime",
    "cache",
    "bucket",
    "buckets",
    "usage",
    "used",
    "budget",
    "per",
    "index",
    "issuer",
    "audience",
    "scope",
    "scopes",
    "service",
    "server",
    "host",
    "port",
    "user",
    "username",
    "users",
    "owner",
    "group",
    "mount",
    "volume",
    "backend",
    "engine",
    "class",
    "status",
    "state",
    "error",
    "errors",
    "failed",
    "failure",
    "failures",
    "invalid",
    "missing",
    "is",
    "at",
    "in",
    "on",
    "not",
    "info",
    "command",
    "cmd",
    "helper",
    "program",
    "script",
    "check",
    "checker",
    "management",
    "request",
    "requests",
    "response",
    "ids",
    "num",
    "total",
    "set",
    "protected",
    "parser",
    "kind",
    "map",
    "selector",
    "alias",
    "label",
    "labels",
    "annotation",
    "namespace",
    "env",
    "var",
    "variable",
    "less",
    "review",
    "column",
    "table",
    "family",
    "bytes",
    "bits",
    "time",
    "date",
    "created",
    "updated",
    "last",
    "seen",
    "model",
    "page",
    "form",
    "link",
    "grant",
    "basic",
    "realm",
];

/// A name in lower case, split into words at `_`, `-`, `.`, changes of case and digits.
struct Words {
    bytes: [u8; MAX_NAME_BYTES],
    /// Start and end of each word, the last first.
    ranges: [(u8, u8); MAX_WORDS],
    count: usize,
}

impl Words {
    fn of(name: &[u8]) -> Self {
        let name = &name[name.len().saturating_sub(MAX_NAME_BYTES)..];
        let mut found = Self { bytes: [0; MAX_NAME_BYTES], ranges: [(0, 0); MAX_WORDS], count: 0 };
        let mut end = name.len();
        for at in (0..name.len()).rev() {
            found.bytes[at] = name[at].to_ascii_lowercase();
            if !name[at].is_ascii_alphabetic() {
                found.add(at + 1, end);
                end = at;
            } else if at > 0 && begins_word(name, at) {
                found.add(at, end);
                end = at;
            }
        }
        found.add(0, end);
        found
    }

    fn add(&mut self, start: usize, end: usize) {
        if start < end && self.count < MAX_WORDS {
            self.ranges[self.count] = (u8::try_from(start).unwrap_or(0), u8::try_from(end).unwrap_or(0));
            self.count += 1;
        }
    }

    /// The word `back` places before the last one.
    fn word(&self, back: usize) -> &str {
        let (start, end) = if back < self.count { self.ranges[back] } else { (0, 0) };
        std::str::from_utf8(&self.bytes[usize::from(start)..usize::from(end)]).unwrap_or_default()
    }
}

/// `fooBar`, `APIKey`: a capital after a small letter, or the last of several capitals.
fn begins_word(name: &[u8], at: usize) -> bool {
    name[at].is_ascii_uppercase()
        && (name[at - 1].is_ascii_lowercase()
            || (name[at - 1].is_ascii_uppercase() && name.get(at + 1).is_some_and(u8::is_ascii_lowercase)))
}

/// Class of the value of this name, or `None` if it is not secret.
pub(super) fn class(name: &[u8]) -> Option<Class> {
    let words = Words::of(name);
    // a name of a variable may end in anything but [`ABOUT`]: `DB_PASSWORD_SHOP`
    let variable = name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_') && name.contains(&b'_');
    for back in 0..words.count {
        let word = words.word(back);
        if let Some(class) = secret_word(word, words.word(back + 1), back) {
            // a word after one that is only possibly secret changes the meaning
            let certain = !matches!(class, Class::Weak | Class::Key | Class::Cookie | Class::Authorization);
            return (certain || back == 0 || (back == 1 && words.word(0) == "id")).then_some(class);
        }
        if if variable { ABOUT.contains(&word) } else { !QUALIFIERS.contains(&word) } {
            return None;
        }
    }
    None
}

/// Class of a name by this word. `after`: the number of words after it.
fn secret_word(word: &str, before: &str, after: usize) -> Option<Class> {
    let ends = |list: &[&str]| list.iter().any(|end| word.ends_with(end));
    let plural = |list: &[&str]| word.strip_suffix('s').is_some_and(|one| list.iter().any(|end| one.ends_with(end)));
    match word {
        "auth" if matches!(before, "basic" | "proxy" | "http" | "stats") => return Some(Class::Login),
        "auth" if matches!(before, "rediscli" | "redis") => return Some(Class::Secret),
        "userpass" | "creds" => return Some(Class::Login),
        "pw" | "pass" => return Some(Class::Password),
        "credential" | "credentials" | "tokens" | "secrets" | "passwords" | "passphrases" => return Some(Class::Plural),
        "key" if NOT_KEY_OF.contains(&before) => return None,
        "key" if KEY_OF.contains(&before) => return Some(Class::Secret),
        "key" if after == 0 => return Some(Class::Key),
        "keys" if KEY_OF.contains(&before) => return Some(Class::Plural),
        "signature" if before == "access" => return Some(Class::Secret),
        "cookie" if matches!(before, "" | "set") => return Some(Class::Cookie),
        "cookie" if before == "erlang" => return Some(Class::Secret),
        "authorization" => return Some(Class::Authorization),
        "webhook" => return Some(Class::Webhook),
        "cookie" | "auth" | "sid" | "session" | "sessionid" | "phpsessid" | "jsessionid" | "salt" | "sig" | "signature"
        | "xsrf" => {
            return Some(Class::Weak);
        }
        _ => {}
    }
    if ends(PASSWORD) || (word.ends_with("pass") && !NOT_PASS.contains(&word)) {
        return Some(Class::Password);
    }
    if ends(SECRET) {
        return Some(Class::Secret);
    }
    (plural(PASSWORD) || plural(SECRET)).then_some(Class::Plural)
}

/// Names followed by a value without a sign: `requirepass secret`.
pub(super) fn is_directive(name: &[u8]) -> bool {
    const DIRECTIVES: &[&str] = &[
        "requirepass",
        "masterauth",
        "bindpw",
        "rootpw",
        "auth-pass",
        "insecure-password",
        "_authtoken",
        "rocommunity",
        "rwcommunity",
    ];
    DIRECTIVES.iter().any(|d| name.eq_ignore_ascii_case(d.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified() {
        for (name, expected) in [
            ("DB_PASSWORD", Some(Class::Password)),
            ("dbPassword2", Some(Class::Password)),
            ("APIKey", Some(Class::Secret)),
            ("aws_secret_access_key", Some(Class::Secret)),
            ("aws_access_key_id", Some(Class::Secret)),
            ("SECRET_KEY_BASE", Some(Class::Secret)),
            ("DB_PASSWORD_SHOP", Some(Class::Password)),
            ("spring.datasource.password", Some(Class::Password)),
            ("SharedAccessSignature", Some(Class::Secret)),
            ("X-Amz-Signature", Some(Class::Weak)),
            ("session_id", Some(Class::Weak)),
            ("routing_key", None),
            ("sort.key.x", None),
            ("key", Some(Class::Key)),
            ("max_tokens", Some(Class::Plural)),
            ("Set-Cookie", Some(Class::Cookie)),
            ("proxy-auth", Some(Class::Login)),
            ("password_file", None),
            ("password-file", None),
            ("secretName", None),
            ("secretKeyRef", None),
            ("token_type", None),
            ("PasswordAuthentication", None),
            ("proxy_pass_header", None),
            ("cache_bypass", None),
            ("server_tokens_off", None),
            ("MONKEY_COUNT", None),
            ("monkey", None),
            ("keyspace", None),
            ("secret_santa", None),
            ("auth_basic", None),
            ("", None),
        ] {
            assert_eq!(class(name.as_bytes()), expected, "{name}");
        }
    }
}
