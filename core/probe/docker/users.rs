//! Engines of other users, for root, and Podman without its socket.
//!
//! Podman has no daemon: without `podman.socket` its containers run, each below a `conmon` process, and no API shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;

use super::Located;
use super::connect::Endpoint;
use crate::model::quantity;
use crate::probe::io::file::user_name;
use crate::probe::io::ids_of;
use crate::probe::kernel::host;
use crate::probe::proc::table::ProcessTable;
use crate::probe::{Io, blocking};

/// Time limit of reading the runtime directory of one user.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum number of users with queried engines.
const MAX_USERS: usize = 32;

/// Runtime directories of users (systemd, `pam_systemd(8)`).
const RUNTIME_DIRECTORIES: &str = "/run/user";

/// The engines of other users.
#[derive(Debug, Default)]
pub struct UserEngines {
    /// Those with a socket.
    pub found: Vec<Located>,
    /// Users that could not be examined, with the reason.
    pub gaps: Vec<String>,
}

/// The engines of other users; none unless this process is root. The sockets are in directories of these users: only their names
/// and owners are read here.
pub async fn user_engines() -> UserEngines {
    if !host::is_root() {
        return UserEngines::default();
    }
    let list = |io: &Io| io.names(RUNTIME_DIRECTORIES).unwrap_or_default();
    let names = blocking::run("runtime directories of users", RUNTIME_DIRECTORIES, READ_TIMEOUT, list).await;
    let mut engines = UserEngines::default();
    let mut users: Vec<u32> = match names {
        Ok(names) => names.iter().filter_map(|name| name.to_str()?.parse().ok()).filter(|uid| *uid != 0).collect(),
        Err(e) => {
            engines.gaps.push(e.to_string());
            return engines;
        }
    };
    users.sort_unstable();
    if users.len() > MAX_USERS {
        engines.gaps.push(format!("{} users are logged in: the engines of the first {MAX_USERS} are queried", users.len()));
        users.truncate(MAX_USERS);
    }
    let read = users.into_iter().map(|uid| async move {
        let from = format!("{RUNTIME_DIRECTORIES}/{uid}");
        blocking::run("sockets of a user", &from, READ_TIMEOUT, move |io| sockets_of(io, uid)).await
    });
    for found in join_all(read).await {
        match found {
            Ok(found) => engines.found.extend(found),
            Err(e) => engines.gaps.push(e.to_string()),
        }
    }
    engines
}

/// Rootless Docker, and Podman if the user has used it since the boot: a connection would start it.
fn sockets_of(io: &Io, uid: u32) -> Vec<Located> {
    let directory = PathBuf::from(format!("{RUNTIME_DIRECTORIES}/{uid}"));
    let exists = |name: &str| io.symlink_metadata(directory.join(name)).is_ok();
    let mut names = vec!["docker.sock"];
    if exists("libpod") {
        names.push("podman/podman.sock");
    }
    let is_socket = |path: &PathBuf| io.symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket() && m.uid() == uid);
    let sockets = names.into_iter().map(|name| directory.join(name)).filter(is_socket);
    let located = |path| Located {
        endpoint: Endpoint::OfUser { path, uid },
        found_by: format!("runtime directory of user {}", user_name(io, uid)),
        expected: false,
        user: Some(user_name(io, uid)),
    };
    sockets.map(located).collect()
}

/// One sentence for each user with containers of Podman and without an engine that shows them; `seen` are the users whose Podman
/// was found. Without root only the containers of root and of this user are counted.
pub async fn podman_without_socket(table: &ProcessTable, seen: &[u32]) -> Vec<String> {
    let monitors: Vec<i32> = table.named(&["conmon"]).map(|p| p.pid).collect();
    if monitors.is_empty() {
        return Vec::new();
    }
    let lines = table.command_lines(monitors.iter().copied()).await;
    let read = move |io: &Io| {
        let own = rustix::process::geteuid().as_raw();
        let mut containers: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for (pid, line) in lines {
            let (Some(id), Ok(ids)) = (monitored(&line), ids_of(io, pid)) else { continue };
            if host::is_root() || [0, own].contains(&ids.real) {
                containers.entry(ids.real).or_default().insert(id);
            }
        }
        containers.into_iter().map(|(uid, ids)| (uid, user_name(io, uid), ids.len())).collect::<Vec<_>>()
    };
    let found = blocking::run("the users of conmon processes", "/proc", READ_TIMEOUT, read).await.unwrap_or_default();
    found.into_iter().filter(|(uid, ..)| !seen.contains(uid)).map(|(uid, user, count)| hidden(uid, &user, count)).collect()
}

fn hidden(uid: u32, user: &str, count: usize) -> String {
    let count = quantity::count(count, "container");
    match uid {
        0 if host::is_root() => format!(
            "reading containers from podman: Podman has {count} (conmon processes) that cannot be seen: enable its socket with \
             `systemctl enable --now podman.socket`"
        ),
        0 => format!(
            "reading containers from podman: Podman of root has {count} (conmon processes) that cannot be seen; needs root, and \
             podman.socket"
        ),
        _ => format!(
            "reading containers from podman: Podman of user {user} has {count} (conmon processes) that cannot be seen: enable its \
             socket with `systemctl --user --machine={user}@ enable --now podman.socket`"
        ),
    }
}

/// The id of the container that a conmon process of Podman monitors. CRI-O uses conmon, too, with other directories, and the
/// monitor of an exec session is not that of a container.
fn monitored(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split('\0').collect();
    if !words.iter().any(|word| word.contains("libpod"))
        || words.iter().any(|word| matches!(*word, "-e" | "--exec" | "--exec-attach"))
    {
        return None;
    }
    let at = words.iter().position(|word| matches!(*word, "-c" | "--cid"))?;
    words.get(at + 1).filter(|id| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).map(|id| (*id).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn line(words: &str) -> String {
        words.replace("ID", ID).replace(' ', "\0")
    }

    #[test]
    fn monitor_of_podman_names_its_container() {
        let podman =
            line("/usr/bin/conmon --api-version 1 -c ID -u ID -r /usr/bin/crun --exit-dir /run/libpod/exits --full-attach");
        assert_eq!(monitored(&podman).as_deref(), Some(ID));
    }

    #[test]
    fn monitor_of_an_exec_session_is_no_container() {
        let exec =
            line("/usr/bin/conmon --api-version 1 -c ID -u ID -r /usr/bin/crun --exit-dir /run/libpod/exits -e --exec-attach");
        assert_eq!(monitored(&exec), None);
    }

    #[test]
    fn monitor_of_cri_o_is_not_of_podman() {
        let crio = line("/usr/libexec/crio/conmon -b /run/containers/storage/x/userdata -c ID --exit-dir /var/run/crio/exits");
        assert_eq!(monitored(&crio), None);
    }

    #[test]
    fn sentence_names_the_command_for_the_user() {
        let text = hidden(1000, "deploy", 2);
        assert!(text.contains("2 containers") && text.contains("--machine=deploy@"), "{text}");
    }
}
