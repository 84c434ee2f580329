//! `opsctl targets`: the discovered targets of this host and their sources.

use std::fmt::Write as _;

use opsctl_core::model::address::join;
use opsctl_core::model::{CertificateSource, EngineState, Inventory, SystemdRef, SystemdState, printable};
use opsctl_core::probe::ProbeOptions;

use super::list::ListFormat;
use super::{Global, ending, exit, run};
use crate::config::Config;
use crate::watchdog;

/// `opsctl targets`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format on standard output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: ListFormat,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    watchdog::on_overdue(ending::of_line());
    let (config, _limit) = run::bounded(None, || run::load(global), |config| config.deadline)?;
    let inventory = run::block_on(async {
        let (session, _) = crate::diagnosis::session(&config, ProbeOptions::default(), None).await;
        Box::pin(session.inventory()).await
    })?;
    let text = match args.format {
        ListFormat::Table => text(&inventory) + &services(&config),
        ListFormat::Json => format!("{}\n", serde_json::to_string_pretty(&inventory)?),
    };
    watchdog::print(&text)?;
    Ok(exit::OK)
}

/// The services of the site runbooks.
fn services(config: &Config) -> String {
    let mut out = String::new();
    for (i, own) in config.site.iter().enumerate() {
        let heading = if i == 0 { "services\n" } else { "" };
        // writing to a String cannot fail
        let _ = writeln!(out, "{heading}  {}  {}", own.id, printable(&own.file.display().to_string()));
    }
    out
}

fn text(inventory: &Inventory) -> String {
    let mut out = String::new();
    // writing to a String cannot fail
    if let Some(container) = &inventory.confined {
        let _ = writeln!(out, "opsctl runs in container {}: the targets of this host are not visible", printable(container));
    }
    if inventory.engine.is_none() {
        out += "no container engine: no Docker or Podman socket, and docker.service is not enabled\n";
    }
    for e in inventory.engines() {
        let state = match &e.state {
            EngineState::Answers { version, api, latency_ms } => format!("{version}, API {api}, responds in {latency_ms} ms"),
            EngineState::Missing => "the socket does not exist".to_owned(),
            EngineState::Denied => "permission denied; needs root or group docker".to_owned(),
            EngineState::Unsupported { error } => error.clone(),
            EngineState::Refused => "connection refused".to_owned(),
            EngineState::Hung { after_ms } => format!("did not answer within {after_ms} ms"),
            EngineState::Garbage { error } => format!("does not speak the Docker API: {error}"),
        };
        let _ = writeln!(
            out,
            "{} at {} ({}): {}",
            printable(&e.name),
            printable(&e.endpoint),
            printable(&e.found_by),
            printable(&state)
        );
    }
    let mut containers: Vec<_> = inventory.containers.iter().collect();
    containers.sort_by(|a, b| (&a.project, &a.name).cmp(&(&b.project, &b.name)));
    let width = containers.iter().map(|c| printable(&c.name).chars().count()).max().unwrap_or(0);
    let mut project = None;
    for c in containers {
        if c.project.is_some() && project != c.project.as_ref() {
            let _ = writeln!(out, "  compose project {}", printable(c.project.as_deref().unwrap_or_default()));
        }
        project = c.project.as_ref();
        let indent = if c.project.is_some() { "    " } else { "  " };
        let _ = writeln!(out, "{indent}container {:<width$}  {:<10} {}", printable(&c.name), c.state, printable(&c.image));
    }
    out += "filesystems\n";
    for m in &inventory.mounts {
        let _ = writeln!(out, "  {}  {} on {}", printable(&m.mountpoint), m.fstype, printable(&m.source));
    }
    if !inventory.servers.is_empty() {
        out += "servers\n";
    }
    let width = inventory.servers.iter().map(|s| printable(&s.name).chars().count()).max().unwrap_or(0);
    for s in &inventory.servers {
        let state = if s.process.is_some() || s.address.is_some() { "" } else { "not running; " };
        let product = s.product.kind().to_string();
        let untrusted = s.untrusted.as_ref().map_or_else(String::new, |why| format!("; not examined: {}", printable(why)));
        let _ = writeln!(out, "  {product:<12} {:<width$}  {state}{}{untrusted}", printable(&s.name), printable(&s.found_by));
    }
    out += &certificates(inventory);
    if let Some(systemd) = &inventory.systemd {
        out += &units(systemd);
    }
    for gap in &inventory.gaps {
        let _ = writeln!(out, "unavailable: {}", printable(gap));
    }
    out
}

/// Certificates with their sources, and the addresses that are checked.
fn certificates(inventory: &Inventory) -> String {
    let mut out = String::new();
    if !inventory.certificates.is_empty() {
        out += "certificates\n";
    }
    let server = |id: &str| inventory.server(id).map_or_else(|| id.to_owned(), |s| s.name.clone());
    let width = inventory.certificates.iter().map(|c| printable(&c.name).chars().count()).max().unwrap_or(0);
    for c in &inventory.certificates {
        let found = match &c.source {
            CertificateSource::Nginx { server: id, address, .. } => format!("served by {} at {address}", server(id)),
            CertificateSource::Endpoint { host, port, .. } => format!("[[endpoint]] at {}", join(host, *port)),
            CertificateSource::File { server: Some(id), .. } => format!("file of {}", server(id)),
            CertificateSource::File { .. } => "file".to_owned(),
            CertificateSource::Lineage { .. } => "renewed by certbot".to_owned(),
        };
        let more = c.names.len().saturating_sub(1);
        let more = if more > 0 { format!(", and {more} more names") } else { String::new() };
        let _ = writeln!(out, "  {:<width$}  {}{more}", printable(&c.name), printable(&found));
    }
    if !inventory.endpoints.is_empty() {
        out += "endpoints\n";
    }
    for e in &inventory.endpoints {
        let proves = e.proves.as_ref().map_or_else(String::new, |p| format!("  proves {}", printable(p)));
        let _ = writeln!(out, "  {}{proves}", printable(&e.url));
    }
    out
}

fn units(systemd: &SystemdRef) -> String {
    match &systemd.state {
        SystemdState::NotInit => "no systemd: PID 1 is another program\n".to_owned(),
        SystemdState::NoBus => "systemd: not available, as dbus is not installed\n".to_owned(),
        SystemdState::Hung => "systemd: did not answer\n".to_owned(),
        SystemdState::Failed { error } => format!("systemd: {}\n", printable(error)),
        SystemdState::Answers => {
            let mut out = "systemd\n".to_owned();
            let width = systemd.units.iter().map(|u| printable(&u.name).chars().count()).max().unwrap_or(0);
            for u in &systemd.units {
                let _ = writeln!(out, "  {:<width$}  {} ({}) {}", printable(&u.name), u.active, u.sub, u.file_state);
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{
        CertificateRef, ContainerRef, EndpointRef, EngineRef, MountRef, Product, ServerProcess, ServerRef, UnitRef,
    };

    use super::*;

    #[test]
    fn targets_with_their_sources() {
        let container = |name: &str, project: Option<&str>| ContainerRef {
            id: "a".repeat(64),
            name: name.into(),
            image: "web:1".into(),
            state: "running".into(),
            network_mode: "bridge".into(),
            product: None,
            celery: None,
            project: project.map(Into::into),
            service: None,
            labels: std::collections::BTreeMap::default(),
        };
        let inventory = Inventory {
            engine: Some(EngineRef {
                name: "docker".into(),
                endpoint: "unix:///var/run/docker.sock".into(),
                found_by: "well-known socket".into(),
                state: EngineState::Answers { version: "28.2.2".into(), api: "1.47".into(), latency_ms: 2 },
            }),
            more_engines: vec![],
            containers: vec![container("db", Some("app")), container("alone\x1b", None), container("web", Some("app"))],
            mounts: vec![MountRef {
                dev: "8:1".into(),
                mountpoint: "/".into(),
                fstype: "ext4".into(),
                source: "/dev/sda1".into(),
                super_options: vec![],
                mount_options: vec![],
            }],
            systemd: Some(SystemdRef {
                state: SystemdState::Answers,
                units: vec![UnitRef {
                    name: "nginx.service".into(),
                    load: "loaded".into(),
                    active: "active".into(),
                    sub: "running".into(),
                    file_state: "enabled".into(),
                }],
            }),
            servers: vec![ServerRef {
                product: Product::Redis,
                name: "cache".into(),
                id: "redis:aaaa".into(),
                found_by: "process 812 (redis-server)".into(),
                process: Some(ServerProcess { pid: 812, start_ticks: 7 }),
                container: Some("a".repeat(64)),
                unit: None,
                address: None,
                untrusted: None,
            }],
            certificates: vec![CertificateRef {
                name: "shop.example".into(),
                id: "x".into(),
                names: vec!["shop.example".into(), "www.shop.example".into()],
                source: CertificateSource::Endpoint { host: "shop.example".into(), port: 443, first: None, from: None },
            }],
            endpoints: vec![EndpointRef {
                url: "https://shop.example/health/".into(),
                id: "y".into(),
                proves: Some("deep health".into()),
            }],
            confined: None,
            gaps: vec![],
        };
        insta::assert_snapshot!(text(&inventory));
    }
}
