//! Parsers of the system-wide files of procfs (proc(5)).
//!
//! Kernels, containers (lxcfs) and emulations (gVisor, WSL 1) add, omit and misprint fields. Each field is read by itself: an
//! unreadable one costs only itself, and is named where a check depends on it.

use std::collections::HashMap;

use super::{Average, CpuTime, Memory, Paging, Pressure};

/// Fields of a `cpu` line before the kernel counted waiting for disks separately (2.4).
const MIN_CPU_FIELDS: usize = 4;

/// The time of all processors together, and of each online one. `None` if `/proc/stat` has neither.
pub(in crate::probe) fn processor_time(text: &str) -> (Option<CpuTime>, Vec<CpuTime>) {
    let (mut total, mut each) = (None, Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(number) = words.next().and_then(|name| name.strip_prefix("cpu")) else { continue };
        let fields: Vec<&str> = words.collect();
        if fields.len() < MIN_CPU_FIELDS {
            continue;
        }
        let field = |at: usize| fields.get(at).and_then(|n| n.parse().ok()).unwrap_or(0);
        let time = CpuTime {
            user: field(0),
            nice: field(1),
            system: field(2),
            idle: field(3),
            iowait: field(4),
            irq: field(5),
            softirq: field(6),
            steal: field(7),
        };
        if number.is_empty() {
            total = Some(time);
        } else if number.bytes().all(|b| b.is_ascii_digit()) {
            each.push(time);
        }
    }
    let sum = || each.iter().copied().reduce(|a, b| a.plus(&b));
    (total.or_else(sum), each)
}

/// The load averages of `/proc/loadavg`: `0.20 0.18 0.12 1/80 11206`.
pub(in crate::probe) fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next()?.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    Some([next()?, next()?, next()?])
}

/// Counters of `/proc/vmstat`. A counter that the kernel prints as a negative number counts as missing.
pub(in crate::probe) fn paging(text: &str) -> Paging {
    let mut paging = Paging::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next().and_then(|n| n.parse().ok())) else { continue };
        match name {
            "pswpin" => paging.swapped_in = value,
            "pswpout" => paging.swapped_out = value,
            "pgmajfault" => paging.major_faults = value,
            "oom_kill" => paging.oom_kills = Some(value),
            _ => {}
        }
    }
    paging
}

/// Memory in `/proc/meminfo`, without the fields from other files.
pub(in crate::probe) fn memory(text: &str) -> Memory {
    let lines: HashMap<&str, &str> = text.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim(), v)).collect();
    let mut unread = Vec::new();
    let mut field = |name: &str| {
        let value = lines.get(name)?;
        let number = amount(value);
        if number.is_none() {
            unread.push(name.to_owned());
        }
        number
    };
    let memory = Memory {
        total: field("MemTotal").unwrap_or(0),
        available: field("MemAvailable"),
        swap_total: field("SwapTotal").unwrap_or(0),
        swap_free: field("SwapFree").unwrap_or(0),
        committed: field("Committed_AS").unwrap_or(0),
        commit_limit: field("CommitLimit"),
        slab_unreclaimable: field("SUnreclaim"),
        shmem: field("Shmem"),
        huge_pages: field("HugePages_Total").unwrap_or(0).saturating_mul(field("Hugepagesize").unwrap_or(0)),
        corrupted: field("HardwareCorrupted"),
        ..Memory::default()
    };
    Memory { unread, ..memory }
}

/// `16384 kB` in bytes, or a number of pages. `None` for any other text, and for an amount that no machine has: counters that
/// went below zero are printed as 64-bit numbers near the maximum.
fn amount(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    let unit: u64 = match words.next() {
        None | Some("B") => 1,
        Some("kB" | "KB" | "KiB" | "kiB") => 1 << 10,
        Some("mB" | "MB" | "MiB") => 1 << 20,
        Some("gB" | "GB" | "GiB") => 1 << 30,
        Some(_) => return None,
    };
    number.checked_mul(unit).filter(|n| *n < 1 << 60)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, followed by an optional `full` line (Documentation/accounting/psi.rst).
pub(in crate::probe) fn pressure(text: &str) -> Option<Pressure> {
    let average = |kind: &str| {
        let line = text.lines().find(|l| l.split_ascii_whitespace().next() == Some(kind))?;
        let field = |name: &str| -> Option<f64> {
            let value = line.split_ascii_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix('='))?;
            value.parse().ok().filter(|n: &f64| n.is_finite())
        };
        Some(Average { avg10: field("avg10")?, avg60: field("avg60")?, avg300: field("avg300")? })
    };
    Some(Pressure { some: average("some")?, full: average("full") })
}

/// A field of the adaptive replacement cache of ZFS: lines of `name type data`.
pub(in crate::probe) fn kstat(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.split_ascii_whitespace().next() == Some(name))?;
    line.split_ascii_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::corpus;

    #[test]
    fn processor_pressure_has_one_line_before_linux_5_13() {
        let old = pressure("some avg10=1.50 avg60=20.00 avg300=3.00 total=7\n").unwrap();
        assert!(old.full.is_none() && (old.some.avg60 - 20.0).abs() < 0.01);
        let new = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=7.00 avg300=0.00 total=0\n";
        assert!((pressure(new).unwrap().full.unwrap().avg60 - 7.0).abs() < 0.01);
        assert_eq!((pressure("full avg10=1\n"), pressure("")), (None, None));
    }

    #[test]
    fn unknown_line_of_pressure_costs_only_itself() {
        let text = "irq avg10=nan\nsome avg10=1.00 avg60=2.00 avg300=3.00 total=0\nfull avg10=x avg60=0.00 avg300=0.00 total=0\n";
        let found = pressure(text).unwrap();
        assert!((found.some.avg10 - 1.0).abs() < 0.01 && found.full.is_none());
    }

    #[test]
    fn odd_field_of_meminfo_costs_only_itself() {
        let found = memory("MemTotal: 2048 kB\nMemAvailable: 1024 furlongs\nShmem: 4 kB\nOdd\n: :\nSUnreclaim: -3 kB\n");
        assert_eq!((found.total, found.available, found.shmem), (2 << 20, None, Some(4096)));
        assert_eq!(found.unread, ["MemAvailable", "SUnreclaim"]);
    }

    #[test]
    fn amount_below_zero_is_unread() {
        let found = memory("MemTotal: 2048 kB\nCommitted_AS: 18446744073709551520 kB\n");
        assert_eq!((found.committed, found.unread), (0, vec!["Committed_AS".to_owned()]));
    }

    #[test]
    fn time_of_all_processors_is_the_sum_without_its_line() {
        let (total, each) = processor_time("cpu0 1 2 3 4\ncpu1 1 1 1 1 1\ncpufreq 1 2 3 4\ncpu 1\nintr x\n");
        assert_eq!((total.map(|t| (t.user, t.idle, t.iowait)), each.len()), (Some((2, 5, 1)), 2));
        assert_eq!(processor_time("intr 0\n"), (None, Vec::new()));
    }

    #[test]
    fn load_needs_no_more_than_three_numbers() {
        assert_eq!(load("0.20 0.18 0.12"), Some([0.20, 0.18, 0.12]));
        assert_eq!((load("0.20 x 0.12"), load(""), load("nan 0 0")), (None, None, None));
    }

    #[test]
    fn negative_counter_of_vmstat_costs_only_itself() {
        let found = paging("nr_free_pages -1\nnr_unstable 18446744073709551615\npswpin 3\npswpout x\noom_kill 2\n");
        assert_eq!((found.swapped_in, found.swapped_out, found.oom_kills), (3, 0, Some(2)));
    }

    #[test]
    fn corpus_of_meminfo() {
        corpus::check("meminfo", 10, |text| {
            let m = memory(text);
            let optional = |n: Option<u64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
            vec![
                ("total", m.total.to_string()),
                ("available", optional(m.available)),
                ("swap", format!("{} {}", m.swap_total, m.swap_free)),
                ("committed", format!("{} {}", m.committed, optional(m.commit_limit))),
                ("slab", optional(m.slab_unreclaimable)),
                ("shmem", optional(m.shmem)),
                ("huge", m.huge_pages.to_string()),
                ("corrupted", optional(m.corrupted)),
                ("unread", m.unread.join(" ")),
            ]
        });
    }

    #[test]
    fn corpus_of_processor_time() {
        corpus::check("proc-stat", 5, |text| {
            let (total, each) = processor_time(text);
            let shown = |t: &CpuTime| {
                [t.user, t.nice, t.system, t.idle, t.iowait, t.irq, t.softirq, t.steal].map(|n| n.to_string()).join(" ")
            };
            vec![("cpu", total.as_ref().map(shown).unwrap_or_default()), ("cpus", each.len().to_string())]
        });
    }

    #[test]
    fn corpus_of_load() {
        corpus::check("loadavg", 4, |text| {
            vec![("load", load(text).map(|l| l.map(|n| format!("{n:.2}")).join(" ")).unwrap_or_default())]
        });
    }

    #[test]
    fn corpus_of_vmstat() {
        corpus::check("vmstat", 4, |text| {
            let p = paging(text);
            let oom = p.oom_kills.map_or_else(|| "none".to_owned(), |n| n.to_string());
            vec![("paging", format!("{} {} {} {oom}", p.swapped_in, p.swapped_out, p.major_faults))]
        });
    }

    #[test]
    fn corpus_of_pressure() {
        corpus::check("pressure", 3, |text| {
            let shown = |a: &Average| format!("{:.2} {:.2} {:.2}", a.avg10, a.avg60, a.avg300);
            let found = pressure(text);
            let full = found.and_then(|p| p.full).as_ref().map(shown).unwrap_or_default();
            vec![("some", found.map(|p| shown(&p.some)).unwrap_or_default()), ("full", full)]
        });
    }
}
