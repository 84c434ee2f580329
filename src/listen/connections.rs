//! Limits on concurrent connections. If a limit is reached, the oldest unauthenticated connection of the peer with the most
//! connections is closed.
//!
//! A regular client sends its headers at once and is authenticated within milliseconds. Many silent connections therefore evict
//! each other and not the authenticated clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{AbortHandle, AbortRegistration};

/// Maximum number of connections. Each may hold a body of 1 MiB until its signature is compared.
const MAX_CONNECTIONS: usize = 64;

/// Maximum number of connections from one peer.
const MAX_CONNECTIONS_PER_PEER: usize = 32;

/// Source of a connection, reduced to the part that a client cannot choose freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A user of this host, over the unix socket.
    User(u32),
    /// An address; see [`Origin::of`].
    Address(IpAddr),
}

impl Origin {
    /// Every process can use all of 127.0.0.0/8, and a host usually has a /64.
    pub(super) fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self::Address(match address {
            _ if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }
}

struct Open {
    origin: Origin,
    known: Arc<AtomicBool>,
    abort: AbortHandle,
}

#[derive(Default)]
struct Inner {
    /// By age.
    open: BTreeMap<u64, Open>,
    next: u64,
}

/// All connections.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Inner>>);

/// The slot of one connection, released when it is dropped.
pub(super) struct ConnectionSlot {
    connections: Connections,
    number: u64,
    /// Ends the connection when it is evicted.
    pub(super) abort_registration: Option<AbortRegistration>,
    /// Set when a request is authenticated: from then on the connection is not evicted.
    pub(super) known: Arc<AtomicBool>,
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a new connection; `None` if all candidates for eviction are authenticated.
    pub(super) fn admit(&self, origin: Origin) -> Option<ConnectionSlot> {
        let mut inner = self.lock();
        while inner.of(origin) >= MAX_CONNECTIONS_PER_PEER {
            let number = inner.oldest_unknown(origin)?;
            inner.end(number);
        }
        while inner.open.len() >= MAX_CONNECTIONS {
            let number = inner.largest_unknown()?;
            inner.end(number);
        }
        inner.next += 1;
        let number = inner.next;
        let (abort, registration) = AbortHandle::new_pair();
        let known = Arc::new(AtomicBool::new(false));
        inner.open.insert(number, Open { origin, known: Arc::clone(&known), abort });
        Some(ConnectionSlot { connections: self.clone(), number, abort_registration: Some(registration), known })
    }
}

impl Inner {
    fn of(&self, origin: Origin) -> usize {
        self.open.values().filter(|open| open.origin == origin).count()
    }

    fn oldest_unknown(&self, origin: Origin) -> Option<u64> {
        let unknown = |(_, open): &(&u64, &Open)| open.origin == origin && !open.known.load(Ordering::Relaxed);
        self.open.iter().find(unknown).map(|(number, _)| *number)
    }

    /// The oldest unauthenticated connection of the peer with the most connections.
    fn largest_unknown(&self) -> Option<u64> {
        let unknown = self.open.iter().filter(|(_, open)| !open.known.load(Ordering::Relaxed));
        unknown.max_by_key(|(number, open)| (self.of(open.origin), u64::MAX - **number)).map(|(number, _)| *number)
    }

    fn end(&mut self, number: u64) {
        if let Some(open) = self.open.remove(&number) {
            open.abort.abort();
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn address(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    /// Whether the slot was evicted.
    fn is_evicted(connections: &Connections, slot: &ConnectionSlot) -> bool {
        !connections.lock().open.contains_key(&slot.number)
    }

    #[test]
    fn addresses_of_one_host_are_one_peer() {
        assert_eq!(address("127.0.0.1"), address("127.200.3.4"));
        assert_eq!(address("127.0.0.1"), address("::1"));
        assert_eq!(address("127.0.0.1"), address("::ffff:127.0.0.9"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn silent_connections_are_evicted_by_new_ones_of_their_peer() {
        let connections = Connections::default();
        let silent: Vec<ConnectionSlot> = (0..32).map(|_| connections.admit(address("192.0.2.1")).unwrap()).collect();
        let other = connections.admit(address("192.0.2.2")).unwrap();
        let new = connections.admit(address("192.0.2.1")).unwrap();
        assert!(is_evicted(&connections, &silent[0]) && !is_evicted(&connections, &silent[1]));
        assert!(!is_evicted(&connections, &other) && !is_evicted(&connections, &new));
        drop(silent);
        assert_eq!(connections.lock().open.len(), 2);
    }

    #[test]
    fn authenticated_connections_are_not_evicted() {
        let connections = Connections::default();
        let known: Vec<ConnectionSlot> = (0..32).map(|_| connections.admit(Origin::User(1)).unwrap()).collect();
        for slot in &known {
            slot.known.store(true, Ordering::Relaxed);
        }
        assert!(connections.admit(Origin::User(1)).is_none());
        assert!(known.iter().all(|slot| !is_evicted(&connections, slot)));
        drop(known);
        assert!(connections.admit(Origin::User(1)).is_some());
    }

    #[test]
    fn full_listener_evicts_from_the_largest_peer() {
        let connections = Connections::default();
        let many: Vec<ConnectionSlot> = (0..32).map(|_| connections.admit(address("192.0.2.1")).unwrap()).collect();
        let few: Vec<ConnectionSlot> = (0..32).map(|n| connections.admit(Origin::User(n)).unwrap()).collect();
        let new = connections.admit(address("192.0.2.9")).unwrap();
        assert!(is_evicted(&connections, &many[0]));
        assert!(few.iter().chain([&new]).all(|slot| !is_evicted(&connections, slot)));
    }
}
