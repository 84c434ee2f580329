//! The supervisor process: it waits for the run and exits when the run has ended.
//!
//! A thread that waits for a FUSE server which has accepted its request and does not reply cannot be killed (`request_wait_answer` in
//! `fs/fuse/dev.c`), and a process with such a thread is never reaped: its parent would wait forever although the report is printed.
//! This process does no input or output that can hang. It relays the exit code of the run as soon as the run has called `exit(2)`.

#![allow(clippy::disallowed_methods, reason = "starts this program again")]

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use opsctl_core::probe::{blocking, environment};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

/// Set in the environment of the process that executes the run.
const RUN_VARIABLE: &str = "OPSCTL_RUN_OF";

/// Poll interval for a run that has not been reaped.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The command that is not supervised: it runs until it is stopped, and systemd supervises its process.
const UNSUPERVISED: &str = "listen";

/// Options that only print a text of the program.
const TEXTS: &[&str] = &["--version", "-V", "--help", "-h"];

/// Runs `run` in a child process and returns its exit code, or runs it in this process if that is not possible or not needed.
pub fn run(arguments: Vec<OsString>, run: impl FnOnce(Vec<OsString>) -> u8) -> u8 {
    let parent = std::os::unix::process::parent_id().to_string();
    if environment(RUN_VARIABLE).is_some_and(|of| of == parent) {
        // the kernel would set it to `exe`
        let _ = rustix::thread::set_name(c"opsctl");
        // a signal that kills the parent kills the run; the journal records a fix in flight
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        return run(arguments);
    }
    let reads_nothing = arguments.iter().skip(1).any(|a| TEXTS.iter().any(|text| a == text));
    if arguments.len() >= 2
        && !reads_nothing
        && let Err(why) = crate::image::enter_host()
    {
        let _ = writeln!(std::io::stderr().lock(), "opsctl: {why}");
        return crate::cli::exit::NO_PERMISSION;
    }
    if arguments.len() < 2 || reads_nothing || arguments.iter().skip(1).any(|a| a == UNSUPERVISED) {
        return run(arguments);
    }
    raise_limits();
    let mut command = Command::new("/proc/self/exe");
    command.arg0(&arguments[0]).args(&arguments[1..]).env(RUN_VARIABLE, std::process::id().to_string());
    match command.spawn() {
        Ok(child) => wait(child),
        // without /proc no diagnosis is possible; the run reports it
        Err(_) => run(arguments),
    }
}

fn wait(mut child: std::process::Child) -> u8 {
    let pid = child.id();
    let (send, ended) = mpsc::channel();
    let waiter = std::thread::Builder::new().spawn(move || {
        let _ = send.send(child.wait());
    });
    if waiter.is_err() {
        return by_polling(pid);
    }
    loop {
        match ended.recv_timeout(POLL_INTERVAL) {
            Ok(Ok(status)) => return relay(status),
            Ok(Err(_)) => return crate::cli::exit::SOFTWARE,
            Err(_) => {}
        }
        // proc(5): procfs does not block
        let stat = blocking::run_on_current_thread(|io| io.read_lossy(format!("/proc/{pid}/stat")));
        if let Some(status) = stat.ok().and_then(|stat| exited(&stat)) {
            // its threads have the time of an ordinary exit
            let reaped = ended.recv_timeout(POLL_INTERVAL);
            return relay(reaped.ok().and_then(Result::ok).unwrap_or(status));
        }
    }
}

/// Waits without a thread of its own.
fn by_polling(pid: u32) -> u8 {
    loop {
        std::thread::sleep(POLL_INTERVAL);
        match blocking::run_on_current_thread(|io| io.read_lossy(format!("/proc/{pid}/stat"))) {
            Ok(stat) => {
                if let Some(status) = exited(&stat) {
                    return relay(status);
                }
            }
            Err(_) => return crate::cli::exit::SOFTWARE,
        }
    }
}

/// Resources of a run and the least that it needs: bytes of a file, of private memory, of the address space and of the stack of a thread;
/// open files. Limits inherited from a shell or from sudo would end a run without a report.
const NEEDED: &[(Resource, u64)] = &[
    (Resource::Fsize, 1 << 30),
    (Resource::Data, 1 << 30),
    (Resource::As, 8 << 30),
    (Resource::Stack, 8 << 20),
    (Resource::Nofile, 4096),
];

/// Raises inherited limits to [`NEEDED`], as far as this user may.
fn raise_limits() {
    for (resource, needed) in NEEDED {
        let now = getrlimit(*resource);
        if now.current.is_none_or(|current| current >= *needed) {
            continue;
        }
        let maximum = now.maximum.map(|maximum| maximum.max(*needed));
        let raised = setrlimit(*resource, Rlimit { current: Some(*needed), maximum });
        if raised.is_err() {
            // only root may raise the hard limit
            let _ = setrlimit(*resource, Rlimit { current: now.maximum.map(|m| m.min(*needed)), maximum: now.maximum });
        }
    }
}

/// The exit status of a process with threads that still exist: state `Z`, and the last field (`exit_code`).
fn exited(stat: &str) -> Option<ExitStatus> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    Some(ExitStatus::from_raw(fields.next_back()?.parse().ok()?))
}

/// Converts the status of the run: its code, or its signal.
fn relay(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(crate::cli::exit::SOFTWARE),
        // as shells do
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(crate::cli::exit::SOFTWARE),
        (None, None) => crate::cli::exit::SOFTWARE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_of_a_zombie_is_read() {
        let stat = |state: &str, code: &str| format!("7 (a) b) {state} 1 7 7 0 -1 4 0 0 {code}\n");
        assert_eq!(exited(&stat("Z", "768")).map(relay), Some(3));
        assert_eq!(exited(&stat("Z", "9")).map(relay), Some(137));
        assert_eq!((exited(&stat("S", "768")), exited("")), (None, None));
    }
}
