//! Clients over the unix socket: the allowed users (`SO_PEERCRED`), and the socket itself.

#![allow(clippy::disallowed_methods, reason = "procfs and the account database, bounded by the timeout of a request")]

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use opsctl_core::probe::blocking;
use opsctl_core::probe::io::accounts::Accounts;
use opsctl_core::probe::proc::peer_groups;

use crate::config::Listen;

/// The process at the other end of the socket at the time of connecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its effective user.
    pub(super) uid: u32,
    /// Its effective and supplementary groups.
    pub(super) groups: Vec<u32>,
}

impl Peer {
    /// Credentials from the kernel, not from the client.
    pub(super) fn of(stream: &tokio::net::UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        // without SO_PEERGROUPS (kernels before 4.13) only the primary group is known
        let mut groups = peer_groups::of(stream.as_fd()).unwrap_or_default();
        groups.push(credentials.gid());
        Ok(Self { uid: credentials.uid(), groups })
    }
}

/// Users and groups that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowed {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Allowed {
    /// Users and groups of the configuration; the error names one that does not exist.
    pub(super) fn read(listen: &Listen) -> Result<Self, String> {
        let users = listen.socket_users.iter().map(|name| number(Accounts::Users, "user", name));
        let groups = listen.socket_groups.iter().map(|name| number(Accounts::Groups, "group", name));
        Ok(Self { users: users.collect::<Result<_, _>>()?, groups: groups.collect::<Result<_, _>>()? })
    }

    /// Root, the user that opsctl runs as, the users and groups of the configuration, and the group of the socket. Group root is
    /// not granted by the socket: in many images unprivileged processes have it.
    pub(super) fn has(&self, peer: &Peer, socket_group: Option<u32>) -> bool {
        let granted = |group: &u32| self.groups.contains(group) || (Some(*group) == socket_group && *group != 0);
        peer.uid == 0
            || peer.uid == rustix::process::geteuid().as_raw()
            || self.users.contains(&peer.uid)
            || peer.groups.iter().any(granted)
    }

    /// Group and mode of a socket created by opsctl: no wider than the allowed clients.
    fn file(&self) -> (Option<u32>, u32) {
        match (self.users.as_slice(), self.groups.as_slice()) {
            ([], []) => (None, 0o600),
            ([], [group]) => (Some(*group), 0o660),
            // the file has one group; the credentials of the peer decide about the rest
            _ => (None, 0o666),
        }
    }
}

/// The id of a user or group of this host.
fn number(accounts: Accounts, kind: &str, name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = blocking::run_on_current_thread(|io| accounts.id(io, name));
    let found = found.map_err(|e| format!("reading {}: {e}", accounts.file()))?;
    found.ok_or_else(|| format!("`socket_{kind}s` in [listen]: {} has no {kind} `{name}`; use its number", accounts.file()))
}

/// Creates the socket. A leftover socket of an earlier process is replaced, any other file is not.
pub(super) fn bind(path: &Path, allowed: &Allowed) -> io::Result<UnixListener> {
    let other = |why: String| Err(io::Error::other(why));
    let parent = path.parent().unwrap_or(Path::new("/"));
    let above = std::fs::metadata(parent)?;
    let us = rustix::process::geteuid().as_raw();
    if (above.uid() != us && above.uid() != 0) || above.mode() & 0o022 != 0 {
        return other(format!("other users may create files in {}, and replace the socket", parent.display()));
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return other("it exists and is not a socket".to_owned()),
        Ok(_) => match UnixStream::connect(path) {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Ok(_) => return other("another process listens there".to_owned()),
            Err(e) => return Err(e),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    // closed from the beginning: the final mode is set after the group
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener?;
    let (group, mode) = allowed.file();
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// The group of the socket file.
pub(super) fn group_of(listener: &UnixListener) -> Option<u32> {
    let address = listener.local_addr().ok()?;
    let meta = std::fs::symlink_metadata(address.as_pathname()?).ok()?;
    meta.file_type().is_socket().then(|| meta.gid())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn allowed(users: &[u32], groups: &[u32]) -> Allowed {
        Allowed { users: users.to_vec(), groups: groups.to_vec() }
    }

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        Peer { uid, groups: groups.to_vec() }
    }

    #[test]
    fn root_and_listed_users_and_groups_may_connect() {
        let some = allowed(&[1001], &[2002]);
        assert!(some.has(&peer(0, &[]), None) && some.has(&peer(1001, &[1]), None));
        assert!(some.has(&peer(5, &[7, 2002]), None) && some.has(&peer(5, &[33]), Some(33)));
    }

    #[test]
    fn other_users_may_not_connect() {
        let none = allowed(&[], &[]);
        assert!(!none.has(&peer(65534, &[65534]), Some(33)) && !none.has(&peer(1001, &[2002]), None));
        // a user id is not a group id
        assert!(!allowed(&[1001], &[2002]).has(&peer(2002, &[1001]), None));
    }

    #[test]
    fn root_group_of_the_socket_grants_nothing() {
        assert!(!allowed(&[], &[]).has(&peer(1001, &[0]), Some(0)));
        assert!(allowed(&[], &[0]).has(&peer(1001, &[0]), Some(0)));
    }

    #[test]
    fn user_and_group_names_are_resolved() {
        assert_eq!(number(Accounts::Users, "user", "root"), Ok(0));
        assert_eq!(number(Accounts::Users, "user", "4711"), Ok(4711));
        assert!(number(Accounts::Groups, "group", "no such group").unwrap_err().contains("`socket_groups` in [listen]"));
    }

    #[test]
    fn socket_mode_is_no_wider_than_the_allowed_clients() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let gid = rustix::process::getegid().as_raw();
        for (allowed, mode) in [(allowed(&[], &[]), 0o600), (allowed(&[], &[gid]), 0o660), (allowed(&[1], &[gid]), 0o666)] {
            // the previous process has ended and left its file
            let listener = bind(&path, &allowed).unwrap();
            assert_eq!(path.metadata().unwrap().mode() & 0o777, mode);
            assert_eq!(group_of(&listener), Some(gid));
            assert!(bind(&path, &allowed).unwrap_err().to_string().contains("another process listens there"));
        }
    }

    #[test]
    fn socket_replaces_no_file_and_trusts_no_shared_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(bind(&path, &allowed(&[], &[])).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        let error = bind(&dir.path().join("y.sock"), &allowed(&[], &[])).unwrap_err().to_string();
        assert!(error.contains("other users may create files"), "{error}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn peer_is_this_process() {
        let (local, _remote) = tokio::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&local).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert!(peer.groups.contains(&rustix::process::getegid().as_raw()));
    }
}
