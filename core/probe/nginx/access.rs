//! Access of the workers of an nginx to unix sockets: opsctl connects as root, the workers do not.

use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::probe::io::accounts::name_of;
use crate::probe::io::{Io, Rights, Root, ids_of};
use crate::probe::proc::owner::inner_id;

/// A unix socket that a worker may not connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeniedSocket {
    /// User of the worker.
    pub user: String,
    /// The socket without write permission, or the directory without search permission, as nginx sees it.
    pub path: String,
    /// Mode bits of that path.
    pub mode: u32,
    /// Owner of that path.
    pub owner: String,
    /// Group of that path.
    pub group: String,
}

impl fmt::Display for DeniedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has mode {:04o}, owner {}, group {}", self.path, self.mode, self.owner, self.group)
    }
}

/// The reason why `worker` may not connect to the socket at `path`; `None` if it may, or if that is unknown.
///
/// connect(2) requires write permission on the socket and search permission on its directories (unix(7)). Only the permission
/// is tested: a connection could block.
#[must_use]
pub fn denied_socket(io: &Io, worker: i32, path: &str) -> Option<DeniedSocket> {
    // an abstract socket has no permissions
    if !path.starts_with('/') {
        return None;
    }
    let root = Root::of(io, worker).ok()?;
    let denied = match root.open_path(Path::new(path)) {
        Ok(socket) => {
            let rights = Rights::parse(&io.read_lossy(format!("/proc/{worker}/status")).ok()?).ok()?;
            let at = format!("/proc/self/fd/{}", socket.as_raw_fd());
            let tested = rights.assume(|| Ok(accessat(CWD, at.as_str(), Access::WRITE_OK, AtFlags::EACCESS)?));
            tested.is_err_and(|e| is_denied(&e)).then_some(path)?
        }
        Err(e) if is_denied(&e) => {
            // the last directory that can be opened does not permit the search
            let directory = Path::new(path).ancestors().skip(1).find(|d| root.open_path(d).is_ok())?;
            directory.to_str()?
        }
        Err(_) => return None,
    };
    inspect(io, &root, worker, denied)
}

/// The user of a worker, and the mode and owners of a path.
fn inspect(io: &Io, root: &Root, worker: i32, path: &str) -> Option<DeniedSocket> {
    let meta = root.metadata(path).ok()?;
    let file = |name: &str| root.bytes(name, 1 << 20).unwrap_or_default();
    Some(DeniedSocket {
        user: user_of_worker(io, worker)?,
        path: path.to_owned(),
        mode: meta.mode() & 0o7777,
        owner: name_of(&file("/etc/passwd"), inner_id(io, worker, meta.uid()).unwrap_or(meta.uid()))
            .unwrap_or_else(|| meta.uid().to_string()),
        group: name_of(&file("/etc/group"), meta.gid()).unwrap_or_else(|| meta.gid().to_string()),
    })
}

/// The user of a worker, and a path with its mode and owners: `/home/app has mode 0700, owner app, group app`.
pub(super) fn describe(io: &Io, root: &Root, worker: i32, path: &str) -> Option<(String, String)> {
    let found = inspect(io, root, worker, path)?;
    let shown = found.to_string();
    Some((found.user, shown))
}

/// `EACCES`, not the `EPERM` of a process that may not change its user.
pub(super) fn is_denied(e: &std::io::Error) -> bool {
    e.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
}

/// The name of the user that a worker runs as, in its own root.
#[must_use]
pub fn user_of_worker(io: &Io, worker: i32) -> Option<String> {
    let uid = ids_of(io, worker).ok()?.effective;
    let inner = inner_id(io, worker, uid).unwrap_or(uid);
    let passwd = Root::of(io, worker).and_then(|root| root.bytes("/etc/passwd", 1 << 20)).unwrap_or_default();
    Some(name_of(&passwd, inner).unwrap_or_else(|| format!("uid {inner}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn own_socket_is_not_denied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock").display().to_string();
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(denied_socket(&Io::for_test(), own, &path), None);
        assert_eq!(denied_socket(&Io::for_test(), own, "@abstract"), None);
        assert_eq!(denied_socket(&Io::for_test(), own, "/no/such/socket"), None);
    }

    #[test]
    fn denied_socket_names_mode_and_owner() {
        let denied = DeniedSocket {
            user: "www-data".to_owned(),
            path: "/run/app.sock".to_owned(),
            mode: 0o600,
            owner: "app".to_owned(),
            group: "app".to_owned(),
        };
        assert_eq!(denied.to_string(), "/run/app.sock has mode 0600, owner app, group app");
    }
}
