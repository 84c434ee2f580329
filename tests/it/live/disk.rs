//! Hung, unmounted and full filesystems, shared memory and file descriptors.

use super::assert_disks_checked_in_time;
use crate::lab::{Config, Host, Rootfs, available, eventually};

#[test]
fn hung_filesystem_affects_only_itself() {
    let why_not = (!std::path::Path::new("/dev/fuse").exists() || which::which("fuse-overlayfs").is_err())
        .then_some("needs fuse-overlayfs and /dev/fuse");
    if !available(why_not) {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    host.disk("/mnt/data", 64, "-m 0");
    // the type is fuse.NAME of the program: it resembles a network filesystem, not a view of a disk
    host.sh("mkdir /mnt/lower /mnt/dead; ln -s $(which fuse-overlayfs) /mnt/remotefs; /mnt/remotefs -o lowerdir=/mnt/lower /mnt/dead; stat -f /mnt/dead
        pid=$(pgrep -x remotefs); kill -STOP $pid; until grep -q 'State:.T' /proc/$pid/status; do sleep 0.05; done");
    let run = host.diagnose();
    assert_disks_checked_in_time(&run);
    run.roots(&["disk.mount-hung mount:/mnt/dead"]);
    // no process of opsctl stays blocked in the kernel
    assert_eq!(host.sh("ps -eo comm= | grep -c '^opsctl$' || true"), "0");
}

#[test]
fn files_below_an_unmounted_mount_point_are_explained_by_the_mount() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.disk("/mnt/system", 64, "-m 0");
    // a separate disk for the data, which was not mounted
    host.sh("mkdir -p /mnt/system/data; touch /mnt/fstab /etc/fstab; mount --bind /mnt/fstab /etc/fstab
        truncate -s 64M /mnt/data.ext4; mkfs.ext4 -q /mnt/data.ext4
        echo '/mnt/data.ext4 /mnt/system/data ext4 loop 0 2' > /mnt/fstab");
    let fill = "cat /dev/zero > /data/file 2> /dev/null; echo full; exec sleep 100000";
    host.run("db", &["-v", "/mnt/system/data:/data", "app:1", "sh", "-c", fill]);
    eventually(60, "the wrong disk is full", || (host.docker(&["logs", "db"]) == "full").then_some(()));
    let (missing, space) = ("disk.mount-missing mount:/mnt/system/data", "disk.space mount:/mnt/system");
    let run = host.diagnose();
    run.roots(&[missing]).explains(missing, space);
    run.mentions(missing, &["is in fstab but not mounted", "/mnt/data.ext4", "db"]);

    host.docker(&["rm", "-f", "db"]);
    host.sh("rm /mnt/system/data/file; mount /mnt/system/data");
    host.diagnose().roots(&[]);
}

/// Directories of the engine are named by hashes: disk usage is reported by container name.
#[test]
fn disk_usage_of_the_engine_is_attributed_to_its_container() {
    let Some(host) = Host::with(&Config { docker_disk: 200, ..Config::default() }) else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.run("hoarder", &["app:1", "sh", "-c", "dd if=/dev/zero of=/tmp/cache bs=1M count=500; exec sleep 1000"]);
    let full = "disk.space mount:/var/lib/docker";
    let run = eventually(60, "the disk is full", || Some(host.run_runbooks(&["container", "disk"])).filter(|run| run.has(full)));
    run.roots(&[full]).mentions(full, &["(/tmp in the writable layer of hoarder)"]);
}

#[test]
fn full_shared_memory_is_reported_for_its_container() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let fill = |kib: u32| format!("head -c {kib}k /dev/zero > /dev/shm/segment; echo done; exec sleep 100000");
    host.run("db", &["--shm-size", "1m", "app:1", "sh", "-c", &fill(2048)]);
    // healthy counterpart: below the limit, also in the segment of a container that another one shares
    host.run("roomy", &["--shm-size", "1m", "--ipc", "shareable", "app:1", "sh", "-c", &fill(900)]);
    host.run("guest", &["--ipc", "container:roomy", "app:1", "sh", "-c", "echo done; exec sleep 100000"]);
    for name in ["db", "roomy", "guest"] {
        eventually(30, "the container has written its data", || host.docker(&["logs", name]).contains("done").then_some(()));
    }
    let shm_full = "disk.space container:db";
    host.diagnose().roots(&[shm_full]).mentions(shm_full, &["/dev/shm", "of 1 MiB, in memory"]);
}

#[test]
fn nearly_exhausted_file_descriptors_are_reported_before_the_failure() {
    let Some(host) = Host::with_servers(&["python3"]) else { return };
    let open = |n: u32| {
        format!(
            "import resource, time; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); f = [open('/dev/null') for _ in range({n})]; time.sleep(1000)"
        )
    };
    host.spawn("python3", &["-c", &open(100)]);
    let descriptors = |more_than: usize| {
        eventually(30, "the files are open", || {
            let pids = host.sh("pgrep -x python3 || true");
            pids.lines()
                .find(|pid| host.sh(&format!("ls /proc/{pid}/fd | wc -l")).parse::<usize>().is_ok_and(|n| n >= more_than))
                .map(str::to_owned)
        })
    };
    descriptors(100);
    host.run_runbooks(&["disk"]).roots(&[]);
    host.spawn("python3", &["-c", &open(190)]);
    let pid = descriptors(190);
    let process = format!("disk.fds process:python3[{pid}]");
    host.run_runbooks(&["disk"]).roots(&[&process]).mentions(&process, &["of its 200 file descriptors open", "limit 95 %"]);
}
