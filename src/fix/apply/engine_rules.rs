//! Rules of the container engine after a firewall is started again: without them published ports are unreachable while every
//! container looks healthy.

use opsctl_core::probe::network::firewall;

/// Fails if one of `rules` is missing.
pub(super) async fn keep(rules: &[String]) -> Result<(), String> {
    let now = firewall::read().await.map_err(|e| e.to_string())?.engine_rules();
    let missing: Vec<&String> = rules.iter().filter(|r| !now.contains(r)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let count = missing.len();
    Err(format!(
        "{count} of {} rules of the container engine are missing, first `{first}`; published ports are unreachable until the engine writes them again: systemctl restart docker",
        rules.len()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

    use super::*;

    fn iptables(arguments: &str) {
        let done = Command::new("iptables").args(arguments.split(' ')).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Runs as root in its own network namespace; otherwise skipped.
    #[test]
    fn missing_engine_rule_is_reported() {
        if !rustix::process::geteuid().is_root() || which::which("iptables-save").is_err() {
            return;
        }
        let mut holder = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        let path = format!("/proc/{}/ns/net", holder.id());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(&path).unwrap() == own {
            std::thread::yield_now();
        }
        let in_own_network = move || {
            let network = std::fs::File::open(path).unwrap();
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            iptables("-t nat -N DOCKER");
            iptables("-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER");
            let rules = runtime.block_on(firewall::read()).unwrap().engine_rules();
            assert_eq!(rules.len(), 2, "{rules:?}");
            runtime.block_on(keep(&rules)).unwrap();
            iptables("-t nat -F PREROUTING");
            let error = runtime.block_on(keep(&rules)).unwrap_err();
            assert!(error.contains("1 of 2 rules") && error.contains("-j DOCKER"), "{error}");
        };
        let ended = std::thread::spawn(in_own_network).join();
        holder.kill().unwrap();
        holder.wait().unwrap();
        ended.unwrap();
    }
}
