//! Running a program: its arguments as they are, its own process group, an end.

use std::process::Stdio;
use std::time::Duration;

use opsctl_core::model::printable;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::show;

/// How long a program may run.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long its output is waited for after it has ended: a daemon it started may hold the pipe for ever.
const LINGER: Duration = Duration::from_millis(500);

/// How much of what it prints is kept, in bytes.
const KEEP: usize = 16 << 10;

/// Kills the whole group when the wait is given up, for whatever reason.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs it; an error says what it printed last.
pub(super) async fn run(argv: &[String]) -> Result<(), String> {
    run_for(argv, TIMEOUT).await
}

async fn run_for(argv: &[String], timeout: Duration) -> Result<(), String> {
    let (name, arguments) = argv.split_first().ok_or("there is nothing to run")?;
    let program = which::which(name).map_err(|_| format!("{name} is not installed"))?;
    if !program.is_absolute() {
        // a relative entry in PATH, and so whoever owns the current directory
        return Err(format!("{name} was found by a relative path"));
    }
    let mut child = Command::new(program)
        // its own name, as a shell would give it: some programs are many under several names
        .arg0(name)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("starting {name}: {e}"))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let reading = async { tokio::join!(drain(stdout, &mut out), drain(stderr, &mut err)) };
        tokio::pin!(reading);
        let ended = async {
            tokio::select! {
                status = child.wait() => {
                    let _ = tokio::time::timeout(LINGER, &mut reading).await;
                    status
                }
                _ = &mut reading => child.wait().await,
            }
        };
        tokio::time::timeout(timeout, ended).await
    };
    let status = status.map_err(|_| format!("{name} did not end within {}", show::length(timeout)))?;
    let status = status.map_err(|e| format!("waiting for {name}: {e}"))?;
    // reaped: its number may soon be another's
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    let said = if err.iter().all(u8::is_ascii_whitespace) { out } else { err };
    let said = String::from_utf8_lossy(&said);
    let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    Err(format!("{name} ended with {status}: {}", printable(last.trim())))
}

/// Reads to the end and keeps the last part: a program must not block, or die of a closed pipe half-way, because it talks much.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() > 2 * KEEP {
            kept.drain(..kept.len() - KEEP);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Instant;

    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn arguments_are_not_read_by_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b;$(id)");
        run(&argv(&["touch", path.to_str().unwrap()])).await.unwrap();
        assert!(path.exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_it_said_last_is_in_the_error() {
        let error = run(&argv(&["ls", "/no/such/place"])).await.unwrap_err();
        assert!(error.starts_with("ls ended with exit status: 2: ls: cannot access"), "{error}");
        assert_eq!(run(&argv(&["no-such-program-here"])).await.unwrap_err(), "no-such-program-here is not installed");
        assert!(run(&[]).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn much_output_neither_blocks_nor_grows() {
        let started = Instant::now();
        run(&argv(&["seq", "1", "300000"])).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_whole_group_is_killed_at_the_end_of_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
        let error = run_for(&argv(&["sh", "-c", &script]), Duration::from_millis(500)).await.unwrap_err();
        assert_eq!(error, "sh did not end within 0.5 s");
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            // whoever adopts it may not have reaped it yet
            stat.is_empty() || stat.contains(") Z ")
        };
        let started = Instant::now();
        while !gone() {
            assert!(started.elapsed() < Duration::from_secs(10), "the grandchild lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_daemon_that_keeps_the_pipe_does_not_hold_us() {
        let started = Instant::now();
        run(&argv(&["sh", "-c", "setsid sleep 5 & exit 0"])).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}
