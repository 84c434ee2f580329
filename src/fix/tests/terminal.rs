//! The real prompts, in a terminal made by `script(1)`.

#![allow(clippy::print_stdout, reason = "read by the parent")]

use std::io::Write;
use std::process::{Command, Stdio};

use crate::fix::{Confirm, Confirmation, Prompt, Terminal};

/// Not a test: runs inside the terminal.
#[test]
fn child() {
    let question = match std::env::var("OPSCTL_TEST_QUESTION").as_deref() {
        Ok("yes-no") => Prompt::YesNo("apply it?".into()),
        Ok("type-name") => Prompt::TypeName { prompt: "Type web to go on".into(), name: "web".into() },
        _ => return,
    };
    println!("answer={:?}.", Terminal.prompt(&question));
}

fn confirm_with(question: &str, typed: &str) -> String {
    let exe = std::env::current_exe().unwrap();
    let command = format!("'{}' --exact fix::tests::terminal::child --nocapture --test-threads=1", exe.display());
    let mut script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("OPSCTL_TEST_QUESTION", question)
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    script.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    String::from_utf8_lossy(&script.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn only_an_explicit_yes_confirms() {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: requires script(1)");
        return;
    }
    for (question, typed, answer) in [
        ("yes-no", "y\r", Confirmation::Yes),
        ("yes-no", "n\r", Confirmation::No),
        ("yes-no", "\r", Confirmation::No),
        ("type-name", "web\r", Confirmation::Yes),
        ("type-name", "y\r", Confirmation::No),
        ("type-name", "\r", Confirmation::No),
    ] {
        let output = confirm_with(question, typed);
        assert!(output.contains(&format!("answer={answer:?}.")), "{question} {typed:?}: {output}");
    }
}

#[test]
fn prompt_without_a_terminal_is_not_answered() {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fix::tests::terminal::child", "--nocapture"])
        .env("OPSCTL_TEST_QUESTION", "yes-no")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).contains("answer=NoTerminal."));
}
