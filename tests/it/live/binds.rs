//! Bind mounts, networks and images that differ from their configuration.

use crate::lab::{Host, Rootfs, eventually};

const BROKEN: &str = "container.bind-broken container:web";

#[test]
fn directory_created_in_place_of_a_missing_file() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("web", &["-v", "/mnt/missing.yml:/etc/app.yml", "app:1", "fixture", "wait-term"]);
    assert_eq!(host.sh("stat -c %F /mnt/missing.yml"), "directory");
    host.diagnose().roots(&[BROKEN]).mentions(BROKEN, &["/mnt/missing.yml", "directory"]);
}

/// The most common case: a process that reads its configuration and finds a directory exits, repeatedly.
#[test]
fn missing_file_is_the_cause_of_a_crash_loop() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let reads = ["app:1", "sh", "-c", "read line < /etc/app.yml && exec sleep 1000; exit 1"];
    host.run("web", &[&["--restart", "always", "-v", "/mnt/missing.yml:/etc/app.yml"], &reads[..]].concat());
    host.run("once", &[&["-v", "/mnt/gone.yml:/etc/app.yml"], &reads[..]].concat());
    // a job that has exited successfully no longer needs its files
    host.sh("mkdir /mnt/input");
    host.run("job", &["-v", "/mnt/input:/input", "app:1", "sh", "-c", ":"]);
    host.until("job", "{{.State.Status}}", "exited");
    host.sh("rmdir /mnt/input");
    let (looping, down, once) =
        ("container.restart-loop container:web", "container.down container:once", "container.bind-broken container:once");
    let run = eventually(60, "both have exited", || {
        let run = host.run_runbooks(&["container"]);
        (run.has(looping) && run.has(down)).then_some(run)
    });
    run.roots(&[BROKEN, once]).explains(BROKEN, looping).explains(once, down);
}

#[test]
fn mounted_file_that_was_replaced() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.sh("echo old > /mnt/app.conf; echo old > /mnt/same.conf; mkdir /mnt/conf.d; echo old > /mnt/conf.d/app.conf");
    let binds = ["-v", "/mnt/app.conf:/etc/app.conf", "-v", "/mnt/same.conf:/etc/same.conf", "-v", "/mnt/conf.d:/etc/conf.d"];
    host.run("web", &[&binds[..], &["app:1", "sleep", "100000"]].concat());
    host.diagnose().roots(&[]);
    // the method of editors and certbot; a file in a mounted directory may be replaced, and a file may be written in place
    host.sh("for f in app.conf conf.d/app.conf; do echo new > /mnt/new; mv /mnt/new /mnt/$f; done; echo new > /mnt/same.conf");
    assert_eq!(host.docker(&["exec", "web", "cat", "/etc/app.conf", "/etc/same.conf", "/etc/conf.d/app.conf"]), "old\nnew\nnew");
    let run = host.diagnose();
    run.roots(&[BROKEN]).mentions(BROKEN, &["/mnt/app.conf"]);
    assert_eq!(run.findings().filter(|f| f.code == "container.bind-broken").count(), 1, "only the replaced file");
}

#[test]
fn removed_source_of_a_mount() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.sh("mkdir /mnt/data");
    host.run("web", &["-v", "/mnt/data:/data", "app:1", "fixture", "wait-term"]);
    host.sh("rmdir /mnt/data");
    host.diagnose().roots(&[BROKEN]).mentions(BROKEN, &["/mnt/data"]);
}

#[test]
fn container_with_a_removed_network() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("cut-off", &["app:1", "fixture", "wait-term"]);
    host.run("on-purpose", &["--network", "none", "app:1", "fixture", "wait-term"]);
    host.docker(&["network", "disconnect", "bridge", "cut-off"]);
    host.diagnose().roots(&["container.network-detached container:cut-off"]);
}

#[test]
fn tag_that_was_moved_to_another_image() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("web", &["app:1", "fixture", "wait-term"]);
    host.image("app:1", Rootfs::Scratch, &["ENV VERSION=2"]);
    let run = host.diagnose();
    run.roots(&[]).must(&["container.image-drift container:web"]);
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
