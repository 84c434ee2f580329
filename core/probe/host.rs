//! Who this machine is.

use std::fs::DirEntry;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::{Io, ProbeError, blocking};
use crate::model::HostInfo;

/// Time limit of reading one small file of the kernel.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Node name, kernel release and boot id.
#[must_use]
pub fn info(io: &Io) -> HostInfo {
    HostInfo {
        hostname: hostname(),
        kernel: kernel(),
        boot_id: io.read_lossy("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
    }
}

/// [`info`] for a caller that may not block; without the boot id where it cannot be read in time. Read once per process.
pub async fn read_info() -> HostInfo {
    static READ: OnceCell<HostInfo> = OnceCell::const_new();
    let read = || blocking::run("the boot id", "/proc/sys/kernel/random/boot_id", READ_TIMEOUT, info);
    let unread = || HostInfo { hostname: hostname(), kernel: kernel(), ..HostInfo::default() };
    READ.get_or_try_init(read).await.map_or_else(|_| unread(), Clone::clone)
}

/// Node name.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Kernel release.
#[must_use]
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether this process may look into other users' processes.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the kernel says is left in its pool of randomness, in bits.
#[must_use]
pub fn entropy(io: &Io) -> Option<u64> {
    io.read_lossy("/proc/sys/kernel/random/entropy_avail").ok()?.trim().parse().ok()
}

/// Whether `getrandom(2)` answers at once.
#[must_use]
pub fn random_is_seeded() -> bool {
    let mut byte = [0_u8];
    // only "try again" means that it is not; a kernel without the call has nothing to wait for
    rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK) != Err(rustix::io::Errno::AGAIN)
}

/// The units whose start ends only when opsctl does: the one it was started in; called from cloud-init's user data, all its stages.
/// Read once per process.
pub async fn own_units() -> Result<Vec<String>, ProbeError> {
    const FILE: &str = "/proc/self/cgroup";
    static READ: OnceCell<String> = OnceCell::const_new();
    let read = || blocking::run("the own control group", FILE, READ_TIMEOUT, |io| io.read_lossy(FILE).unwrap_or_default());
    let own = super::home::Home::unit_of_cgroups(READ.get_or_try_init(read).await?);
    if own.as_deref().is_some_and(|unit| super::cloud_init::UNITS.contains(&unit)) {
        return Ok(super::cloud_init::UNITS.iter().map(|u| (*u).to_owned()).collect());
    }
    Ok(own.into_iter().collect())
}

/// Clock ticks per second, the unit of start times in `/proc/<pid>/stat`.
#[must_use]
pub fn clock_ticks() -> u64 {
    procfs::ticks_per_second().max(1)
}

/// Errors that the memory controllers could not correct since boot (Documentation/admin-guide/ras.rst); 0 where they do not report.
#[must_use]
pub fn uncorrected_memory_errors(io: &Io) -> u64 {
    let controllers = io.read_dir("/sys/devices/system/edac/mc").into_iter().flatten().flatten();
    let count = |controller: DirEntry| io.read_lossy(controller.path().join("ue_count")).ok()?.trim().parse::<u64>().ok();
    controllers.filter_map(count).sum()
}
