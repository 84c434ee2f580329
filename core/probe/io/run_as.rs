//! Running a program with the credentials and namespaces of another process.

use std::io::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::model::ServerProcess;
use crate::probe::io::command::{CommandOutput, SAFE_PATH, start};
use crate::probe::io::rights::gids;
use crate::probe::{Io, io::Rights};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::process::{Gid, Uid, chroot, fchdir, getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags, capabilities, clear_ambient_capability_set,
    move_into_link_name_space, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid,
};

/// Reason why a program was not run with the credentials of a process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunAsError {
    /// The process has exited, or its PID was reused.
    #[error("process {0} has ended")]
    Ended(i32),
    /// It must be entered through its container engine: a program outside of its PID namespace could signal the processes of this
    /// host.
    #[error("process {0} runs in its own PID namespace")]
    OtherNamespace(i32),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// Runs `argv` as the process `target`: with its user, group and groups, no more capabilities than it has (none unless it is
/// root), without means to gain privileges, in its mount and network namespace, below its root, with an environment of `PATH`,
/// `LC_ALL` and `environment`. `argv[0]` is an absolute path there. `argv` may come from the process itself: nothing in it is run
/// with more rights than the process has.
///
/// # Errors
/// If the program could not be run or did not exit within `timeout`; it is then killed together with all its descendants.
pub async fn run_as(
    target: ServerProcess,
    argv: &[String],
    environment: &[(&str, &str)],
    timeout: Duration,
) -> std::result::Result<CommandOutput, RunAsError> {
    let name = argv.first().cloned().unwrap_or_default();
    if !name.starts_with('/') {
        return Err(RunAsError::Failed(format!("`{name}` is not an absolute path")));
    }
    let mut command = tokio::process::Command::new(&name);
    command.args(&argv[1..]).current_dir("/").env_clear().env("PATH", SAFE_PATH).env("LC_ALL", "C");
    command.envs(environment.iter().copied());
    let become_it = move |_: &Io| become_process(target);
    start(command, &name, timeout, Some(Box::new(become_it))).await.map_err(|e| match e {
        crate::probe::io::command::RunError::NotRun(why) if why.ends_with(ENDED) => RunAsError::Ended(target.pid),
        crate::probe::io::command::RunError::NotRun(why) if why.ends_with(NAMESPACE) => RunAsError::OtherNamespace(target.pid),
        other => RunAsError::Failed(other.message(&name)),
    })
}

const ENDED: &str = "it has ended";
const NAMESPACE: &str = "its own PID namespace";

/// Gives this thread the credentials and namespaces of `target` permanently, except for the user, which is returned: the program
/// inherits them and switches to that user.
fn become_process(target: ServerProcess) -> Result<Option<Uid>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let process = open(format!("/proc/{}", target.pid), flags, Mode::empty()).map_err(|_| Error::other(ENDED))?;
    let read = |name: &str| -> Result<String> {
        let file = openat(&process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        std::io::read_to_string(std::fs::File::from(file))
    };
    let stat = read("stat").map_err(|_| Error::other(ENDED))?;
    if crate::probe::io::stat::parent_and_start(&stat).map(|(_, start)| start) != Some(target.start_ticks) {
        return Err(Error::other(ENDED));
    }
    let rights = Rights::of(&process)?;
    let namespace = |of: &str, kind: &str| std::fs::metadata(format!("/proc/{of}/ns/{kind}")).map(|m| (m.dev(), m.ino()));
    let its = target.pid.to_string();
    for kind in ["pid", "user"] {
        if namespace(&its, kind)? != namespace("self", kind)? {
            return Err(Error::other(NAMESPACE));
        }
    }
    if !geteuid().is_root() {
        // an ordinary user cannot assume the rights of another user
        let same = geteuid().as_raw() == rights.uid && getegid().as_raw() == rights.gid;
        if !same {
            return Err(Error::from(std::io::ErrorKind::PermissionDenied));
        }
        crate::probe::io::threads::retire();
        set_no_new_privs(true)?;
        return Ok(None);
    }
    let root = openat(&process, "root", flags, Mode::empty())?;
    crate::probe::io::threads::retire();
    // requires unshared filesystem attributes: setns(2) would fail and chroot(2) would affect the whole process
    #[allow(deprecated, reason = "safe with this flag; rustix warns of FILES, which is not given")]
    rustix::thread::unshare(UnshareFlags::FS)?;
    for (kind, link) in [("net", LinkNameSpaceType::Network), ("mnt", LinkNameSpaceType::Mount)] {
        if namespace(&its, kind)? != namespace("self", kind)? {
            let file = openat(&process, format!("ns/{kind}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(link))?;
        }
    }
    fchdir(&root)?;
    chroot(".")?;
    clear_ambient_capability_set()?;
    let kept = if rights.uid == 0 { CapabilitySet::from_bits_retain(rights.capabilities) } else { CapabilitySet::empty() };
    // the bounding set limits the capabilities that execve(2) gives to root
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // the kernel has fewer capabilities
            Err(rustix::io::Errno::INVAL) => break,
            Err(e) => return Err(e.into()),
        }
    }
    set_thread_groups(&gids(&rights.groups))?;
    let gid = Gid::from_raw(rights.gid);
    set_thread_res_gid(gid, gid, gid)?;
    let now = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..now })?;
    set_no_new_privs(true)?;
    Ok(Some(Uid::from_raw(rights.uid)))
}
