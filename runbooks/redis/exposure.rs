//! Who may talk to it, and was it restarted just now?

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Product, Sample, Severity, Target, quantity::duration,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::{Info, session};
use crate::servers::Server;

const EXPOSED: Code = Code {
    id: "redis.exposed",
    severities: &[Severity::Info, Severity::Crit],
    when: "anybody who reaches this machine may use it: no login, no protected mode, and it listens (or its container publishes its port) on every address (crit); the same inside a container's network only (info)",
    hint: "bind it to the addresses that need it and set `requirepass` or ACL users: an open Redis is a remote shell",
};
const RESTARTED: Code = Code {
    id: "redis.restarted",
    severities: &[Severity::Info, Severity::Warn],
    when: "it was started less than 10 min ago while the machine was up: info, warn when it saves nothing and held more at an earlier run of opsctl within a day",
    hint: "find out why it was restarted; workers of old kombu versions do not take work again after that",
};

/// How far back it is compared, in seconds.
const DAY: i64 = 86_400;

static SPEC: CheckSpec = CheckSpec {
    id: "redis.exposure",
    title: "only who should may use it, and it stays up",
    codes: &[EXPOSED, RESTARTED],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct Exposure {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    info: Info,
    /// It answers without a login.
    open: bool,
    bind: Option<String>,
    protected_mode: Option<String>,
    save: Option<String>,
    /// Host addresses its container publishes its port on.
    published: Vec<String>,
    /// It lives in the network of the host.
    host_network: bool,
    /// Seconds since the machine booted.
    host_uptime_s: u64,
    /// Keys in all databases.
    keys: u64,
    /// The same within the last day, also of an earlier run of the server.
    before: Option<Sample>,
}

impl Check for Exposure {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let info = Info::of(&session, &["uptime_in_seconds", "tcp_port", "aof_enabled", "redis_mode"]).await?;
        let (bind, protected_mode, save) =
            tokio::join!(session.setting("bind"), session.setting("protected-mode"), session.setting("save"));
        let container = server.get().and_then(|s| s.container.clone());
        let mut e = Evidence {
            open: session.without_login,
            bind,
            protected_mode,
            save,
            host_network: container.is_none(),
            host_uptime_s: u64::try_from(opsctl_core::probe::clock::since_boot().as_secs()).unwrap_or(0),
            info,
            server,
            ..Evidence::default()
        };
        if let (Some(id), Some(docker)) = (&container, &cx.docker)
            && let Ok(c) = docker.inspect(id).await
        {
            let port = e.info.number("tcp_port").and_then(|p| u16::try_from(p).ok());
            e.published = c.ports.iter().filter(|p| Some(p.container) == port).map(|p| p.host_ip.clone()).collect();
            e.host_network = c.network_mode == "host";
        }
        if let Ok(all) = session.info().await {
            let databases = all.iter().filter(|(k, _)| k.strip_prefix("db").is_some_and(|n| n.parse::<u32>().is_ok()));
            e.keys = databases.filter_map(|(_, v)| v.strip_prefix("keys=")?.split(',').next()?.parse::<u64>().ok()).sum();
        }
        e.before = cx.history.oldest(&target.id, "keys", DAY);
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = [exposed(judged, e), self.restarted(judged, e)].into_iter().flatten().collect();
        // by the installation, not by the run: a restart must not make it forgotten
        let sample = Sample::count(&judged.target.id, "keys", judged.taken_at, e.keys);
        Judgement { findings, samples: vec![sample], ..Judgement::default() }
    }
}

/// Whether an address is only this machine's own.
fn is_local(address: &str) -> bool {
    let address = address.trim_start_matches('-');
    address == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

fn exposed(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    // without its setting nothing is known; protected mode lets only the loopback in while there is neither bind nor password
    let bind = e.bind.as_deref()?;
    let everywhere =
        bind.is_empty() || bind.split_whitespace().any(|a| matches!(a.trim_start_matches('-'), "0.0.0.0" | "*" | "::"));
    if !e.open || !everywhere || e.protected_mode.as_deref() != Some("no") {
        return None;
    }
    let name = &judged.target.name;
    let published: Vec<&str> = e.published.iter().map(String::as_str).filter(|a| !is_local(a)).collect();
    let finding = |severity, message: String| {
        e.server
            .finding(&EXPOSED, severity, judged.target, message)
            .cite("bind", bind)
            .cite_opt("protected-mode", e.protected_mode.clone())
    };
    if e.host_network {
        Some(finding(Severity::Crit, format!("{name} listens on every address and wants no login")))
    } else if let Some(address) = published.first() {
        let address = if address.is_empty() { "every address" } else { address };
        Some(finding(Severity::Crit, format!("{name} wants no login and its port is published on {address}")))
    } else {
        // the official image is made like this: only its networks reach it
        Some(finding(Severity::Info, format!("{name} wants no login: whatever shares a network with its container may use it")))
    }
}

impl Exposure {
    fn restarted(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let uptime = e.info.number("uptime_in_seconds").filter(|u| *u < self.settings.restarted_s)?;
        // everything is young after a boot
        if e.host_uptime_s < uptime + self.settings.restarted_s {
            return None;
        }
        let name = &judged.target.name;
        let age = duration(SignedDuration::from_secs(i64::try_from(uptime).unwrap_or(0)));
        let forgets = e.info.is("aof_enabled", "0") && e.save.as_deref().is_some_and(str::is_empty);
        let held = e.before.as_ref().map_or(0, Sample::as_count);
        Some(if forgets && held > e.keys {
            let message =
                format!("{name} was started {age} ago, saves nothing, and has {} of the {held} keys it held before", e.keys);
            e.server.finding(&RESTARTED, Severity::Warn, judged.target, message)
        } else {
            e.server.finding(&RESTARTED, Severity::Info, judged.target, format!("{name} was started {age} ago"))
        })
    }
}
