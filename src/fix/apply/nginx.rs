//! Reloading nginx.

use opsctl_core::probe::docker::Docker;
use opsctl_core::probe::nginx::run_test;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::start_time;

/// Runs the test once more, and lets the master know only when it passes just now and is still the one that was seen.
pub(super) async fn reload(
    docker: Option<&Docker>,
    pid: i32,
    start_ticks: u64,
    container: Option<&str>,
    test: &[String],
) -> Result<(), String> {
    // held before it is looked at: a number that is reused in between leads nowhere
    let number = Pid::from_raw(pid).ok_or("there is no such process")?;
    let master = pidfd_open(number, PidfdFlags::empty()).map_err(|e| format!("process {pid}: {e}"))?;
    let tested = run_test(docker, container, test).await;
    if let Some(why) = &tested.not_run {
        return Err(format!("its test could not be run: {why}"));
    }
    if !tested.passes {
        return Err(format!("its test fails now: {}", tested.complaint().unwrap_or("it says nothing")));
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|e| format!("/proc/{pid}/stat: {e}"))?;
    if start_time(&stat) != Some(start_ticks) {
        return Err(format!("process {pid} is another one now"));
    }
    pidfd_send_signal(&master, Signal::HUP).map_err(|e| format!("SIGHUP to process {pid}: {e}"))
}
