//! Rights of a process: user and group ids, groups and capabilities, and file access with them.

use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::process::{Gid, Uid, getegid, geteuid, getgroups};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

use super::Io;

/// User ids of a process in this user namespace: real, effective, saved and filesystem (`Uid:` in `proc_pid_status(5)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Real user id: the user that started it.
    pub real: u32,
    /// Effective user id.
    pub effective: u32,
    /// All four ids are equal and the program is not setuid or setgid.
    pub settled: bool,
}

impl Ids {
    /// The user of the process, or `None` while its ids differ: a setuid program runs with arguments chosen by its caller.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        self.settled.then_some(self.effective)
    }
}

/// The ids of a process. Unlike the owner of `/proc/PID` they are correct for processes that are not dumpable.
///
/// A setuid program belongs to its caller even after it has changed to its owner permanently: the arguments, the environment and
/// the descriptors are the caller's.
pub fn ids_of(io: &Io, pid: i32) -> Result<Ids> {
    let status = io.read_lossy(format!("/proc/{pid}/status"))?;
    let ids = parse_ids(&status).ok_or_else(|| Error::other("no user ids in its status"))?;
    // read after the ids: the ids then cannot be those of an earlier program of the process
    let is_setuid = io.metadata(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.mode() & SETUID_OR_SETGID != 0);
    Ok(Ids { settled: ids.settled && !is_setuid, ..ids })
}

/// `S_ISUID | S_ISGID` (inode(7)).
const SETUID_OR_SETGID: u32 = 0o6000;

pub(in crate::probe) fn parse_ids(status: &str) -> Option<Ids> {
    let uids = numbers(status, "Uid:");
    let [real, effective, saved, filesystem] = uids[..] else { return None };
    Some(Ids { real, effective, settled: [real, saved, filesystem].iter().all(|id| *id == effective) })
}

fn numbers(status: &str, key: &str) -> Vec<u32> {
    let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().filter_map(|w| w.parse().ok()).collect()
}

/// Credentials that determine access to files and other objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    pub(in crate::probe) uid: u32,
    pub(in crate::probe) gid: u32,
    pub(in crate::probe) groups: Vec<u32>,
    /// Effective capabilities, in its own user namespace.
    pub(in crate::probe) capabilities: u64,
}

/// Reason why a process has no rights.
const SETUID: &str = "it is a setuid or setgid program, or changes its user";

impl Rights {
    /// The rights of the process of which `process` is the open directory in `/proc`.
    pub(in crate::probe) fn of(process: &impl std::os::fd::AsFd) -> Result<Self> {
        let file = openat(process, "status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut status = String::new();
        std::fs::File::from(file).read_to_string(&mut status)?;
        let rights = Self::parse(&status)?;
        // read after the ids, as in [`ids_of`]
        if statat(process, "exe", AtFlags::empty()).is_ok_and(|exe| exe.st_mode & SETUID_OR_SETGID != 0) {
            return Err(Error::new(ErrorKind::PermissionDenied, SETUID));
        }
        Ok(rights)
    }

    /// A setuid or setgid program was started by a user with fewer rights, with that user's arguments; it has no rights here. A
    /// process that was examined before can become one at any time.
    pub(in crate::probe) fn parse(status: &str) -> Result<Self> {
        let same = |key: &str| {
            let ids = numbers(status, key);
            let first = *ids.first().filter(|_| ids.len() == 4)?;
            Some(ids.iter().all(|id| *id == first).then_some(first))
        };
        let (Some(uid), Some(gid)) = (same("Uid:"), same("Gid:")) else { return Err(Error::other("no ids in its status")) };
        let (Some(uid), Some(gid)) = (uid, gid) else {
            return Err(Error::new(ErrorKind::PermissionDenied, SETUID));
        };
        let capabilities = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
        Ok(Self {
            uid,
            gid,
            groups: numbers(status, "Groups:"),
            capabilities: capabilities.and_then(|c| u64::from_str_radix(c, 16).ok()).unwrap_or(0),
        })
    }

    /// Root that can read every file. Capabilities of a process in another user namespace do not count: its user id
    /// is not 0.
    fn reads_everything(&self) -> bool {
        self.uid == 0 && CapabilitySet::from_bits_retain(self.capabilities).contains(CapabilitySet::DAC_OVERRIDE)
    }

    /// Calls `f` with these rights: file system accesses of `f` are permitted or denied as for the process.
    ///
    /// Only the effective ids change. The real and the saved id stay, so that the process can neither signal nor trace this
    /// thread. A user other than root cannot drop rights: the kernel applies that user's own.
    ///
    /// # Errors
    /// Errors of `f`, and `EPERM` if this process may not change its ids.
    pub(in crate::probe) fn assume<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        if !geteuid().is_root() || self.reads_everything() {
            return f();
        }
        let own = Own { groups: getgroups()?, gid: getegid(), capabilities: capabilities(None)? };
        let _restored = Restore(&own);
        set_thread_groups(&gids(&self.groups))?;
        set_thread_res_gid(None, Gid::from_raw(self.gid), None)?;
        if self.uid == 0 {
            let effective = own.capabilities.effective & CapabilitySet::from_bits_retain(self.capabilities);
            set_capabilities(None, CapabilitySets { effective, ..own.capabilities })?;
        } else {
            // clears the effective capabilities (capabilities(7), "Effect of user ID changes on capabilities")
            set_thread_res_uid(None, Uid::from_raw(self.uid), None)?;
        }
        f()
    }
}

pub(in crate::probe) fn gids(groups: &[u32]) -> Vec<Gid> {
    groups.iter().map(|g| Gid::from_raw(*g)).collect()
}

/// Previous credentials of this thread.
struct Own {
    groups: Vec<Gid>,
    gid: Gid,
    capabilities: CapabilitySets,
}

struct Restore<'a>(&'a Own);

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        let steps = [
            set_thread_res_uid(None, Uid::ROOT, None),
            set_capabilities(None, self.0.capabilities),
            set_thread_res_gid(None, self.0.gid, None),
            set_thread_groups(&self.0.groups),
        ];
        // a failed step leaves the thread with other rights
        if steps.into_iter().any(|step| step.is_err()) {
            super::threads::retire();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t0\t0\t0\nGid:\t1\t2\t3\t4\nGroups:\t5 6 \nCapEff:\t000001ffffffffff\n";

    #[test]
    fn setuid_program_has_no_user() {
        let ids = parse_ids(STATUS).unwrap();
        assert_eq!((ids.real, ids.effective, ids.user()), (1000, 0, None));
        let ordinary = parse_ids("Uid:\t7\t7\t7\t7\n").unwrap();
        assert_eq!(ordinary.user(), Some(7));
        assert_eq!(parse_ids("Uid:\t7\t7\n"), None);
    }

    #[test]
    fn rights_are_parsed_from_status() {
        let status = "Uid:\t0\t0\t0\t0\nGid:\t4\t4\t4\t4\nGroups:\t5 6 \nCapEff:\t000001ffffffffff\n";
        let rights = Rights::parse(status).unwrap();
        assert_eq!((rights.uid, rights.gid, rights.groups.as_slice()), (0, 4, &[5, 6][..]));
        assert!(rights.reads_everything());
    }

    #[test]
    fn setuid_program_with_equal_ids_has_no_user() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("redis-server");
        std::fs::copy("/bin/sleep", &program).unwrap();
        for (mode, belongs) in [(0o755, true), (0o4755, false), (0o2755, false)] {
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
            let mut child = std::process::Command::new(&program).arg("1000").spawn().unwrap();
            let pid = i32::try_from(child.id()).unwrap();
            let process = rustix::fs::open(format!("/proc/{pid}"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            let found = (ids_of(&Io::for_test(), pid).unwrap().user().is_some(), Rights::of(&process).is_ok());
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(found, (belongs, belongs), "{mode:o}");
        }
    }

    #[test]
    fn setuid_and_setgid_programs_have_no_rights() {
        let setgid = "Uid:\t7\t7\t7\t7\nGid:\t7\t42\t42\t42\nGroups:\t\n";
        for status in [STATUS, setgid] {
            assert_eq!(Rights::parse(status).unwrap_err().kind(), ErrorKind::PermissionDenied, "{status}");
        }
        assert!(Rights::parse("Name:\tx\n").is_err());
    }

    #[test]
    fn assumed_rights_are_enforced_and_restored() {
        if !geteuid().is_root() {
            return;
        }
        // every parent directory is accessible to all users
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let read = || std::fs::read(&path);
        let user = |uid, capabilities| Rights { uid, gid: uid, groups: vec![], capabilities };
        for denied in [user(65534, 0), user(65534, u64::MAX)] {
            let got = denied.assume(read).unwrap_err();
            assert_eq!(got.kind(), std::io::ErrorKind::PermissionDenied, "{denied:?}");
            assert!(read().is_ok());
        }
        assert!(user(0, u64::MAX).assume(read).is_ok());
        // root without capabilities can read only files owned by root
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        assert!(user(0, 0).assume(read).is_err() && user(65534, 0).assume(read).is_ok() && read().is_ok());
    }
}
