//! When this machine was started, and with which kernel.

use jiff::Timestamp;

use crate::model::{Change, ChangeKind, EVERYTHING};
use crate::probe::{ProbeCx, ProbeError, boot, clock, host};

pub(super) async fn read(cx: &ProbeCx, since: Timestamp) -> Result<Vec<Change>, ProbeError> {
    let (at, what) = if boot::in_container() {
        // the machine's boot is not this one's; its first process knows when it was started
        let Some(systemd) = &cx.systemd else { return Ok(Vec::new()) };
        let Some(at) = systemd.manager().await?.started else { return Ok(Vec::new()) };
        (at, "started".to_owned())
    } else {
        (clock::boot_time(), format!("booted with kernel {}", host::info().kernel))
    };
    let change = Change::new(at, ChangeKind::Boot, "host", what).concerning(EVERYTHING);
    Ok(Some(change).filter(|c| c.at >= since).into_iter().collect())
}
