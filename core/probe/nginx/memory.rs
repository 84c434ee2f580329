//! Which addresses a worker knows. nginx asks for the address of an upstream once, when it loads its configuration, and keeps it as text
//! (`172.18.0.3:8080`) beside the socket address (`ngx_addr_t.name`). No interface tells it, so the worker's own memory is searched for
//! that text. Nothing but addresses leaves this file.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use crate::probe::Io;

/// How much of a worker's memory is searched, in bytes. A configuration of thousands of sites takes tens of megabytes.
const MOST: u64 = 128 << 20;

/// How much is read at once, in bytes.
const PIECE: usize = 1 << 20;

/// `255.255.255.255:65535`: what may be cut at the end of a piece.
const LONGEST: usize = 21;

/// The addresses with one of these ports that stand in the private memory of `pid`; none when that is not ours to read. What was known
/// before a reload may still stand there too: that an address is missing says more than that it is there. The second value tells whether
/// all of it was searched.
#[must_use]
pub fn known_addresses(io: &Io, pid: i32, ports: &[u16]) -> Option<(BTreeSet<(Ipv4Addr, u16)>, bool)> {
    let maps = io.read_lossy(format!("/proc/{pid}/maps")).ok()?;
    let memory = io.open(format!("/proc/{pid}/mem")).ok()?;
    let needles: Vec<(u16, memmem::Finder<'static>)> =
        ports.iter().map(|p| (*p, memmem::Finder::new(format!(":{p}").as_bytes()).into_owned())).collect();
    let mut found = BTreeSet::new();
    let mut left = MOST;
    let mut buffer = vec![0; PIECE];
    for (start, end) in maps.lines().filter_map(private) {
        let mut at = start;
        while at < end && left > 0 {
            let want = usize::try_from((end - at).min(PIECE as u64)).unwrap_or(PIECE);
            let Ok(n @ 1..) = memory.read_at(&mut buffer[..want], at) else { break };
            addresses(&buffer[..n], &needles, &mut found);
            left = left.saturating_sub(n as u64);
            // an address that stands across two pieces is seen whole in the second
            let step = if n == want && at + (n as u64) < end { n.saturating_sub(LONGEST).max(1) } else { n };
            at += step as u64;
        }
    }
    Some((found, left > 0))
}

/// The range of a line of `/proc/<pid>/maps` that is private, written to, and no file: heap and anonymous memory.
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
    fn whole_addresses_of_the_port_are_found() {
        assert_eq!(found(b"\0\x0110.0.0.3:8080\0http://172.18.0.4:8080/", &[8080]), ["10.0.0.3:8080", "172.18.0.4:8080"]);
        assert!(found(b"10.0.0.3:80800 b2:8080 999.0.0.1:8080 :8080", &[8080]).is_empty());
        assert_eq!(found(b"1.2.3.4:80", &[80, 443]), ["1.2.3.4:80"]);
    }

    #[test]
    fn our_own_memory_is_searched() {
        // made at run time, so that it stands in the heap
        let mine = format!("{}.{}.0.7:{}", 10, 250, 4711).into_boxed_str();
        let me = i32::try_from(std::process::id()).unwrap();
        let (known, _) = known_addresses(&Io::for_test(), me, &[4711]).unwrap();
        assert!(known.contains(&("10.250.0.7".parse().unwrap(), 4711)), "{mine} {known:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_memory_is_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), line in ".*") {
            let _ = (found(&bytes, &[80]), private(&line));
        }
    }
}
