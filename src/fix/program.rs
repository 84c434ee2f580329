//! Running a program as a fix: whatever does not end well is an error that says what it printed last.

use std::time::Duration;

use opsctl_core::probe::command;

/// How long a program may run.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Runs it.
pub(super) async fn run(argv: &[String]) -> Result<(), String> {
    let ended = command::run(argv, TIMEOUT).await?;
    if ended.status.success() {
        return Ok(());
    }
    let name = argv.first().map_or("", String::as_str);
    Err(format!("{name} ended with {}: {}", ended.status, ended.last_words()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_it_said_last_is_in_the_error() {
        let error = run(&["ls".to_owned(), "/no/such/place".to_owned()]).await.unwrap_err();
        assert!(error.starts_with("ls ended with exit status: 2: ls: cannot access"), "{error}");
        assert!(run(&[]).await.is_err());
    }
}
