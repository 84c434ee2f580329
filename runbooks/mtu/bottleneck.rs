//! Location of a path MTU bottleneck: the egress interface of this host, or a hop behind it.

use opsctl_core::probe::network::path::PathResult;

use super::evidence::PathProbe;

/// IPv4 and TCP headers in bytes: the difference between packet size and MSS.
pub(super) const HEADERS: u32 = 40;

/// Location of the bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bottleneck {
    /// The MTU of the egress interface is smaller than that of the container network: known to this host.
    Here,
    /// A hop behind the egress interface.
    Beyond {
        /// Largest packet that arrived, in bytes; `None` if not found.
        arrived: Option<u32>,
    },
}

/// The bottleneck of a path with lost packets.
pub(super) fn of(probe: &PathProbe) -> Option<Bottleneck> {
    let here = probe.way.limit();
    let lost = [&probe.tried.out, &probe.tried.back].into_iter().find_map(|fate| match fate {
        PathResult::Vanishes { lost, arrived } => Some((*lost, *arrived)),
        _ => None,
    })?;
    Some(match lost {
        // packets up to the MTU of this host's interface arrive, larger ones do not
        (lost, arrived) if probe.from.is_some() && lost > here && arrived.is_none_or(|a| a + STEP_BYTES >= here) => {
            Bottleneck::Here
        }
        (_, arrived) => Bottleneck::Beyond { arrived },
    })
}

/// Distance between probed sizes in bytes.
const STEP_BYTES: u32 = 16;
