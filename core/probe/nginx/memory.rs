//! Upstream addresses known to a worker. nginx resolves the host name of an upstream once, when it loads its configuration, and
//! stores the address as text (`172.18.0.3:8080`) beside the socket address (`ngx_addr_t.name`). No interface reports it, so the
//! worker's memory is searched for that text. Only addresses leave this module.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use crate::probe::Io;

/// Limit of the memory of a worker that is searched, in bytes. A configuration of thousands of sites takes tens of megabytes.
const MAX_SEARCH_BYTES: u64 = 128 << 20;

/// Size of one read, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Length of `255.255.255.255:65535`, which may be split between two chunks.
const MAX_ADDRESS_BYTES: usize = 21;

/// Addresses with one of these ports in the private memory of `pid`, or `None` if it is not readable. Addresses from before a
/// reload may still be in it, so a missing address is stronger evidence than a present one. The second value is whether the
/// search was complete.
#[must_use]
pub fn known_addresses(io: &Io, pid: i32, ports: &[u16]) -> Option<(BTreeSet<(Ipv4Addr, u16)>, bool)> {
    let maps = io.read_lossy(format!("/proc/{pid}/maps")).ok()?;
    let memory = io.open(format!("/proc/{pid}/mem")).ok()?;
    let needles: Vec<(u16, memmem::Finder<'static>)> =
        ports.iter().map(|p| (*p, memmem::Finder::new(format!(":{p}").as_bytes()).into_owned())).collect();
    let mut found = BTreeSet::new();
    let mut left = MAX_SEARCH_BYTES;
    let mut buffer = vec![0; CHUNK_BYTES];
    for (start, end) in maps.lines().filter_map(private) {
        let mut at = start;
        while at < end && left > 0 {
            let len = usize::try_from((end - at).min(CHUNK_BYTES as u64)).unwrap_or(CHUNK_BYTES);
            let Ok(n @ 1..) = memory.read_at(&mut buffer[..len], at) else { break };
            addresses(&buffer[..n], &needles, &mut found);
            left = left.saturating_sub(n as u64);
            // an address that is split between two chunks is complete in the second
            let step = if n == len && at + (n as u64) < end { n.saturating_sub(MAX_ADDRESS_BYTES).max(1) } else { n };
            at += step as u64;
        }
    }
    Some((found, left > 0))
}

/// Range of a line of `/proc/<pid>/maps` that is private, writable, and not a file: heap and anonymous memory.
pub(super) fn private(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "rw-p" {
        return None;
    }
    let inode = fields.nth(2)?;
    let name = fields.next().unwrap_or_default();
    if inode != "0" || name.starts_with("[stack") || name == "[vvar]" {
        return None;
    }
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

pub(super) fn addresses(bytes: &[u8], needles: &[(u16, memmem::Finder<'static>)], found: &mut BTreeSet<(Ipv4Addr, u16)>) {
    for (port, finder) in needles {
        for at in finder.find_iter(bytes) {
            let after = at + 1 + port.to_string().len();
            if bytes.get(after).is_some_and(u8::is_ascii_digit) {
                continue;
            }
            let start = bytes[..at].iter().rposition(|b| !(b.is_ascii_digit() || *b == b'.')).map_or(0, |p| p + 1);
            let text = bytes.get(start.max(at.saturating_sub(15))..at).and_then(|t| std::str::from_utf8(t).ok());
            if let Some(address) = text.and_then(|t| t.parse().ok()) {
                found.insert((address, *port));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn found(text: &[u8], ports: &[u16]) -> Vec<String> {
        let needles: Vec<_> = ports.iter().map(|p| (*p, memmem::Finder::new(format!(":{p}").as_bytes()).into_owned())).collect();
        let mut all = BTreeSet::new();
        addresses(text, &needles, &mut all);
        all.iter().map(|(a, p)| format!("{a}:{p}")).collect()
    }

    #[test]
    fn only_complete_addresses_of_the_port_are_found() {
        assert_eq!(found(b"\0\x0110.0.0.3:8080\0http://172.18.0.4:8080/", &[8080]), ["10.0.0.3:8080", "172.18.0.4:8080"]);
        assert!(found(b"10.0.0.3:80800 b2:8080 999.0.0.1:8080 :8080", &[8080]).is_empty());
        assert_eq!(found(b"1.2.3.4:80", &[80, 443]), ["1.2.3.4:80"]);
    }

    #[test]
    fn address_in_own_heap_is_found() {
        // created at run time, so that it is on the heap
        let sample = format!("{}.{}.0.7:{}", 10, 250, 4711).into_boxed_str();
        let me = i32::try_from(std::process::id()).unwrap();
        let (known, _) = known_addresses(&Io::for_test(), me, &[4711]).unwrap();
        assert!(known.contains(&("10.250.0.7".parse().unwrap(), 4711)), "{sample} {known:?}");
    }
}
