//! Where packets vanish: at this host's own way out, or somewhere behind it.

use opsctl_core::probe::path::Fate;

use super::evidence::Look;

/// Headers of IPv4 and TCP, in bytes: what a segment has less than its packet.
pub(super) const HEADERS: u32 = 40;

/// What is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bottleneck {
    /// The interface packets leave by takes less than the containers' side: a size this host knows.
    Here,
    /// Something behind it.
    Beyond {
        /// Largest packet that arrived, in bytes; none when it was not found.
        arrived: Option<u32>,
    },
}

/// What a lost packet tells.
pub(super) fn of(look: &Look) -> Option<Bottleneck> {
    let here = look.way.limit();
    let lost = [&look.tried.out, &look.tried.back].into_iter().find_map(|fate| match fate {
        Fate::Vanishes { lost, arrived } => Some((*lost, *arrived)),
        _ => None,
    })?;
    Some(match lost {
        // what arrives is as large as this host's interface, and no more does
        (lost, arrived) if look.from.is_some() && lost > here && arrived.is_none_or(|a| a + SLACK >= here) => Bottleneck::Here,
        (_, arrived) => Bottleneck::Beyond { arrived },
    })
}

/// The sizes that are tried lie this close together, in bytes.
const SLACK: u32 = 16;
