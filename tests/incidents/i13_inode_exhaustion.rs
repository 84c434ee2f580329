//! A cache of small files uses all inodes of a nearly empty disk.

use crate::lab::Host;

const INODES: &str = "disk.inodes mount:/mnt/cache";

#[test]
fn inodes_run_out_before_space() {
    let Some(host) = Host::without_engine() else { return };
    host.disk("/mnt/cache", 32, "-N 200");
    host.sh("mkdir /mnt/cache/sessions; for n in $(seq 300); do : > /mnt/cache/sessions/$n || exit 0; done 2> /dev/null; exit 1");
    let run = host.diagnose();
    run.must(&[INODES]).roots(&[INODES]).mentions(INODES, &["sessions"]).must_not(&["disk.space", "disk.deleted-open"]);
    host.leaves(&run, "");

    // the same on a tmpfs
    host.sh("mount -t tmpfs -o size=16m,nr_inodes=50 ram /mnt/cache; for n in $(seq 60); do : > /mnt/cache/$n || exit 0; done 2> /dev/null; exit 1");
    host.diagnose().must(&[INODES]).roots(&[INODES]);
}
