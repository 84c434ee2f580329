//! Signals to a process that is still the same one.

#![allow(clippy::disallowed_methods, reason = "a fix acts on files and processes that were proven, under the watchdog")]

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::start_time;

/// A process held by its pidfd: a reused pid is not signalled.
pub(super) struct ProcessHandle {
    process: OwnedFd,
    pid: i32,
}

impl ProcessHandle {
    pub(super) fn of(pid: i32) -> Result<Self, String> {
        let number = Pid::from_raw(pid).ok_or("there is no such process")?;
        let process = pidfd_open(number, PidfdFlags::empty()).map_err(|e| format!("process {pid}: {e}"))?;
        Ok(Self { process, pid })
    }

    /// Fails unless the process has this start time.
    pub(super) fn is_from(&self, start_ticks: u64) -> Result<(), String> {
        let path = format!("/proc/{}/stat", self.pid);
        let stat = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        if start_time(&stat) == Some(start_ticks) { Ok(()) } else { Err(format!("process {} now is another process", self.pid)) }
    }

    pub(super) fn hang_up(&self) -> Result<(), String> {
        pidfd_send_signal(&self.process, Signal::HUP).map_err(|e| format!("SIGHUP to process {}: {e}", self.pid))
    }
}
