//! The reason of the last failure, checked again: a start is refused only while its obstacle remains.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use jiff::Timestamp;
use opsctl_core::model::address::{join, last_port, without_brackets};
use opsctl_core::model::log::{LogEntry, Reason, ReasonKind};
use opsctl_core::model::{Refusal, quantity};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::names::Lookup;
use opsctl_core::probe::needs::ConnectResult;
use opsctl_core::probe::systemd::Unit;
use serde::{Deserialize, Serialize};

use super::obstacle_files;
use super::unwritable::{self, Unwritable};

/// Space below which a filesystem that a log reports as full still is, in bytes (judgement: 1 MiB).
pub(crate) const SPACE_TO_WRITE: u64 = 1 << 20;

/// An obstacle that was checked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Obstacle {
    /// It is still there.
    Present(String),
    /// It has disappeared.
    Gone(String),
    /// The start fails until the image, the command or the options of the object are changed.
    Permanent,
}

/// The object that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failed<'a> {
    /// A container, also one that runs and logs errors.
    Container(&'a Container),
    /// A unit that does not run.
    Unit(&'a Unit),
}

impl Failed<'_> {
    /// The end of its last run, or the time of the error of a container that runs.
    fn failed_at(&self, line: &LogEntry) -> Option<Timestamp> {
        match self {
            Self::Container(c) if c.state.running => line.last.or(line.at),
            Self::Container(c) => c.state.finished_at,
            Self::Unit(u) => u.inactive_since.or(u.changed),
        }
    }
}

/// Refuses a start that would fail again with the reason of the last run. `by_hand` is the command with which an operator starts
/// the object once the reason is removed. A reason that cannot be checked again counts only if it is permanent.
pub(crate) fn refuse_while_prevented(reason: Option<&Reason>, obstacle: Option<&Obstacle>, by_hand: &str) -> Result<(), Refusal> {
    let Some(reason) = reason else { return Ok(()) };
    let refuse = |why: String| Err(Refusal::Precondition(format!("the start would fail again: {why}")));
    match obstacle {
        Some(Obstacle::Present(why)) => refuse(format!("{why}; {}", reason.hint())),
        Some(Obstacle::Permanent) => refuse(format!("{}; {}", reason.clause(), reason.hint())),
        None if reason.is_permanent() => refuse(format!(
            "{}; {}; this reason cannot be checked again: once it is removed, run `{by_hand}`",
            reason.clause(),
            reason.hint()
        )),
        Some(Obstacle::Gone(_)) | None => Ok(()),
    }
}

/// Checks the reason of the end of the last run again; `None` if that is not possible.
pub(crate) async fn of_log(cx: &ProbeCx, failed: Failed<'_>, log: &LogEvidence) -> Option<Obstacle> {
    let line = log.line()?;
    let reason = line.reason()?;
    // files, ports and peers of another machine, or of another user's engine, are not those of this host
    let is_elsewhere = match (failed, &cx.docker) {
        (Failed::Container(c), Some(docker)) => !docker.of(&c.id).is_local(),
        _ => false,
    };
    if is_elsewhere || cx.inventory.confined.is_some() {
        return None;
    }
    match reason.kind {
        ReasonKind::AddressInUse => of_port(cx, failed, &reason).await,
        ReasonKind::NoSpace | ReasonKind::ReadOnly => of_filesystems(cx, failed, log, &reason).await,
        ReasonKind::NameNotFound => of_name(cx, failed, reason.peer()?.0).await,
        ReasonKind::Refused | ReasonKind::Unreachable => of_peer(cx, failed, &reason).await,
        ReasonKind::KernelSetting => obstacle_files::of_sysctl(&reason, line).await,
        ReasonKind::FileMissing
        | ReasonKind::ModuleMissing
        | ReasonKind::ProgramMissing
        | ReasonKind::InterpreterMissing
        | ReasonKind::LibraryMissing
        | ReasonKind::WrongArchitecture
        | ReasonKind::IllegalInstruction
        | ReasonKind::PermissionDenied
        | ReasonKind::ConfigurationInvalid
        | ReasonKind::SettingMissing => of_paths(cx, failed, &reason, line).await,
        _ => None,
    }
}

async fn of_paths(cx: &ProbeCx, failed: Failed<'_>, reason: &Reason, line: &LogEntry) -> Option<Obstacle> {
    let files = match failed {
        Failed::Container(c) => obstacle_files::of_container(cx.docker.as_ref()?.files_of_next_run(c).await.ok()?, c),
        Failed::Unit(u) if u.context.own_root => return None,
        Failed::Unit(u) => obstacle_files::of_unit(u),
    };
    obstacle_files::check(files, reason, &line.text, failed.failed_at(line)).await
}

/// A TCP port of this host that the object could not bind. In a network namespace of its own a container has no competitor.
async fn of_port(cx: &ProbeCx, failed: Failed<'_>, reason: &Reason) -> Option<Obstacle> {
    let port = last_port(reason.object.as_deref()?).filter(|port| *port > 0)?;
    if let Failed::Container(c) = failed
        && !cx.needs().await.ok()?.neighbours.on_host(Some(c))
    {
        return None;
    }
    let owner = cx.owner_of_tcp_port(port).await?;
    // systemd ends the processes that a failed run left in the control group of the unit
    if let Failed::Unit(u) = failed
        && cx.units_behind(Some(&owner), port).await.contains(&u.name)
    {
        return None;
    }
    Some(Obstacle::Present(format!("port {port} is in use by process {} (pid {})", owner.comm, owner.pid)))
}

/// The filesystems that the log reports as full or read-only.
async fn of_filesystems(cx: &ProbeCx, failed: Failed<'_>, log: &LogEvidence, reason: &Reason) -> Option<Obstacle> {
    if let (ReasonKind::ReadOnly, Failed::Container(c), Some(path)) = (reason.kind, failed, reason.object.as_deref()) {
        let mount = c.mounts.iter().filter(|m| Path::new(path).starts_with(&m.destination)).max_by_key(|m| m.destination.len());
        if let Some(mount) = mount.filter(|m| !m.rw) {
            return Some(Obstacle::Present(format!("its mount at {} is read-only", mount.destination)));
        }
    }
    // a quota is not visible in the filesystem
    if log.line().is_some_and(|line| line.text.to_lowercase().contains("quota")) {
        return None;
    }
    let mounts = cx.filesystems.mounts().await.ok()?;
    // a path of a container is not one of this host
    let path = reason.object.as_deref().filter(|_| matches!(failed, Failed::Unit(u) if !u.context.own_root));
    let mut usable = Vec::new();
    for device in &log.filesystems {
        let place = unwritable::place(&mounts, device, path)?;
        let (usage, unwritable) = unwritable::of_path(cx, &mounts, place, SPACE_TO_WRITE).await?;
        let at = usage.mountpoint;
        let Some(unwritable) = unwritable else {
            usable.push(at);
            continue;
        };
        return Some(Obstacle::Present(match unwritable {
            Unwritable::ReadOnly => format!("{at} is read-only"),
            Unwritable::NoSpace(avail) => format!("{at} has {} left", quantity::bytes(avail)),
            Unwritable::NoInodes => format!("{at} has no inodes left"),
        }));
    }
    (!usable.is_empty()).then(|| Obstacle::Gone(format!("{} can be written again", usable.join(", "))))
}

/// A host name that could not be resolved.
async fn of_name(cx: &ProbeCx, failed: Failed<'_>, host: &str) -> Option<Obstacle> {
    if let Failed::Container(c) = failed {
        let needs = cx.needs().await.ok()?;
        if let Some(found) = needs.neighbours.resolve(Some(c), host) {
            let other = &found.container.name;
            if found.container.id == c.id {
                return None;
            }
            return Some(if !found.known {
                Obstacle::Present(format!("{other} is in no network with name resolution that {} is in", c.name))
            } else if found.container.is_up() {
                Obstacle::Gone(format!("{other} runs, and its name resolves"))
            } else {
                Obstacle::Present(format!("the name {host} resolves only while {other} runs"))
            });
        }
        // other name servers, or a namespace without Docker's: not resolved as the container does
        if !c.dns.is_empty() || c.network_mode.starts_with("container:") {
            return None;
        }
    }
    match look_up(cx, host).await? {
        Lookup::Up(_) => Some(Obstacle::Gone(format!("{host} resolves again"))),
        Lookup::NoSuchName => Some(Obstacle::Present(format!("the host name {host} cannot be resolved"))),
        Lookup::NoAnswer(_) => None,
    }
}

/// A peer that rejected connections: connected from this host, which reaches every bridge network.
async fn of_peer(cx: &ProbeCx, failed: Failed<'_>, reason: &Reason) -> Option<Obstacle> {
    let (host, port) = reason.peer()?;
    let (host, port) = (without_brackets(host), port?);
    let needs = cx.needs().await.ok()?;
    let from = match failed {
        Failed::Container(c) => Some(c),
        Failed::Unit(_) => None,
    };
    let is_loopback = host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    // its own namespace, which does not exist while it does not run
    if is_loopback && !needs.neighbours.on_host(from) {
        return None;
    }
    // the containers of this host, for a container or at one of their addresses
    let resolved = if is_loopback || (from.is_none() && host.parse::<IpAddr>().is_err()) {
        None
    } else {
        needs.neighbours.resolve(from, host)
    };
    let address = match resolved {
        Some(found) if from.is_some_and(|c| c.id == found.container.id) => return None,
        Some(found) if !found.container.is_up() => {
            return Some(Obstacle::Present(format!("{} does not run", found.container.name)));
        }
        Some(found) => needs.neighbours.address(from, found.container)?,
        None => address_of(cx, host).await?,
    };
    // a name that is this host itself here is another address in the namespace of a container
    if is_this_host(address) && !needs.neighbours.on_host(from) {
        return None;
    }
    match cx.reach(None, SocketAddr::new(address, port)).await.ok()? {
        ConnectResult::Connected => Some(Obstacle::Gone(format!("{} accepts connections again", join(host, port)))),
        ConnectResult::Refused => Some(Obstacle::Present(format!("{} still refuses connections", join(host, port)))),
        ConnectResult::Timeout | ConnectResult::NoRoute(_) | ConnectResult::Failed(_) => None,
    }
}

/// Whether a connection to this address stays on the loopback interface; Linux connects `0.0.0.0` and `::` to it.
fn is_this_host(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

async fn address_of(cx: &ProbeCx, host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(std::net::Ipv4Addr::LOCALHOST.into());
    }
    match host.parse() {
        Ok(ip) => Some(ip),
        Err(_) => match look_up(cx, host).await? {
            Lookup::Up(addresses) => addresses.first().copied(),
            Lookup::NoSuchName | Lookup::NoAnswer(_) => None,
        },
    }
}

/// A lookup as this host performs it.
async fn look_up(cx: &ProbeCx, host: &str) -> Option<Lookup> {
    let own = i32::try_from(std::process::id()).ok()?;
    cx.lookup_as(own, host).await.ok()
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::log::reason;

    use super::*;

    fn refusal(text: &str, obstacle: Option<&Obstacle>) -> Option<String> {
        refuse_while_prevented(reason(text).as_ref(), obstacle, "docker start web").err().map(|r| r.to_string())
    }

    const MISSING: &str = "FileNotFoundError: [Errno 2] No such file or directory: '/etc/app/app.yml'";
    const REFUSED: &str = "dial tcp 172.18.0.3:5432: connect: connection refused";

    #[test]
    fn addresses_of_the_loopback_interface() {
        for address in ["127.0.1.1", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1"] {
            assert!(address.parse::<IpAddr>().is_ok_and(is_this_host), "{address}");
        }
        assert!(!"172.18.0.3".parse::<IpAddr>().is_ok_and(is_this_host));
    }

    #[test]
    fn obstacle_that_disappeared_is_no_refusal() {
        let gone = Obstacle::Gone("/etc/app/app.yml exists".into());
        assert_eq!(refusal(MISSING, Some(&gone)), None);
    }

    #[test]
    fn obstacle_that_remains_is_named() {
        let present = Obstacle::Present("/etc/app/app.yml still does not exist".into());
        let why = refusal(MISSING, Some(&present)).unwrap_or_default();
        assert!(why.contains("would fail again: /etc/app/app.yml still does not exist"), "{why}");
    }

    #[test]
    fn unchecked_permanent_reason_names_the_command() {
        let why = refusal(MISSING, None).unwrap_or_default();
        assert!(why.contains("cannot be checked again") && why.contains("`docker start web`"), "{why}");
    }

    #[test]
    fn unchecked_transient_reason_is_no_refusal() {
        assert_eq!(refusal(REFUSED, None), None);
        assert_eq!(refusal("started", None), None);
    }

    #[test]
    fn transient_reason_that_remains_is_a_refusal() {
        let present = Obstacle::Present("172.18.0.3:5432 still refuses connections".into());
        assert!(refusal(REFUSED, Some(&present)).is_some_and(|why| why.contains("still refuses connections")));
    }
}
