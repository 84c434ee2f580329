//! Network counters of a namespace since its creation: `/proc/net/snmp` and `/proc/net/netstat`.

use std::collections::BTreeMap;

use crate::probe::Io;

/// `Ip.FragFails`, `TcpExt.ListenOverflows` and others, of this process's namespace.
#[must_use]
pub fn counters(io: &Io) -> BTreeMap<String, u64> {
    let read = |file: &str| io.read_lossy(format!("/proc/net/{file}")).unwrap_or_default();
    parse(&format!("{}\n{}", read("snmp"), read("netstat")))
}

/// Parses pairs of lines: `Ip: Forwarding DefaultTTL …` and `Ip: 1 64 …`. A group without values (gVisor, `IcmpMsg:` before the
/// first message) has no counters; a negative number (`MaxConn -1`, no limit) counts as 0, and any other text as missing.
pub(super) fn parse(text: &str) -> BTreeMap<String, u64> {
    let number = |text: &str| text.parse::<u64>().ok().or_else(|| text.parse::<i64>().is_ok().then_some(0));
    let mut counters = BTreeMap::new();
    let mut header: Option<(&str, &str)> = None;
    for (group, fields) in text.lines().filter_map(|l| l.split_once(':')) {
        // a name is never a number
        let mut words = fields.split_ascii_whitespace().peekable();
        let is_values = words.peek().is_none() || words.any(|word| number(word).is_some());
        match header.take() {
            Some((same, names)) if same == group && is_values => {
                let values = fields.split_ascii_whitespace().map(number);
                let pairs = names.split_ascii_whitespace().zip(values);
                counters.extend(pairs.filter_map(|(name, value)| Some((format!("{group}.{name}"), value?))));
            }
            _ => header = (!is_values).then_some((group, fields)),
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    #[test]
    fn counter_names_and_values_are_in_two_lines() {
        let c = parse("Ip: Forwarding FragFails\nIp: 1 8\nTcpExt: ListenOverflows X\nTcpExt: 3 -1\n");
        assert_eq!((c.get("Ip.FragFails"), c.get("TcpExt.ListenOverflows"), c.get("TcpExt.X")), (Some(&8), Some(&3), Some(&0)));
        assert!(counters(&Io::for_test()).contains_key("Ip.FragFails"), "this kernel");
    }

    #[test]
    fn group_without_values_costs_only_itself() {
        let c = parse("IcmpMsg:\nIcmpMsg:\nUdp: InErrors\nTcp: InErrs\nTcpExt: A\nTcpExt: 1\nIp: 3\n");
        assert_eq!(c.into_iter().collect::<Vec<_>>(), [("TcpExt.A".to_owned(), 1)]);
    }

    #[test]
    fn odd_value_costs_only_itself() {
        let c = parse("Tcp: Odd RetransSegs MaxConn\nTcp: x 5 -1\nodd line\nTcpExt: A\nTcpExt: 1 2 3\n");
        let found: Vec<_> = c.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        assert_eq!(found, [("Tcp.MaxConn", 0), ("Tcp.RetransSegs", 5), ("TcpExt.A", 1)]);
    }

    #[test]
    fn corpus_of_counters() {
        corpus::check("net-counters", 6, |text| {
            let c = parse(text);
            let shown = |name: &str| c.get(name).map(ToString::to_string).unwrap_or_default();
            vec![
                (
                    "groups",
                    c.keys()
                        .filter_map(|k| k.split('.').next())
                        .collect::<std::collections::BTreeSet<_>>()
                        .into_iter()
                        .collect::<Vec<_>>()
                        .join(" "),
                ),
                ("Ip.FragFails", shown("Ip.FragFails")),
                ("Tcp.RetransSegs", shown("Tcp.RetransSegs")),
                ("TcpExt.ListenOverflows", shown("TcpExt.ListenOverflows")),
                ("TcpExt.ListenDrops", shown("TcpExt.ListenDrops")),
            ]
        });
    }
}
