//! Who this machine is.

use std::fs;

use crate::model::HostInfo;

/// Node name, kernel release and boot id.
#[must_use]
pub fn info() -> HostInfo {
    let uname = rustix::system::uname();
    HostInfo {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
    }
}

/// Whether this process may look into other users' processes.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Memory the host could still give out, in bytes (`MemAvailable`), and all it has (`MemTotal`).
#[must_use]
pub fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some((field("MemAvailable:")?, field("MemTotal:")?))
}
