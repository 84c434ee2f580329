//! Identity of this host: node name, kernel release, boot id, own unit.

use std::fs::DirEntry;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::model::HostInfo;
use crate::probe::{Io, ProbeError, blocking};

/// Time limit for reading one small kernel file.
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

/// [`info`] for an async caller; without the boot id if reading it times out. Read once per process.
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

/// Whether this process may read other users' processes.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Available entropy as reported by the kernel, in bits.
#[must_use]
pub fn entropy(io: &Io) -> Option<u64> {
    io.read_lossy("/proc/sys/kernel/random/entropy_avail").ok()?.trim().parse().ok()
}

/// Whether `getrandom(2)` returns without blocking.
#[must_use]
pub fn random_is_seeded() -> bool {
    let mut byte = [0_u8];
    // only EAGAIN means that the pool is not seeded; a kernel without the call does not block
    rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK) != Err(rustix::io::Errno::AGAIN)
}

/// The units that wait for opsctl to exit before their start is complete: its own unit, or all stages of cloud-init if called
/// from user data.
/// Read once per process.
pub async fn own_units() -> Result<Vec<String>, ProbeError> {
    const FILE: &str = "/proc/self/cgroup";
    static READ: OnceCell<String> = OnceCell::const_new();
    let read = || blocking::run("the own control group", FILE, READ_TIMEOUT, |io| io.read_lossy(FILE).unwrap_or_default());
    let own = crate::probe::proc::home::Home::unit_of_cgroups(READ.get_or_try_init(read).await?);
    if own.as_deref().is_some_and(|unit| crate::probe::kernel::cloud_init::UNITS.contains(&unit)) {
        return Ok(crate::probe::kernel::cloud_init::UNITS.iter().map(|u| (*u).to_owned()).collect());
    }
    Ok(own.into_iter().collect())
}

/// Clock ticks per second, the unit of start times in `/proc/<pid>/stat`.
#[must_use]
pub fn clock_ticks() -> u64 {
    procfs::ticks_per_second().max(1)
}

/// Uncorrectable errors reported by the memory controllers since boot (Documentation/admin-guide/ras.rst); 0 if they report none.
#[must_use]
pub fn uncorrected_memory_errors(io: &Io) -> u64 {
    let controllers = io.read_dir("/sys/devices/system/edac/mc").into_iter().flatten().flatten();
    let count = |controller: DirEntry| io.read_lossy(controller.path().join("ue_count")).ok()?.trim().parse::<u64>().ok();
    controllers.filter_map(count).sum()
}
