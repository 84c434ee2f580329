//! I/O counters of disks.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::{Io, ProbeError, blocking};

/// Requests in flight from which the number is one below zero, printed as unsigned: kernels lose count of merged requests.
const MAX_IN_FLIGHT: u64 = 1 << 31;

/// Cumulative counters of one disk (Documentation/admin-guide/iostats.rst).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCounters {
    /// Reads and writes completed.
    pub operations: u64,
    /// Milliseconds spent on them, summed over all operations.
    pub operation_ms: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Milliseconds with at least one request in flight.
    pub busy_ms: u64,
    /// Milliseconds weighted by the number of requests in flight.
    pub weighted_ms: u64,
}

/// Counters of all whole disks by name.
pub async fn disks() -> Result<BTreeMap<String, DiskCounters>, ProbeError> {
    const FILE: &str = "/proc/diskstats";
    let read = |io: &Io| {
        let text = io.read_lossy(FILE)?;
        // sysfs replaces the slash of `cciss/c0d0p1`
        let directory = |name: &str| std::path::Path::new("/sys/class/block").join(name.replace('/', "!"));
        let is_partition = |name: &str| io.exists(directory(name).join("partition"));
        Ok(parse(&text, is_partition))
    };
    let read = blocking::run("disk counters", FILE, Duration::from_secs(1), read).await?;
    read.map_err(|e: std::io::Error| ProbeError::io("disk counters", FILE, &e))
}

pub(super) fn parse(text: &str, is_partition: impl Fn(&str) -> bool) -> BTreeMap<String, DiskCounters> {
    // partitions, loop and RAM devices are counted at their underlying disk
    let whole = |name: &str| !["loop", "ram", "zram", "sr", "fd"].iter().any(|p| name.starts_with(p)) && !is_partition(name);
    text.lines().filter_map(parse_line).filter(|(name, _)| whole(name)).collect()
}

/// `major minor name reads merged sectors ms writes merged sectors ms in-flight busy weighted …`: 14 columns before Linux 4.18,
/// then 18, and 20 since 5.5. Lines of partitions before 2.6.25 have only four numbers. An odd number counts as 0: it can only
/// hide a saturated disk.
fn parse_line(line: &str) -> Option<(String, DiskCounters)> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?.to_owned();
    let n: Vec<u64> = words.map(|w| w.parse().unwrap_or(0)).collect();
    let [reads, _, _, read_ms, writes, _, _, write_ms, in_flight, busy_ms, weighted_ms, ..] = n[..] else { return None };
    Some((
        name,
        DiskCounters {
            operations: reads.saturating_add(writes),
            operation_ms: read_ms.saturating_add(write_ms),
            in_flight: if in_flight < MAX_IN_FLIGHT { in_flight } else { 0 },
            busy_ms,
            weighted_ms,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    #[test]
    fn odd_number_costs_only_itself() {
        let disks = parse("8 0 sda 100 - 8 50 200 0 16 150 4294967295 180 900\n8 16 sdb 1 0 0 1 1 0 0 1 -2 1 1\n", |_| false);
        let sda = DiskCounters { operations: 300, operation_ms: 200, in_flight: 0, busy_ms: 180, weighted_ms: 900 };
        assert_eq!((disks.get("sda"), disks.get("sdb").map(|d| d.in_flight)), (Some(&sda), Some(0)));
    }

    #[test]
    fn corpus_of_diskstats() {
        corpus::check("diskstats", 4, |text| {
            let disks = parse(text, |name| name.starts_with("sd") && name.ends_with(|c: char| c.is_ascii_digit()));
            let shown = |(name, d): (&String, &DiskCounters)| {
                format!("{name}:{}/{}/{}/{}", d.operations, d.operation_ms, d.in_flight, d.busy_ms)
            };
            vec![("disks", disks.iter().map(shown).collect::<Vec<_>>().join(" "))]
        });
    }

    #[test]
    fn only_complete_lines_of_whole_disks_are_parsed() {
        let text = " 254 0 vdx 100 0 8 50 200 0 16 150 3 180 900 0 0 0 0 0 0\n 254 1 vdx1 1 1 1 1 1 1 1 1 1 1 1\n 7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n1 2 short 1\n";
        let disks = parse(text, |name| name == "vdx1");
        let expected = DiskCounters { operations: 300, operation_ms: 200, in_flight: 3, busy_ms: 180, weighted_ms: 900 };
        assert_eq!(disks.into_iter().collect::<Vec<_>>(), [("vdx".to_owned(), expected)]);
    }
}
