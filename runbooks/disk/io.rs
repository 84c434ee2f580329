//! I/O errors and saturation of disks.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, MountRef, Object, Role, Severity};
use opsctl_core::probe::kernel::filesystem;
use opsctl_core::probe::kernel::filesystem::DiskCounters;
use opsctl_core::probe::kernel::kmsg::KernelLine;
use opsctl_core::probe::{ProbeCx, ProbeError};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::subject;
use crate::shared::processes::of_host;

const SATURATION: Code = Code {
    id: "disk.io-saturation",
    severities: &[Severity::Warn],
    when: "a disk was busy 98 % of a second with over 10 requests waiting, each for over 100 ms",
    hint: "find the processes that read or write: `iotop -o`, or the container with the highest block I/O in docker stats",
    impacts: &[Impact::likely(Role::Starved, KeyKind::Host, "all processes wait for the disk")],
    ..Code::BASE
};
const ERRORS: Code = Code {
    id: "disk.io-errors",
    severities: &[Severity::Crit],
    when: "the kernel log has I/O or filesystem errors of a disk in use in the last 24 h",
    hint: "save the data first, then check the disk (smartctl -a) and repair offline with fsck",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "disk.io",
    title: "disks are without errors and not saturated",
    codes: &[SATURATION, ERRORS],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// Interval between two samples of a busy disk.
const WINDOW: Duration = Duration::from_secs(1);
/// Requests in flight from which a second sample is taken (half of the limit of the finding).
const SUSPICIOUS_IN_FLIGHT: u64 = 5;
/// Busy share of the window (netdata: 98 %), average queue (mixin: 10) and average wait in ms (awesome: 0.1 s); all three together,
/// because a busy `NVMe` disk or RAID is no problem.
const BUSY: f64 = 0.98;
const QUEUE: f64 = 10.0;
const WAIT_MS: f64 = 100.0;
/// Age from which errors are ignored.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct Io;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    first: BTreeMap<String, DiskCounters>,
    /// A second sample `window_ms` later; only if many requests were in flight.
    later: BTreeMap<String, DiskCounters>,
    window_ms: u64,
    /// Lines of the kernel log about errors of block devices.
    errors: Vec<KernelLine>,
    mounts: Vec<MountRef>,
    /// The reason why the kernel log could not be read.
    gap: Option<String>,
}

impl Check for Io {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { first: filesystem::disks().await?, mounts: cx.inventory.mounts.clone(), ..Evidence::default() };
        match cx.kernel_log.lines().await {
            Ok(lines) => e.errors = lines.iter().filter(|l| failing_device(&l.text).is_some()).cloned().collect(),
            Err(ProbeError::Skip(_)) => {}
            Err(why) => e.gap = Some(why.to_string()),
        }
        if e.first.values().any(|d| d.in_flight >= SUSPICIOUS_IN_FLIGHT) {
            let started = Instant::now();
            tokio::time::sleep(WINDOW).await;
            e.later = filesystem::disks().await?;
            e.window_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings: Vec<Finding> = e.later.iter().filter_map(|(name, later)| saturated(name, later, e)).collect();
        let mut devices: BTreeMap<&str, Vec<&KernelLine>> = BTreeMap::new();
        for line in e.errors.iter().filter(|l| judged.taken_at.duration_since(l.at) < RECENT) {
            devices.entry(failing_device(&line.text).unwrap_or_default()).or_default().push(line);
        }
        findings.extend(devices.into_iter().filter_map(|(device, lines)| failing(device, &lines, e)));
        Judgement { findings, gaps: e.gap.iter().cloned().collect(), ..Judgement::default() }
    }
}

fn saturated(name: &str, later: &DiskCounters, e: &Evidence) -> Option<Finding> {
    let first = e.first.get(name)?;
    let window = e.window_ms.max(1) as f64;
    let delta = |of: fn(&DiskCounters) -> u64| of(later).saturating_sub(of(first)) as f64;
    let busy = delta(|d| d.busy_ms) / window;
    let queue = delta(|d| d.weighted_ms) / window;
    let wait = delta(|d| d.operation_ms) / delta(|d| d.operations).max(1.0);
    if busy < BUSY || queue < QUEUE || wait < WAIT_MS {
        return None;
    }
    let message = format!(
        "disk {name} does not keep up: {queue:.0} requests wait {wait:.0} ms each, limits {QUEUE:.0} and {WAIT_MS:.0} ms"
    );
    let on: Vec<&str> = e.mounts.iter().filter(|m| device_of(m).starts_with(name)).map(|m| m.mountpoint.as_str()).collect();
    let subject = Object { id: format!("disk:{name}"), ..Object::host() };
    Some(of_host(Finding::new(&SATURATION, Severity::Warn, subject, message)).cite("filesystems on it", on.join(", ")))
}

fn failing(device: &str, lines: &[&KernelLine], e: &Evidence) -> Option<Finding> {
    let mount = e.mounts.iter().find(|m| device_of(m) == device || on_disk(device_of(m), device));
    // the log also has errors of removed USB sticks and loop devices
    if mount.is_none() && !e.first.contains_key(device) {
        return None;
    }
    let last = lines.last()?;
    let times = if lines.len() == 1 { "once".to_owned() } else { format!("{} times", lines.len()) };
    let message = format!("the kernel reported errors of disk {device} {times} in the last 24 h");
    let subject = mount.map_or_else(|| Object { id: format!("disk:{device}"), ..Object::host() }, subject);
    let mut finding = Finding::new(&ERRORS, Severity::Crit, subject, message)
        .since(lines.first().map(|l| l.at))
        .cite("kernel log", format!("{} {}", last.at, last.text));
    if let Some(mount) = mount {
        finding = finding.key(KeyKind::Filesystem, &mount.dev);
    }
    Some(finding)
}

fn device_of(mount: &MountRef) -> &str {
    mount.source.rsplit('/').next().unwrap_or_default()
}

/// `sda1` and `nvme0n1p2` are on `sda` and `nvme0n1`.
fn on_disk(partition: &str, disk: &str) -> bool {
    partition.strip_prefix(disk).is_some_and(|rest| {
        let number = rest.strip_prefix('p').unwrap_or(rest);
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    })
}

/// The lines about errors of a device, Linux 4.19 to 6.18. A user can cause lines that begin with a program name of up to 15 characters,
/// `NAME[PID]: segfault at … in FILE[…]`: no pattern matches them, whatever the names.
const ERROR_LINES: &[&str] = &[
    r"^(?:[a-z_]{1,30}: )?(?:I/O error|critical (?:medium|target|nexus|space allocation) error), dev ([\w-]+), sector \d",
    r"^Buffer I/O error on dev(?:ice)? ([\w-]+), logical block \d",
    r"^[A-Z0-9]{2,8}-fs error \(device ([\w-]+)\): ",
    r"^BTRFS error \(device ([\w-]+)[^)\[]*\)",
    r"^XFS \(([\w-]+)\): [^\[]*I/O error",
];

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static ERROR_LINE: LazyLock<Vec<Regex>> =
    LazyLock::new(|| ERROR_LINES.iter().map(|pattern| Regex::new(pattern).expect("constant pattern")).collect());

/// The device of a kernel line about an error: `I/O error, dev sda, sector …`, `Buffer I/O error on dev sda1, …`,
/// `EXT4-fs error (device sda1): …`, `XFS (sda1): metadata I/O error`, `BTRFS error (device sda1)`.
pub(super) fn failing_device(line: &str) -> Option<&str> {
    let device = ERROR_LINE.iter().find_map(|pattern| Some(pattern.captures(line)?.get(1)?.as_str()))?;
    // floppy and optical drives without a medium fail every read
    (!device.starts_with("fd") && !device.starts_with("sr")).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_is_parsed_from_all_error_formats() {
        for (line, device) in [
            ("I/O error, dev sda, sector 123 op 0x0:(READ)", Some("sda")),
            ("blk_update_request: I/O error, dev nvme0n1, sector 0", Some("nvme0n1")),
            ("Buffer I/O error on dev sdb1, logical block 0", Some("sdb1")),
            ("EXT4-fs error (device sda1): ext4_find_entry:1446: inode #2", Some("sda1")),
            ("XFS (dm-0): metadata I/O error in \"x\"", Some("dm-0")),
            ("blk_update_request: I/O error, dev fd0, sector 0", None),
            ("EXT4-fs (sda1): mounted filesystem", None),
            ("dev sda is fine", None),
            ("x[7]: segfault at 0 ip 0 sp 0 error 6 in EXT4-fs error (device sda1): bad I[1+1]", None),
            ("EXT4-fs error ([7]: segfault at 0 ip 0 sp 0 error 6 in device sda1): x[1+1]", None),
            ("XFS (sda1): x[7]: segfault at 0 ip 0 sp 0 error 6 in I/O error[1+1]", None),
            ("I/O error, dev [7]: segfault at 0 ip 0 sp 0 error 6 in sda, sector 1[1+1]", None),
        ] {
            assert_eq!(failing_device(line), device, "{line}");
        }
        assert!(on_disk("sda1", "sda") && on_disk("nvme0n1p2", "nvme0n1") && !on_disk("sdab", "sda") && !on_disk("sda", "sda"));
    }
}
