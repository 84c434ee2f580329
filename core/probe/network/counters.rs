//! Network counters of a namespace since its creation: `/proc/net/snmp` and `/proc/net/netstat`.

use std::collections::BTreeMap;

use crate::probe::Io;

/// `Ip.FragFails`, `TcpExt.ListenOverflows` and others, of this process's namespace.
#[must_use]
pub fn counters(io: &Io) -> BTreeMap<String, u64> {
    let read = |file: &str| io.read_lossy(format!("/proc/net/{file}")).unwrap_or_default();
    parse(&(read("snmp") + &read("netstat")))
}

/// Parses pairs of lines: `Ip: Forwarding DefaultTTL …` and `Ip: 1 64 …`.
pub(super) fn parse(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut counters = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (Some((group, names)), Some((same, values))) = (pair[0].split_once(": "), pair[1].split_once(": ")) else { continue };
        if group == same {
            let values = values.split_whitespace().map(|v| v.parse().unwrap_or(0));
            counters.extend(names.split_whitespace().map(|n| format!("{group}.{n}")).zip(values));
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counter_names_and_values_are_in_two_lines() {
        let c = parse("Ip: Forwarding FragFails\nIp: 1 8\nTcpExt: ListenOverflows X\nTcpExt: 3 -1\n");
        assert_eq!((c.get("Ip.FragFails"), c.get("TcpExt.ListenOverflows"), c.get("TcpExt.X")), (Some(&8), Some(&3), Some(&0)));
        assert!(counters(&Io::for_test()).contains_key("Ip.FragFails"), "this kernel");
    }
}
