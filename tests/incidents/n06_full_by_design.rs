//! Control: read-only images, overlays and bind mounts are not reported as full.

use crate::lab::Host;

#[test]
fn read_only_images_overlays_and_bind_mounts_are_skipped() {
    let Some(host) = Host::without_engine() else { return };
    host.sh("mkdir -p /mnt/src /mnt/squash && echo content > /mnt/src/file && mksquashfs /mnt/src /mnt/image.squashfs -quiet > /dev/null
        mount -o loop /mnt/image.squashfs /mnt/squash");
    assert_eq!(host.sh("df --output=pcent /mnt/squash | tail -1").trim(), "100%");
    host.disk("/mnt/data", 64, "-m 0");
    host.sh("mkdir /mnt/data/upper /mnt/data/work /mnt/overlay /mnt/bind
        mount -t overlay overlay -o lowerdir=/mnt/src,upperdir=/mnt/data/upper,workdir=/mnt/data/work /mnt/overlay
        mount --bind /mnt/data /mnt/bind");
    host.diagnose().roots(&[]);
    host.fill("/mnt/data", 99);
    let disk = "disk.space mount:/mnt/data";
    let run = host.diagnose();
    run.roots(&[disk]);
    host.leaves(&run, "");
    let mentions = |word: &str| {
        run.report().checks.iter().any(|c| c.target.contains(word)) || run.findings().any(|f| f.subject.name.contains(word))
    };
    for view in ["/mnt/squash", "/mnt/overlay", "/mnt/bind"] {
        assert!(!mentions(view), "{view} is no disk of its own");
    }
}
