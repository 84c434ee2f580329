//! IPv4 networks.

use core::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// An IPv4 network: `172.18.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subnet {
    /// First address.
    pub base: Ipv4Addr,
    /// Length of the prefix, at most 32.
    pub prefix: u8,
}

impl Subnet {
    /// The network of an address; a longer prefix counts as 32.
    #[must_use]
    pub fn new(base: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { base: Ipv4Addr::from_bits(base.to_bits() & mask(prefix)), prefix }
    }

    /// Parses `172.18.0.0/16` or a single address. `None` for any other text, also for IPv6.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some(Self::new(base.parse().ok()?, prefix))
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn has(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.base.to_bits()
    }

    /// Last address: the broadcast address.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() | !mask(self.prefix))
    }

    /// Whether one contains the other.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.has(other.base) && self.prefix <= other.prefix || other.has(self.base) && other.prefix <= self.prefix
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn overlap_is_containment() {
        let subnet = |text| Subnet::parse(text).unwrap();
        assert!(subnet("172.18.0.0/16").overlaps(subnet("172.18.5.0/24")));
        assert!(subnet("172.18.5.0/24").overlaps(subnet("172.16.0.0/12")));
        assert!(!subnet("172.18.0.0/16").overlaps(subnet("172.19.0.0/16")));
        assert!(subnet("0.0.0.0/0").has(Ipv4Addr::new(9, 9, 9, 9)) && subnet("10.0.0.9/24") == subnet("10.0.0.0/24"));
        assert_eq!((Subnet::parse("fd00::/64"), Subnet::parse("10.0.0.0/33"), Subnet::parse("")), (None, None, None));
        assert_eq!(subnet("10.0.0.1").to_string(), "10.0.0.1/32");
    }
}
