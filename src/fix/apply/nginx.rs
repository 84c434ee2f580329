//! Reload of nginx.

use opsctl_core::model::ServerProcess;
use opsctl_core::probe::docker::Docker;
use opsctl_core::probe::nginx::run_test;

use super::signal::ProcessHandle;

/// Repeats the configuration test and signals the master only if the test passes and the process is still the same one.
pub(super) async fn reload(
    docker: Option<&Docker>,
    pid: i32,
    start_ticks: u64,
    container: Option<&str>,
    test: &[String],
) -> Result<(), String> {
    let master = ProcessHandle::of(pid)?;
    master.is_from(start_ticks)?;
    let tested = run_test(docker, container, ServerProcess { pid, start_ticks }, test).await;
    if let Some(why) = &tested.not_run {
        return Err(format!("its test could not be run: {why}"));
    }
    if !tested.passes {
        return Err(format!("its test fails now: {}", tested.complaint().unwrap_or("no output")));
    }
    master.is_from(start_ticks)?;
    master.hang_up()
}
