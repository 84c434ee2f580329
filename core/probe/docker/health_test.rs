//! Health tests of containers, with credentials redacted.

use super::HealthTest;
use crate::model::Pick;
use crate::probe::{REDACTED, Redactor};

/// The health test, or `None` without one (`[]` inherits from the image, so inspect never returns it; `NONE` disables it). A text
/// is a command line for a shell, as in a compose file.
pub(super) fn parse(h: &Pick<'_>, redactor: &Redactor) -> Option<HealthTest> {
    let test = if h.get("Test").is_text() { of_shell(&h.text("Test").unwrap_or_default()) } else { h.texts("Test") };
    if test.first().is_none_or(|word| word.is_empty() || word == "NONE") {
        return None;
    }
    let ms = |n: Option<i64>, default: i64| n.filter(|n| *n > 0).map_or(default, |n| n / 1_000_000);
    Some(HealthTest {
        test: test.iter().scan(false, |value, word| Some(without_credentials(word, value, redactor))).collect(),
        interval_ms: ms(h.int("Interval"), 30_000),
        timeout_ms: ms(h.int("Timeout"), 30_000),
        retries: h.int("Retries").filter(|n| *n > 0).unwrap_or(3),
        start_period_ms: ms(h.int("StartPeriod"), 0),
    })
}

fn of_shell(line: &str) -> Vec<String> {
    let line = line.trim();
    let command = line.strip_prefix("CMD-SHELL ").unwrap_or(line).trim();
    if command.is_empty() || command == "NONE" { Vec::new() } else { vec!["CMD-SHELL".to_owned(), command.to_owned()] }
}

/// A word of a health test with credentials redacted: the value of `-a`, `-u`, `--user`, `--pass` and similar flags, both as a
/// separate word and inside a shell line, and `mysqladmin`'s `-psecret`. `value` carries the state "the next word is a value".
/// Redacted values are added to the redactor, because the test may print them.
fn without_credentials(word: &str, value: &mut bool, redactor: &Redactor) -> String {
    let secret = |text: &str| {
        redactor.learn(text);
        // user:password
        redactor.learn(text.split_once(':').map_or("", |(_, password)| password));
        REDACTED
    };
    // `sh -eu -c …`: a word that begins with a dash is not a value
    if std::mem::take(value) && !word.starts_with('-') {
        return secret(word).to_owned();
    }
    // also the last of bundled short flags, as in `curl -fu user:password`
    let bundled = word.starts_with('-') && !word.starts_with("--") && word.len() > 2 && word.ends_with(['u', 'a']);
    *value = FLAGS.contains(&word) || bundled;
    if word.contains(' ') {
        // a shell line: the same for each word, with its spacing kept
        let mut inner = false;
        return word.split(' ').map(|w| without_credentials(w, &mut inner, redactor)).collect::<Vec<_>>().join(" ");
    }
    if let Some((flag, text)) = word.split_once('=').filter(|(flag, _)| flag.starts_with("--") && FLAGS.contains(flag)) {
        return format!("{flag}={}", secret(text));
    }
    match word.strip_prefix("-p") {
        Some(text) if !text.is_empty() && !text.chars().all(|c| c.is_ascii_digit()) => format!("-p{}", secret(text)),
        _ => word.to_owned(),
    }
}

/// Flags of clients with a password or `user:password` as the next word.
const FLAGS: &[&str] = &["-a", "-u", "--user", "--pass", "--password", "--token", "--auth", "-P"];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Gaps;

    fn read(config: &Value, redactor: &Redactor) -> Option<HealthTest> {
        let gaps = Gaps::default();
        parse(&Pick::new(config, &gaps), redactor)
    }

    #[test]
    fn command_line_is_a_shell_test() {
        let test = |config: Value| read(&config, &Redactor::default()).map(|t| t.test);
        let shell = Some(vec!["CMD-SHELL".to_owned(), "curl -f http://localhost/".to_owned()]);
        assert_eq!(test(json!({"Test": "curl -f http://localhost/"})), shell);
        assert_eq!(test(json!({"Test": "CMD-SHELL curl -f http://localhost/"})), shell);
    }

    #[test]
    fn disabled_test_is_none() {
        for config in [json!(null), json!({}), json!({"Test": null}), json!({"Test": ["NONE"]}), json!({"Test": [""]})] {
            assert_eq!(read(&config, &Redactor::default()), None, "{config}");
        }
    }

    #[test]
    fn health_test_credentials_are_redacted() {
        let redactor = Redactor::default();
        let clean = |test: &[&str]| read(&json!({"Test": test}), &redactor).map(|t| t.test.join(" ")).unwrap_or_default();
        for (test, expected) in [
            (&["CMD", "redis-cli", "-a", "canary", "ping"][..], "CMD redis-cli -a [redacted] ping"),
            (
                &["CMD-SHELL", "curl -fu me:canary http://localhost:80/ || exit 1"],
                "CMD-SHELL curl -fu [redacted] http://localhost:80/ || exit 1",
            ),
            (&["CMD-SHELL", "curl -f -u me:canary http://localhost:80/"], "CMD-SHELL curl -f -u [redacted] http://localhost:80/"),
            (&["CMD", "mysqladmin", "-pcanary", "ping"], "CMD mysqladmin -p[redacted] ping"),
            (&["CMD", "sh", "-eu", "-c", "exit 0"], "CMD sh -eu -c exit 0"),
            (&["CMD", "pg_isready", "-p5432"], "CMD pg_isready -p5432"),
            (&["CMD", "x", "--password=canary"], "CMD x --password=[redacted]"),
        ] {
            assert_eq!(clean(test), expected);
        }
        assert!(!redactor.scrub("it printed me:canary and canary").contains("canary"));
    }
}
