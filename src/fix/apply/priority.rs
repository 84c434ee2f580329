//! The priority of a process.

#![allow(clippy::disallowed_methods, reason = "a fix acts on files and processes that were proven, under the watchdog")]

use std::io;
use std::path::Path;

use rustix::process::{Pid, setpriority_process};

/// Sets the priority of every thread: on Linux each thread has its own.
pub(super) fn set(proc: &Path, pid: i32, start_ticks: u64, nice: i32) -> io::Result<()> {
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat"))?;
    if super::start_time(&stat) != Some(start_ticks) {
        return Err(io::Error::other(format!("pid {pid} now is another process")));
    }
    for entry in std::fs::read_dir(proc.join(pid.to_string()).join("task"))? {
        let Some(thread) = entry?.file_name().to_str().and_then(|n| Pid::from_raw(n.parse().ok()?)) else { continue };
        match setpriority_process(Some(thread), nice) {
            // a thread may end in between
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn reniced_process_must_have_the_expected_start_time() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let ticks = super::super::start_time(&stat).unwrap();
        let other = set(Path::new("/proc"), pid, ticks + 1, 10).unwrap_err();
        set(Path::new("/proc"), pid, ticks, 10).unwrap();
        let nice = getpriority_process(Pid::from_raw(pid)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(nice, 10);
        assert!(other.to_string().contains("another process"), "{other}");
    }
}
