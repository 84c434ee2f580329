//! Memory limits and swap under real pressure, without a fault of the host. These tests run alone (`.config/nextest.toml`): they
//! affect the whole machine.

use std::process::Command;

use opsctl_core::model::Severity;

use super::{MINUTES, averages};
use crate::lab::{Host, Rootfs, eventually};

/// Pages moved to and from swap since boot.
fn moved() -> String {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    text.lines().filter(|l| l.starts_with("pswp")).collect()
}

/// Swap of the machine; removed on drop, also when the test fails.
struct Swap(tempfile::TempDir);

impl Swap {
    fn on(megabytes: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("opsctl-lab-swap-").tempdir().unwrap_or_else(|e| panic!("{e}"));
        let swap = Self(dir);
        let script = format!(
            "dd if=/dev/zero of={0} bs=1M count={megabytes} status=none && chmod 600 {0} && mkswap {0} && swapon {0}",
            swap.file()
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap_or_else(|e| panic!("sh: {e}"));
        let stderr = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{stderr}");
        swap
    }

    fn file(&self) -> String {
        self.0.path().join("swap").display().to_string()
    }

    /// Used swap, in percent.
    fn used(&self) -> u64 {
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        let line = swaps.lines().find(|l| l.starts_with(&self.file())).unwrap_or_default();
        let number = |n: usize| line.split_whitespace().nth(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        number(3) * 100 / number(2).max(1)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(self.file()).status();
    }
}

#[test]
fn container_at_its_memory_limit_does_not_affect_the_host() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("cache", &["-m", "64m", "--memory-swap", "64m", "app:1", "fixture", "mem-eater", "10", "--up-to", "60"]);
    let near = "container.memory-near-limit container:cache";
    let run = eventually(30, "the container uses its memory", || {
        let run = host.opsctl(&["diagnose", "memory", "container", "--format", "json"]);
        run.has(near).then_some(run)
    });
    run.roots(&[near]).mentions(near, &["fixture"]);
    // a host without swap is of severity info
    if std::fs::read_to_string("/proc/swaps").is_ok_and(|s| s.lines().count() == 1) {
        assert_eq!(run.finding("memory.swap host").severity, Severity::Info);
    }
}

#[test]
fn full_but_inactive_swap_is_not_reported() {
    // dropped after the host: its pages need memory to return to
    let swap;
    let Some(host) = Host::start() else { return };
    swap = Swap::on(48);
    host.image("app:1", Rootfs::Scratch, &[]);
    // more than its memory, less than memory and swap; the pages are not touched afterwards
    host.run("hoarder", &["-m", "32m", "--memory-swap", "96m", "app:1", "fixture", "mem-eater", "2", "--up-to", "74"]);
    eventually(60, "the swap is full", || (swap.used() >= 80).then_some(()));
    let mut last = (String::new(), std::time::Instant::now());
    eventually(MINUTES, "no page moved for a second and no task waits for memory", || {
        let moved = moved();
        if moved != last.0 {
            last = (moved, std::time::Instant::now());
        }
        (last.1.elapsed().as_secs() >= 1 && averages("memory").1 < 4.0).then_some(())
    });
    let run = host.opsctl(&["memory", "--format", "json"]);
    run.roots(&[]);
    assert!(!run.has("memory.swap host"), "full but inactive");
}
