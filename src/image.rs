//! The container image: it enters the namespaces of its host, and writes only the files that the command line names.
//!
//! A container has its own processes, mounts, network and programs. With the process namespace of the host (`--pid=host`) and root's
//! rights on it (`--privileged`), this process moves into the other namespaces of process 1: every probe then reads the host as if opsctl
//! were installed there, including its sockets, its programs and its name service, and no mount is needed. Its mounts are then those of the
//! host, so that it no longer counts as an application container. Without `--pid=host` it stays in the container, and the report states the
//! checks that are left out.
//!
//! History and journal of the host are neither read nor written: opening the database alone creates files beside it.

use std::io::Error;
use std::os::fd::AsFd as _;

use opsctl_core::probe::{Io, blocking, environment};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Set in the environment of the image (`packaging/build-image`).
const IMAGE_VARIABLE: &str = "OPSCTL_IMAGE";

/// The namespaces of a container other than the one of its processes. The mounts are last: they hide the procfs of the container.
const NAMESPACES: &[(&str, LinkNameSpaceType)] = &[
    ("cgroup", LinkNameSpaceType::ControlGroup),
    ("ipc", LinkNameSpaceType::InterProcessCommunication),
    ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
    ("net", LinkNameSpaceType::Network),
    ("mnt", LinkNameSpaceType::Mount),
];

/// Commands that change the host, write files in default places, or need state between runs.
const REFUSED: &[&str] =
    &["audit", "bootstrap", "config", "fix", "generate", "listen", "note", "report", "respond", "undo", "waive"];

/// Whether this process was started from the image.
pub(crate) fn is_image() -> bool {
    environment(IMAGE_VARIABLE).is_some()
}

/// Moves the process of the image into the namespaces of its host. To be called before a thread is started: setns(2) rejects a mount
/// namespace otherwise. The error states why it is not possible.
pub(crate) fn enter_host() -> Result<(), String> {
    if !is_image() {
        return Ok(());
    }
    blocking::run_on_current_thread(enter).map_err(|e| {
        format!(
            "the namespaces of the host cannot be entered ({e}): run the image on an engine of root, with `docker run --rm --privileged \
             --pid=host \u{2026}`"
        )
    })
}

fn enter(io: &Io) -> std::io::Result<()> {
    let mounts_of = |process: &str| io.read_link(format!("/proc/{process}/ns/mnt"));
    // without the processes of the host, process 1 is one of the container
    if mounts_of("1")? == mounts_of("self")? {
        return Ok(());
    }
    let users_of = |process: &str| io.read_link(format!("/proc/{process}/ns/user"));
    let rights_of = |process: &str| Ok::<_, Error>(capabilities(&io.read_lossy(format!("/proc/{process}/status"))?));
    if users_of("1")? != users_of("self")? || !has_rights_of(rights_of("1")?, rights_of("self")?) {
        return Err(Error::other("process 1 has fewer rights than this one: it is not that of the host"));
    }
    let open = |(name, kind): &(&str, LinkNameSpaceType)| Ok((io.open(format!("/proc/1/ns/{name}"))?, *kind));
    let namespaces: Vec<_> = NAMESPACES.iter().map(open).collect::<std::io::Result<_>>()?;
    for (namespace, kind) in namespaces {
        move_into_link_name_space(namespace.as_fd(), Some(kind))?;
    }
    Ok(())
}

/// The capabilities of a process (`CapEff:` in `/proc/PID/status`, `proc_pid_status(5)`).
fn capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// Whether process 1 has all rights of this one. With `--pid=container:NAME` it belongs to that container, and the programs that this
/// process finds in its namespaces would run with more rights than it has.
fn has_rights_of(first: Option<u64>, own: Option<u64>) -> bool {
    first.zip(own).is_some_and(|(first, own)| first & own == own)
}

/// Why the image does not run a command; `fix` is the option of a runbook.
pub(crate) fn refusal(command: &str, fix: bool) -> Option<String> {
    (is_image() && (fix || REFUSED.contains(&command))).then(|| {
        let option = if fix { " --fix" } else { "" };
        format!("`opsctl {command}{option}` is not available in the image, which is read-only: install opsctl on the host")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespaces_are_not_entered() {
        // the variable is not set, so nothing is refused and nothing is entered
        assert_eq!((enter_host(), refusal("fix", false), refusal("disk", true)), (Ok(()), None, None));
    }

    #[test]
    fn namespaces_of_a_process_with_fewer_rights_are_not_those_of_the_host() {
        let of = |set: &str| capabilities(&format!("Name:\tinit\nCapPrm:\t0\nCapEff:\t{set}\n"));
        // a privileged container and its host; the default capabilities of Docker
        assert!(has_rights_of(of("000001ffffffffff"), of("000001ffffffffff")));
        assert!(!has_rights_of(of("00000000a80425fb"), of("000001ffffffffff")));
        assert!(!has_rights_of(None, of("0")) && !has_rights_of(of("x"), of("0")));
    }

    #[test]
    fn refused_commands_exist() {
        let command = crate::cli::command();
        for name in REFUSED {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }
}
