//! Running a program: its arguments as they are, its own process group, an end. For what no interface but a program gives, and for
//! the fixes that run one.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::model::{printable, quantity};

/// How long its output is waited for after it has ended: a daemon it started may hold the pipe for ever.
const LINGER: Duration = Duration::from_millis(500);

/// How much of what it prints is kept, in bytes: the end of it.
const KEEP: usize = 256 << 10;

/// The same for a program that is run for what it prints.
const KEEP_ALL: usize = 32 << 20;

/// Kills the whole group when the wait is given up, for whatever reason.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// How a program ended and the last 256 KiB and more of what it printed.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Ended {
    /// The last thing it said, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
        printable(last.trim())
    }
}

/// Runs `argv` (never through a shell, in the C locale, without input) and waits at most `timeout`. The error says why there is no end to report.
pub async fn run(argv: &[impl AsRef<str>], timeout: Duration) -> Result<Ended, String> {
    run_keeping(argv, timeout, KEEP).await
}

/// [`run`] for a program whose whole output is wanted, 32 MiB and more of it.
pub async fn read(argv: &[impl AsRef<str>], timeout: Duration) -> Result<Ended, String> {
    run_keeping(argv, timeout, KEEP_ALL).await
}

async fn run_keeping(argv: &[impl AsRef<str>], timeout: Duration, keep: usize) -> Result<Ended, String> {
    let mut words = argv.iter().map(AsRef::as_ref);
    let name = words.next().ok_or("there is nothing to run")?;
    let program = which::which(name).map_err(|_| format!("{name} is not installed"))?;
    if !program.is_absolute() {
        // a relative entry in PATH, and so whoever owns the current directory
        return Err(format!("{name} was found by a relative path"));
    }
    let mut child = Command::new(program)
        // its own name, as a shell would give it: some programs are many under several names
        .arg0(name)
        .args(words)
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
        let reading = async { tokio::join!(drain(stdout, &mut out, keep), drain(stderr, &mut err, KEEP)) };
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
    let after = || quantity::duration(timeout.try_into().unwrap_or_default());
    let status = status.map_err(|_| format!("{name} did not end within {}", after()))?;
    let status = status.map_err(|e| format!("waiting for {name}: {e}"))?;
    // reaped: its number may soon be another's
    group.0 = None;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ended { status, stdout: text(out), stderr: text(err) })
}

/// Reads to the end and keeps the last part: a program must not block, or die of a closed pipe half-way, because it talks much.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, keep: usize) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        if kept.len() > 2 * keep {
            kept.drain(..kept.len() - keep);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "current_thread")]
    async fn arguments_are_not_read_by_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b;$(id)");
        assert!(run(&["touch", path.to_str().unwrap()], LONG).await.unwrap().status.success());
        assert!(path.exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_it_said_last_is_known() {
        let ended = run(&["ls", "/no/such/place"], LONG).await.unwrap();
        assert!(ended.last_words().starts_with("ls: cannot access"), "{ended:?}");
        assert_eq!(ended.status.code(), Some(2));
        assert_eq!(run(&["no-such-program-here"], LONG).await.unwrap_err(), "no-such-program-here is not installed");
        let nothing: [&str; 0] = [];
        assert!(run(&nothing, LONG).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn much_output_neither_blocks_nor_grows() {
        let ended = run(&["seq", "1", "300000"], LONG).await.unwrap();
        assert!(ended.stdout.ends_with("300000\n") && ended.stdout.len() <= 2 * KEEP + 4096);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_whole_group_is_killed_at_the_end_of_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
        let error = run(&["sh", "-c", &script], Duration::from_millis(500)).await.unwrap_err();
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
        run(&["sh", "-c", "setsid sleep 5 & exit 0"], LONG).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}
