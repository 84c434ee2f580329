//! Control: blocks reserved for root are not used space. `1 - avail/size` counts them as used, `df` does not.

use crate::lab::Host;

#[test]
fn reserved_blocks_are_not_used_space() {
    let Some(host) = Host::without_engine() else { return };
    host.disk("/mnt/data", 200, "-m 50");
    host.fill("/mnt/data", 82);
    let wrong: u32 =
        host.sh("set -- $(df -B1 --output=size,avail /mnt/data | tail -1); echo $((100 - 100 * $2 / $1))").parse().unwrap();
    assert!(wrong >= 90, "the wrong formula must exceed the limit here: {wrong} %");
    let run = host.diagnose();
    run.roots(&[]).must_not(&["disk.space"]).verdict("disk.space", "mount:/mnt/data", "ok");
    host.leaves(&run, "");
}
