//! Command lines of site runbooks: no shell, no secrets, a working directory and a time limit.

use std::time::Duration;

use opsctl_core::model::address::Address;
use toml::Spanned;

use crate::config::problem::ValidationError;

/// Validates the words of a command line: an absolute program or a plain name, and no secrets.
pub(super) fn argv(words: &[Spanned<String>], key: &str, table: &str) -> Result<Vec<String>, ValidationError> {
    let Some(program) = words.first() else {
        return Err(ValidationError::new(0..0, format!("`{key}` in [{table}]: empty")));
    };
    let problem = |word: &Spanned<String>, why: &str| ValidationError::new(word.span(), format!("`{key}` in [{table}]: {why}"));
    let name = program.get_ref();
    if name.is_empty() || (name.contains('/') && !name.starts_with('/')) {
        return Err(problem(program, "the program is an absolute path or a name without a slash"));
    }
    if name.contains(char::is_whitespace) && words.len() == 1 {
        return Err(problem(program, "there is no shell: each word is an element of the list, `[\"make\", \"restart\"]`"));
    }
    if let Some(word) = words.iter().find(|w| w.get_ref().contains('\0')) {
        return Err(problem(word, "a NUL in it"));
    }
    let mut before = "";
    for word in words {
        let text = word.get_ref();
        if holds_secret(before, text) {
            let why = "looks like a secret: arguments of a program are visible to all users of this host; use a file instead";
            return Err(problem(word, why));
        }
        before = text;
    }
    Ok(words.iter().map(|w| w.get_ref().clone()).collect())
}

/// Whether a word is a secret, or contains one after a `=`. A path to a secret is accepted.
fn holds_secret(before: &str, word: &str) -> bool {
    const ENDS: &[&str] = &["password", "passwd", "token", "secret", "apikey", "api-key", "api_key", "passphrase"];
    let called = |name: &str| ENDS.iter().any(|e| name.to_lowercase().ends_with(e));
    let value = |v: &str| !v.is_empty() && !v.starts_with(['/', '-', '@']);
    let address = Address::parse(word);
    let in_url = address.scheme.is_some() && address.password().is_some();
    match word.split_once('=') {
        Some((name, v)) if called(name) && value(v) => true,
        _ => (before.starts_with('-') && called(before) && value(word)) || in_url,
    }
}

pub(super) fn directory(cwd: Option<&Spanned<String>>, table: &str) -> Result<Option<String>, ValidationError> {
    match cwd {
        Some(cwd) if !cwd.get_ref().starts_with('/') => {
            Err(ValidationError::new(cwd.span(), format!("`cwd` in [{table}]: not an absolute path")))
        }
        cwd => Ok(cwd.map(|c| c.get_ref().clone())),
    }
}

/// Parses a time limit of at most `max`.
pub(super) fn time_limit(text: &Spanned<String>, key: &str, table: &str, max: Duration) -> Result<Duration, ValidationError> {
    let problem = |why: String| ValidationError::new(text.span(), format!("`{key}` in [{table}]: {why}"));
    let time = crate::config::duration(text.get_ref()).map_err(problem)?;
    let shown = opsctl_core::model::quantity::duration(max.try_into().unwrap_or_default());
    if time > max { Err(problem(format!("`{}` is longer than {shown}", text.get_ref()))) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_in_a_url_is_a_secret() {
        for word in ["redis://:canary@cache/0", "--url=amqp://app:can#a?ry@[::1]:5672/"] {
            assert!(holds_secret("", word), "{word}");
        }
        for word in ["https://user:@host/", "https://host/?q=a:b@c", "app:canary@host", "http://[::1]:80/"] {
            assert!(!holds_secret("", word), "{word}");
        }
    }
}
