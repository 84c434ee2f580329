//! Access without authentication, and recent restarts.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Product, Sample, Severity, quantity::duration,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::{Info, keys_of, session};
use crate::shared::dependencies::running;
use crate::shared::servers::Server;

const EXPOSED: Code = Code {
    id: "redis.exposed",
    severities: &[Severity::Info, Severity::Crit],
    when: "the server accepts commands from any client that reaches this host: no authentication, no protected mode, and it listens (or its container publishes its port) on every address (crit); the same inside a container's network only (info)",
    hint: "bind it to the required addresses and set `requirepass` or ACL users: an open Redis is a remote shell",
    ..Code::BASE
};
const RESTARTED: Code = Code {
    id: "redis.restarted",
    severities: &[Severity::Info, Severity::Warn],
    when: "the server was started less than {restarted_s} ago while the host was up: info, warn if it has no persistence and held more keys at an earlier run of opsctl within a day",
    hint: "find the cause of the restart; workers with old kombu versions do not resume consuming afterwards",
    depends_on: &[&running("its")],
    ..Code::BASE
};

/// Period of the comparison, in seconds.
const DAY: i64 = 86_400;

static SPEC: CheckSpec = CheckSpec {
    id: "redis.exposure",
    title: "Redis requires authentication and was not restarted",
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
    /// The server accepts commands without authentication.
    open: bool,
    bind: Option<String>,
    protected_mode: Option<String>,
    save: Option<String>,
    /// Host addresses on which the container publishes the server's port.
    published: Vec<String>,
    /// The server is in the network namespace of the host.
    host_network: bool,
    /// Seconds since the host booted.
    host_uptime_s: u64,
    /// Keys in all databases.
    keys: u64,
    /// The oldest such count within a day, also from before a restart of the server.
    before: Option<Sample>,
}

impl Check for Exposure {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
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
            host_uptime_s: u64::try_from(opsctl_core::probe::io::clock::since_boot().as_secs()).unwrap_or(0),
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
        if let Ok(keys) = keys_of(&session).await {
            e.keys = keys;
        }
        e.before = cx.history.oldest(&target.id, "keys", DAY);
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = [exposed(judged, e), self.restarted(judged, e)].into_iter().flatten().collect();
        // keyed by the installation, not by the process: the count must survive a restart
        let sample = Sample::count(&judged.target.id, "keys", judged.taken_at, e.keys);
        Judgement { findings, samples: vec![sample], ..Judgement::default() }
    }
}

/// Whether an address is a loopback address.
fn is_loopback(address: &str) -> bool {
    let address = address.trim_start_matches('-');
    address == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

fn exposed(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    // without the `bind` setting nothing is known; protected mode accepts only loopback clients while
    // neither bind nor password is set
    let bind = e.bind.as_deref()?;
    let everywhere =
        bind.is_empty() || bind.split_whitespace().any(|a| matches!(a.trim_start_matches('-'), "0.0.0.0" | "*" | "::"));
    if !e.open || !everywhere || e.protected_mode.as_deref() != Some("no") {
        return None;
    }
    let name = &judged.target.name;
    let published: Vec<&str> = e.published.iter().map(String::as_str).filter(|a| !is_loopback(a)).collect();
    let finding = |severity, message: String| {
        e.server
            .finding(&EXPOSED, severity, judged.target, message)
            .cite("bind", bind)
            .cite_opt("protected-mode", e.protected_mode.clone())
    };
    // any client can also change its settings
    let finding = |severity, message: String| match e.server.get() {
        Some(server) => finding(severity, message).key(KeyKind::Altered, &server.id),
        None => finding(severity, message),
    };
    if e.host_network {
        Some(finding(Severity::Crit, format!("{name} listens on every address and requires no authentication")))
    } else if let Some(address) = published.first() {
        let address = if address.is_empty() { "every address" } else { address };
        Some(finding(Severity::Crit, format!("{name} requires no authentication and its port is published on {address}")))
    } else {
        // the default of the official image: reachable only from the container's networks
        Some(finding(Severity::Info, format!("{name} requires no authentication: any container in its networks can use it")))
    }
}

impl Exposure {
    fn restarted(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let uptime = e.info.number("uptime_in_seconds").filter(|u| *u < self.settings.restarted_s)?;
        // after a boot every server was started recently
        if e.host_uptime_s < uptime + self.settings.restarted_s {
            return None;
        }
        let name = &judged.target.name;
        let age = duration(SignedDuration::from_secs(i64::try_from(uptime).unwrap_or(0)));
        let forgets = e.info.is("aof_enabled", "0") && e.save.as_deref().is_some_and(str::is_empty);
        let held = e.before.as_ref().map_or(0, Sample::as_count);
        Some(if forgets && held > e.keys {
            let message =
                format!("{name} was started {age} ago, has no persistence, and has {} of the {held} keys it held before", e.keys);
            e.server.finding(&RESTARTED, Severity::Warn, judged.target, message)
        } else {
            e.server.finding(&RESTARTED, Severity::Info, judged.target, format!("{name} was started {age} ago"))
        })
    }
}
