//! After a firewall is started again, the rules of the container engine must still be there: without them published ports are dead
//! while every container looks fine.

use opsctl_core::probe::firewall;

/// Fails when one of `rules` is gone.
pub(super) async fn keep(rules: &[String]) -> Result<(), String> {
    let now = firewall::engine_rules().await.map_err(|e| e.to_string())?;
    let gone: Vec<&String> = rules.iter().filter(|r| !now.contains(r)).collect();
    let Some(first) = gone.first() else { return Ok(()) };
    let count = gone.len();
    Err(format!(
        "{count} of {} rules of the container engine are gone, first `{first}`; published ports are dead until the engine writes them again: systemctl restart docker",
        rules.len()
    ))
}
