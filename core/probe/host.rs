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

/// What the kernel says is left in its pool of randomness, in bits.
#[must_use]
pub fn entropy() -> Option<u64> {
    fs::read_to_string("/proc/sys/kernel/random/entropy_avail").ok()?.trim().parse().ok()
}

/// Whether `getrandom(2)` answers at once.
#[must_use]
pub fn random_is_seeded() -> bool {
    let mut byte = [0_u8];
    // only "try again" means that it is not; a kernel without the call has nothing to wait for
    rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK) != Err(rustix::io::Errno::AGAIN)
}

/// The units whose start ends only when opsctl does: the one it was started in; called from cloud-init's user data, all its stages.
#[must_use]
pub fn own_units() -> Vec<String> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = super::home::Home::unit_of_cgroups(&cgroups);
    if own.as_deref().is_some_and(|unit| super::cloud_init::UNITS.contains(&unit)) {
        return super::cloud_init::UNITS.iter().map(|u| (*u).to_owned()).collect();
    }
    own.into_iter().collect()
}

/// Clock ticks per second, the unit of start times in `/proc/<pid>/stat`.
#[must_use]
pub fn clock_ticks() -> u64 {
    procfs::ticks_per_second().max(1)
}

/// Errors that the memory controllers could not correct since boot (Documentation/admin-guide/ras.rst); 0 where they do not report.
#[must_use]
pub fn uncorrected_memory_errors() -> u64 {
    let controllers = fs::read_dir("/sys/devices/system/edac/mc").into_iter().flatten().flatten();
    let count =
        |controller: fs::DirEntry| fs::read_to_string(controller.path().join("ue_count")).ok()?.trim().parse::<u64>().ok();
    controllers.filter_map(count).sum()
}
