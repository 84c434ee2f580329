//! The lab: real servers and disks, separate for each test. `README.md` describes how it is built.

mod asserted;
mod edge;
mod host;
mod image;
mod machine;
mod monitoring;
mod names;
mod recordings;
mod report;
mod servers;
mod sinks;
mod wait;
mod wires;

pub(crate) use edge::{CACHE, DATABASE, TRUST, site};
pub(crate) use host::{Config, Host};
pub(crate) use image::Rootfs;
pub(crate) use machine::Machine;
pub(crate) use monitoring::{RULES, stack};
pub(crate) use recordings::{RECORDINGS, edges, replays};
pub(crate) use report::Run;
pub(crate) use servers::{MACHINE, installed};
pub(crate) use wait::eventually;
pub(crate) use wires::PEER;

use std::io::Write;
use std::process::Command;
use std::sync::OnceLock;

/// The reason why the lab cannot run here, if there is one. Determined once.
fn missing() -> Option<&'static str> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let check = || {
        if !rustix::process::geteuid().is_root() {
            return Some("needs root".to_owned());
        }
        if let Some(tool) = TOOLS.iter().find(|tool| which::which(tool).is_err()) {
            return Some(format!("needs {tool} (tests/run installs it)"));
        }
        let unshare = Command::new("unshare").args(["-m", "-n", "-p", "-f", "--mount-proc", "true"]).output();
        match unshare {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("needs namespaces: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(e) => Some(format!("needs namespaces: {e}")),
        }
    };
    MISSING.get_or_init(check).as_deref()
}

/// Prefix of a command line that denies `openat2` (with `--inject=openat2:error=…` after it), as a kernel before 5.6.
pub(crate) const WITHOUT_OPENAT2: &[&str] =
    &["strace", "--follow-forks", "--seccomp-bpf", "-qq", "-o", "/dev/null", "--trace=openat2"];

/// Tools that a lab host needs.
const TOOLS: &[&str] = &["dockerd", "docker", "unshare", "nsenter", "setpriv", "mkfs.ext4", "ip", "iptables", "busybox", "tar"];

/// Whether a part of the lab is available. A missing part skips the test with one line, or fails it when `OPSCTL_LAB=require`.
pub(crate) fn available(why_not: Option<&str>) -> bool {
    let Some(why) = why_not else { return true };
    assert!(std::env::var_os("OPSCTL_LAB").is_none_or(|v| v != "require"), "the lab {why}");
    eprintln!("left out: the lab {why}");
    // tests/run counts these, because runners show the output of failed tests only
    if let Some(file) = std::env::var_os("OPSCTL_LAB_LEFT_OUT") {
        let append = std::fs::File::options().create(true).append(true).open(file);
        append.and_then(|mut f| writeln!(f, "{why}")).unwrap_or_else(|e| panic!("OPSCTL_LAB_LEFT_OUT: {e}"));
    }
    false
}
