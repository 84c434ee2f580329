//! Programs run as fixes: a failure is an error with the last line of the output.

use std::time::Duration;

use opsctl_core::model::FileIdentity;
use opsctl_core::probe::io::command;
use opsctl_core::probe::io::command::{Argv, CommandOutput, Program, RunError};

/// Time limit of a program.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Runs a program.
pub(super) async fn run(argv: &[String]) -> Result<(), String> {
    check_status(argv, &command::run(&Argv::of_action(argv)?, TIMEOUT).await?)
}

/// Runs a program of a site runbook if it is the file that was found and only root can write it.
pub(super) async fn run_own(
    program: &str,
    identity: FileIdentity,
    argv: &[String],
    cwd: Option<&str>,
    timeout: Duration,
) -> Result<(), String> {
    let found = Program { path: program.to_owned(), identity };
    let ended = command::run_own(&found, argv, cwd, false, timeout).await.map_err(|e| match e {
        RunError::NotRun(why) => why,
        RunError::Timeout(after) => format!("{program} did not end within {}", super::show::length(after)),
    })?;
    check_status(argv, &ended)
}

fn check_status(argv: &[String], ended: &CommandOutput) -> Result<(), String> {
    if ended.status.success() {
        return Ok(());
    }
    let name = argv.first().map_or("", String::as_str);
    Err(format!("{name} ended with {}: {}", ended.status, ended.last_line()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn last_line_of_a_failed_program_is_in_the_error() {
        let ls = command::program("ls").unwrap();
        let argv = ["ls", "/no/such/place"].map(str::to_owned);
        let error = run_own(&ls.path, ls.identity, &argv, None, Duration::from_secs(30)).await.unwrap_err();
        assert!(error.starts_with("ls ended with exit status: 2: ls: cannot access"), "{error}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn program_of_no_fix_is_not_run() {
        assert_eq!(run(&["ls".to_owned()]).await, Err("no fix runs `ls`".to_owned()));
        assert!(run(&[]).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn custom_program_must_be_the_discovered_file() {
        let dir = tempfile::tempdir().unwrap();
        let touch = command::program("touch").unwrap();
        let argv = ["touch", "a b"].map(str::to_owned);
        let second = Duration::from_secs(30);
        let other = FileIdentity { ino: touch.identity.ino + 1, ..touch.identity };
        let error = run_own(&touch.path, other, &argv, dir.path().to_str(), second).await.unwrap_err();
        assert_eq!(error, format!("{} was replaced by another file", touch.path));
        assert!(!dir.path().join("a b").exists());
        run_own(&touch.path, touch.identity, &argv, dir.path().to_str(), second).await.unwrap();
        assert!(dir.path().join("a b").exists());
        let sleep = command::program("sleep").unwrap();
        let late = run_own(&sleep.path, sleep.identity, &["sleep".into(), "60".into()], None, Duration::from_millis(50)).await;
        assert!(late.unwrap_err().ends_with("did not end within 0.1 s"));
    }
}
