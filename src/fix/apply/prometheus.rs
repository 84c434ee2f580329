//! Reload of Prometheus.

use opsctl_core::model::{Product, ServerProcess};
use opsctl_core::probe::docker::Docker;
use opsctl_core::probe::servers::prometheus::check_config;
use opsctl_core::probe::servers::web;

use super::signal::ProcessHandle;

/// Repeats the configuration test and triggers the reload only if the test passes and the process is still the same one.
pub(super) async fn reload(
    docker: Option<&Docker>,
    pid: i32,
    start_ticks: u64,
    container: Option<&str>,
    test: &[String],
    over_http: bool,
) -> Result<(), String> {
    let held = ProcessHandle::of(pid)?;
    held.is_from(start_ticks)?;
    let process = ServerProcess { pid, start_ticks };
    let checked = check_config(docker, container, process, test).await;
    if let Some(why) = &checked.not_run {
        return Err(format!("its test could not be run: {why}"));
    }
    if !checked.passes {
        return Err(format!("its test fails now: {}", checked.says.join("; ")));
    }
    held.is_from(start_ticks)?;
    if over_http { web::post(Product::Prometheus, process, "/-/reload").await } else { held.hang_up() }
}
