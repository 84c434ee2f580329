//! The obstacle in the engine's error, checked again: an obstacle that has disappeared does not prevent the next start.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use opsctl_core::model::address::join;
use opsctl_core::model::log::{ReasonKind, reason};
use opsctl_core::probe::docker::{Container, Docker};
use opsctl_core::probe::network::{netns, view};
use opsctl_core::probe::{Io, ProbeCx, blocking};

use crate::shared::obstacle::Obstacle;
use crate::shared::servers::READ_TIMEOUT;

/// Time limit of one connection to a peer in the engine's error.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Space that a container needs to start, in bytes (judgement: 16 MiB).
const SPACE_TO_START: u64 = 16 << 20;

/// Errors that every start repeats.
const PERMANENT: &[&str] = &[
    "executable file not found",
    "exec format error",
    "unknown runtime",
    "could not select device driver",
    "error setting rlimit",
    "invalid argument",
    "unknown capability",
    "unable to find user",
    "unable to find group",
    "no matching entries in passwd file",
    "is not a valid",
    "invalid mount",
    "invalid hostname",
    "sysctl",
    "seccomp",
    "apparmor",
    "permission denied",
    "not a directory",
    "is a directory",
];

/// The obstacle in the engine's error of a container, if it can be checked.
pub(super) async fn of(cx: &ProbeCx, docker: &Docker, container: &Container) -> Option<Obstacle> {
    let docker = docker.of(&container.id);
    // paths and addresses in the message are those of another machine, or chosen by another user
    if !docker.is_local() {
        return None;
    }
    let error = container.state.error.as_str();
    let lower = error.to_lowercase();
    let reason = reason(error);
    if let Some((host, Some(port))) = reason.as_ref().and_then(|r| r.peer()) {
        return of_peer(host, port).await;
    }
    if lower.contains("cannot assign requested address") {
        return of_address(error).await;
    }
    if matches!(reason.as_ref().map(|r| r.kind), Some(ReasonKind::NoSpace | ReasonKind::ReadOnly)) {
        let root = docker.data_root().await.ok()?;
        let usage = cx.filesystems.of(root.as_ref()).await.ok()?;
        let name = &usage.mountpoint;
        return Some(if usage.avail < SPACE_TO_START {
            Obstacle::Present(format!("{name} has no space left"))
        } else {
            Obstacle::Gone(format!("{name} has space again"))
        });
    }
    if let Some(other) = container.network_mode.strip_prefix("container:") {
        let holder = cx.inventory.container(other).or_else(|| cx.inventory.containers.iter().find(|c| c.name == other));
        return Some(match holder {
            None => Obstacle::Permanent,
            Some(c) if c.state == "running" => Obstacle::Gone(format!("{}, which provides its network, runs again", c.name)),
            Some(c) => Obstacle::Present(format!("{}, which provides its network, does not run", c.name)),
        });
    }
    if lower.contains("network") && lower.contains("not found") {
        let networks = docker.own_networks().await.ok()?;
        let exists = |name: &&String| networks.iter().any(|n| n.name == **name || n.id == **name);
        let missing = container.networks.keys().find(|name| !exists(name));
        return Some(missing.map_or_else(
            || Obstacle::Gone("its networks exist".to_owned()),
            |name| Obstacle::Present(format!("its network {name} does not exist")),
        ));
    }
    if lower.contains("no such file or directory") || lower.contains("does not exist") || lower.contains("mounts denied") {
        return of_paths(container, error).await;
    }
    PERMANENT.iter().any(|text| lower.contains(text)).then_some(Obstacle::Permanent)
}

/// A peer of the engine itself, for example of a log driver: the connection is tried from this host.
async fn of_peer(host: &str, port: u16) -> Option<Obstacle> {
    let name = host.to_owned();
    let read = move |io: &Io| io.look_up(&name, port).unwrap_or_default();
    let addresses: Vec<SocketAddr> = blocking::run("an address", host, READ_TIMEOUT, read).await.ok()?;
    let Some(address) = addresses.first() else {
        return Some(Obstacle::Present(format!("the host name {host} cannot be resolved")));
    };
    Some(match netns::connect(*address, CONNECT_TIMEOUT).await.ok()? {
        Ok(_) => Obstacle::Gone(format!("{} accepts connections again", join(host, port))),
        Err(_) => Obstacle::Present(format!("{} still accepts no connection", join(host, port))),
    })
}

/// The address that the engine could not bind.
async fn of_address(error: &str) -> Option<Obstacle> {
    let words = error.split(|c: char| c.is_whitespace() || c == '/');
    let address =
        words.filter_map(|w| w.trim_matches(|c: char| !c.is_ascii_hexdigit()).parse::<SocketAddr>().ok()).map(|a| a.ip()).next();
    let ip: IpAddr = address?;
    let here = view(None, Vec::new()).await.ok()?.has(ip);
    Some(if here {
        Obstacle::Gone(format!("{ip} is an address of this host again"))
    } else {
        Obstacle::Present(format!("{ip} is not an address of this host"))
    })
}

/// Bind sources and devices in the error.
async fn of_paths(container: &Container, error: &str) -> Option<Obstacle> {
    let mut paths: Vec<String> = container.mounts.iter().filter(|m| m.kind == "bind").map(|m| m.source.clone()).collect();
    paths.retain(|path| error.contains(path.as_str()));
    let words = error.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    paths.extend(words.filter(|w| w.starts_with("/dev/")).map(|w| w.trim_end_matches([':', ',']).to_owned()));
    if paths.is_empty() {
        // a program in the image
        return Some(Obstacle::Permanent);
    }
    let read = move |io: &Io| paths.iter().find(|path| !io.exists(path)).cloned();
    let missing = blocking::run("bind sources", &container.name, READ_TIMEOUT, read).await.ok()?;
    Some(missing.map_or_else(
        || Obstacle::Gone("its bind sources exist".to_owned()),
        |path| Obstacle::Present(format!("{path} does not exist")),
    ))
}
