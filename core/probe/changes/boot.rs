//! Start of this machine, with its kernel.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Change, ChangeKind, EVERYTHING};
use crate::probe::io::clock;
use crate::probe::kernel::{boot, host};
use crate::probe::{ProbeCx, ProbeError, blocking};

/// Timeout of the check for a container.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) async fn read(cx: &ProbeCx, since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    let (at, description) = if blocking::run("the first process", "/proc/self/ns/pid", READ_TIMEOUT, boot::in_container).await? {
        // in a container the boot time of the machine does not apply; the first process has its own start time
        let Some(systemd) = &cx.systemd else { return Ok(Vec::new()) };
        let Some(at) = systemd.manager().await?.started else { return Ok(Vec::new()) };
        (at, "started".to_owned())
    } else {
        (clock::boot_time(), format!("booted with kernel {}", host::kernel()))
    };
    let change = Change::new(at, ChangeKind::Boot, "host", description).concerning(EVERYTHING);
    Ok(Some(change).filter(|c| c.at >= since).into_iter().collect())
}
