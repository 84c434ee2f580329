//! The owner and the home of a process, proven by the container engine, systemd and the kernel. The name, the arguments and the
//! control group path of a process are under its own control and prove nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Product;
use crate::probe::docker::Docker;
use crate::probe::io::accounts::name_of;
use crate::probe::io::{Ids, Root, ids_of};
use crate::probe::proc::home::Home;
use crate::probe::proc::owner::{FIRST_REGULAR_UID, in_other_namespace, inner_id, user};
use crate::probe::product::spec;
use crate::probe::servers::FoundServer;
use crate::probe::systemd::Systemd;
use crate::probe::{Io, ProbeCx, ProbeError, blocking, needed_right};

/// Time limit of reading one process.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Proof of the home of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    /// In this container: it is the container's main process, or shares a control group or process namespace with it.
    Container {
        /// Full id.
        id: String,
        /// The container's main process, as reported by the engine.
        first: i32,
    },
    /// In this unit of the system manager.
    Unit {
        /// Its name.
        name: String,
        /// Its main process, as reported by systemd.
        main: Option<i32>,
    },
    /// In a container of another user's engine. The user decides everything that the engine reports.
    Foreign {
        /// Full id.
        id: String,
    },
    /// In neither, or no engine or systemd is available.
    None,
    /// The engine contradicts its control group path.
    Contradicted(String),
}

/// Sets the proven homes of processes, and marks those that belong to a user that is not expected to run such a server. Reads no
/// file that the processes name.
pub async fn prove(found: &mut [FoundServer], docker: Option<&Arc<Docker>>, systemd: Option<&Arc<Systemd>>) {
    let proving = found.iter_mut().map(|f| async move {
        let proof = prove_home(f.process.pid, &f.cgroups, docker, systemd).await;
        f.untrusted = untrusted(f, &proof).await;
        f.home = match proof {
            Proof::Container { id, .. } | Proof::Foreign { id } => Home::Container(id),
            Proof::Unit { name, .. } => Home::Unit(name),
            // an unproven control group path still serves as a name; no secret, file or fix is derived from it
            Proof::None => match Home::of_cgroups(&f.cgroups) {
                Home::Container(id) if !names_container(docker, &id).await => Home::Container(id),
                _ => Home::Host,
            },
            Proof::Contradicted(_) => Home::Host,
        };
    });
    futures_util::future::join_all(proving).await;
}

/// Whether the engine has a container of this id: then its report takes precedence over the control group path.
async fn names_container(docker: Option<&Arc<Docker>>, id: &str) -> bool {
    match docker {
        Some(docker) => !matches!(docker.inspect(id).await, Err(ProbeError::Skip(_))),
        None => false,
    }
}

async fn prove_home(pid: i32, cgroups: &str, docker: Option<&Arc<Docker>>, systemd: Option<&Arc<Systemd>>) -> Proof {
    if let (Home::Container(id), Some(docker)) = (Home::of_cgroups(cgroups), docker) {
        return container(pid, &id, docker).await;
    }
    match systemd {
        Some(systemd) => unit(cgroups, systemd).await,
        None => Proof::None,
    }
}

/// Whether `pid` is in the container of this id, as reported by the engine.
async fn container(pid: i32, id: &str, docker: &Docker) -> Proof {
    // a container of another engine, or the engine does not respond
    let Ok(inspected) = docker.inspect(id).await else { return Proof::None };
    let contradicted =
        || Proof::Contradicted(format!("its control group names container {}, to which it does not belong", inspected.name));
    if inspected.pid_unproven {
        // the pid is of another process namespace and cannot be compared
        return Proof::None;
    }
    // also for a paused container
    let Some(first) = i32::try_from(inspected.state.pid).ok().filter(|pid| *pid > 0) else { return contradicted() };
    let is_foreign = docker.of(id).foreign_user().is_some();
    let proven = || {
        let id = id.to_owned();
        if is_foreign { Proof::Foreign { id } } else { Proof::Container { id, first } }
    };
    if first == pid {
        return proven();
    }
    let id_read = id.to_owned();
    let from = format!("process {pid}");
    let same = blocking::run("a process", &from, READ_TIMEOUT, move |io| same_container(io, pid, first, &id_read));
    match same.await {
        Ok(true) => proven(),
        Ok(false) => contradicted(),
        Err(_) => Proof::None,
    }
}

/// Whether both processes are in the same control groups, or in the same process namespace other than that of opsctl.
fn same_container(io: &Io, pid: i32, first: i32, id: &str) -> bool {
    let namespace = |of: &str| io.read_link(format!("/proc/{of}/ns/pid")).ok();
    let (of_pid, of_first) = (namespace(&pid.to_string()), namespace(&first.to_string()));
    if of_pid.is_some() && of_pid == of_first && of_pid != namespace("self") {
        return true;
    }
    let groups = |pid: i32| io.read_lossy(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    is_below(&groups(pid), &groups(first), id)
}

/// Whether the control groups of a process are those of the container's main process, or below them, in every hierarchy in which
/// the container has a control group.
pub(super) fn is_below(process: &str, first: &str, id: &str) -> bool {
    let process = hierarchies(process);
    let own: Vec<(&str, &str)> = hierarchies(first).into_iter().filter(|(_, path)| path.contains(id)).collect();
    let inside = |path: &str, of: &str| path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    // systemd as the main process has moved itself to init.scope
    let top = |path: &str| path.strip_suffix("/init.scope").unwrap_or(path).to_owned();
    !own.is_empty() && own.iter().all(|(name, of)| process.get(name).is_some_and(|path| inside(path, &top(of))))
}

/// The paths in `/proc/PID/cgroup` by hierarchy (cgroups(7): `id:controllers:path`).
fn hierarchies(text: &str) -> BTreeMap<&str, &str> {
    let line = |l: &'_ str| -> Option<(usize, usize)> {
        let first = l.find(':')?;
        let second = first + 1 + l[first + 1..].find(':')?;
        Some((first, second))
    };
    text.lines().filter_map(|l| line(l).map(|(first, second)| (&l[first + 1..second], &l[second + 1..]))).collect()
}

/// The unit of a process by its control group, as reported by systemd. Inner parts of the path may be delegated to a user: the
/// outermost unit that systemd confirms counts.
async fn unit(cgroups: &str, systemd: &Systemd) -> Proof {
    let init = blocking::run("control groups", INIT_CGROUPS, READ_TIMEOUT, |io| io.read_lossy(INIT_CGROUPS));
    let init = init.await.ok().and_then(Result::ok).unwrap_or_default();
    let Some(path) = in_view_of(&init, cgroups) else { return Proof::None };
    for (at, part) in parts(path) {
        if ![".service", ".scope"].iter().any(|suffix| part.ends_with(suffix)) {
            continue;
        }
        let name = part.replace("\\x2d", "-");
        let Ok(Some(process)) = systemd.unit_process(&name).await else { continue };
        if !process.control_group.is_empty() && path[..at] == *process.control_group {
            return Proof::Unit { name, main: process.main_pid };
        }
    }
    Proof::None
}

/// The control group file of systemd itself.
const INIT_CGROUPS: &str = "/proc/1/cgroup";

/// The path of a control group as seen by systemd. Paths in procfs are relative to the root of the reader's cgroup namespace; a
/// namespace other than that of systemd shows them as `/../../system.slice/nginx.service` (see `cgroup_namespaces(7)`).
fn in_view_of<'a>(init: &str, cgroups: &'a str) -> Option<&'a str> {
    let (of_init, all) = (hierarchies(init), hierarchies(cgroups));
    ["name=systemd", ""].into_iter().find_map(|name| {
        let path = all.get(name)?;
        let root = of_init.get(name).map_or("", |path| path.strip_suffix("/init.scope").unwrap_or(path).trim_end_matches('/'));
        path.strip_prefix(root).filter(|rest| rest.starts_with('/'))
    })
}

/// The components of a path from the outermost on, each with its end offset.
pub(super) fn parts(path: &str) -> impl Iterator<Item = (usize, &str)> {
    path.match_indices('/').map(|(at, _)| at + 1).map(move |begin| {
        let end = path[begin..].find('/').map_or(path.len(), |at| begin + at);
        (end, &path[begin..end])
    })
}

/// Why a process is not trusted: its user is not expected to run such a server, or the engine contradicts its control group path.
async fn untrusted(found: &FoundServer, proof: &Proof) -> Option<String> {
    let (pid, product, ids, proof) = (found.process.pid, found.product, found.ids, proof.clone());
    let from = format!("process {pid}");
    let reason = blocking::run("the user of a process", &from, READ_TIMEOUT, move |io| {
        if is_expected(io, pid, product, ids, &proof) {
            return None;
        }
        let user = user(io, ids.real);
        if let Proof::Contradicted(why) = &proof {
            return Some(format!("belongs to {user}, and {why}"));
        }
        let link = io.read_link(format!("/proc/{pid}/ns/pid"));
        let is_denied = link.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
        Some(if is_denied {
            format!("runs as {user}; needs {} to prove its identity", needed_right())
        } else {
            format!("belongs to {user}")
        })
    });
    reason.await.unwrap_or_else(|e| Some(e.to_string()))
}

fn is_expected(io: &Io, pid: i32, product: Product, ids: Ids, proof: &Proof) -> bool {
    if matches!(proof, Proof::Contradicted(_) | Proof::Foreign { .. }) {
        return false;
    }
    // the caller of a setuid program chooses its arguments
    let Some(uid) = ids.user() else { return false };
    let own = rustix::process::geteuid().as_raw();
    if uid == 0 || uid == own {
        return true;
    }
    match proof {
        // the user of the container, root of its user namespace, or the product's own user in its image
        Proof::Container { first, .. } => {
            let same = ids_of(io, *first).is_ok_and(|of| of.user() == Some(uid));
            let inner = inner_id(io, *first, uid);
            same || inner == Some(0) || inner.is_some_and(|id| is_named(&Root::of(io, *first), id, product))
        }
        // the user of the unit's main process
        Proof::Unit { name, main } => {
            let same = |main: i32| main == pid || ids_of(io, main).is_ok_and(|of| of.user() == Some(uid));
            (!is_user_unit(name) && main.is_some_and(same)) || is_named(&Root::own(io), uid, product)
        }
        // the password file in a user namespace is controlled by the user that created the namespace
        Proof::None if in_other_namespace(io, pid, "user") => false,
        Proof::None if in_other_namespace(io, pid, "pid") => {
            is_named(&Root::of(io, pid), uid, product) && uid < FIRST_REGULAR_UID
        }
        Proof::None => is_named(&Root::own(io), uid, product),
        Proof::Contradicted(_) | Proof::Foreign { .. } => false,
    }
}

/// Whether a unit was started by a user instead of the system.
fn is_user_unit(unit: &str) -> bool {
    unit.starts_with("user@") || unit.strip_suffix(".scope").is_some()
}

/// Whether the password file below this root lists `uid` as a user that packages and images create for the product.
fn is_named(root: &std::io::Result<Root>, uid: u32, product: Product) -> bool {
    let Ok(root) = root else { return false };
    let name = name_of(&root.bytes("/etc/passwd", 1 << 20).unwrap_or_default(), uid);
    name.is_some_and(|name| spec(product).users.contains(&name.as_str()))
}

/// Whether `uid` may serve a configured address of this host in place of the server's own user: root, the user that runs opsctl,
/// or the product's own user.
pub(in crate::probe) fn may_serve(io: &Io, uid: u32, product: Product) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw() || is_named(&Root::own(io), uid, product)
}

impl ProbeCx {
    /// The proven home of a process: a container unless the engine contradicts it, a system unit if systemd confirms it,
    /// otherwise this host. A unit of a user manager is not a system unit.
    pub async fn proven_home(&self, pid: i32, claimed: Home) -> Home {
        match (&claimed, &self.docker, &self.systemd) {
            (Home::Container(id), Some(docker), _) => match container(pid, id, docker).await {
                Proof::Contradicted(_) => Home::Host,
                _ => claimed,
            },
            (Home::Unit(_), _, Some(systemd)) => {
                let from = format!("process {pid}");
                let read = move |io: &Io| io.read_lossy(format!("/proc/{pid}/cgroup")).unwrap_or_default();
                let cgroups = blocking::run("control groups", &from, READ_TIMEOUT, read).await.unwrap_or_default();
                match unit(&cgroups, systemd).await {
                    Proof::Unit { name, .. } if !is_user_unit(&name) => Home::Unit(name),
                    _ => Home::Host,
                }
            }
            (Home::Unit(_), _, None) => Home::Host,
            _ => claimed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn copied_container_id_in_another_control_group_is_rejected() {
        let first = format!("5:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n");
        assert!(is_below(&first, &first, ID));
        assert!(is_below(&first.replace(&format!("memory:/docker/{ID}"), &format!("memory:/docker/{ID}/app")), &first, ID));
        for fake in [
            format!("0::/user.slice/user-1000.slice/user@1000.service/docker-{ID}.scope\n"),
            format!("5:memory:/docker/{ID}\n1:name=systemd:/user.slice\n0::/\n"),
            format!("5:memory:/docker/{ID}2\n1:name=systemd:/docker/{ID}\n0::/\n"),
            String::new(),
        ] {
            assert!(!is_below(&fake, &first, ID), "{fake}");
        }
        assert!(!is_below("", "0::/\n", ID));
        let unified = format!("0::/system.slice/docker-{ID}.scope\n");
        assert!(is_below(&unified, &unified, ID) && !is_below(&format!("0::/a.service/docker-{ID}.scope\n"), &unified, ID));
    }

    #[test]
    fn container_with_systemd_inside() {
        let first = format!("0::/docker/{ID}/init.scope\n");
        assert!(is_below(&format!("0::/docker/{ID}/system.slice/nginx.service\n"), &first, ID));
    }

    #[test]
    fn path_components_with_end_offsets() {
        let path = "/system.slice/app.service/nginx.service";
        let ends: Vec<&str> = parts(path).map(|(end, _)| &path[..end]).collect();
        assert_eq!(ends, ["/system.slice", "/system.slice/app.service", path]);
    }

    #[test]
    fn control_group_paths_in_other_namespaces() {
        let path = |init: &str, of: &str| in_view_of(init, of).map(str::to_owned);
        let unit = "/system.slice/nginx.service";
        for (init, process) in [
            ("0::/init.scope\n", "0::/system.slice/nginx.service\n"),
            ("0::/../../init.scope\n", "0::/../../system.slice/nginx.service\n"),
            ("1:name=systemd:/\n0::/\n", "1:name=systemd:/system.slice/nginx.service\n0::/\n"),
            ("1:name=systemd:/docker/1/init.scope\n", "1:name=systemd:/docker/1/system.slice/nginx.service\n"),
            ("", "0::/system.slice/nginx.service\n"),
        ] {
            assert_eq!(path(init, process).as_deref(), Some(unit), "{init}");
        }
        assert_eq!(path("0::/a/init.scope\n", "0::/b/system.slice/nginx.service\n"), None);
    }
}
