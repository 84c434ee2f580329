//! The limit that ends a run early, in words.

use std::time::{Duration, Instant};

use opsctl_core::model::quantity;
use opsctl_core::probe::lag;

/// The limit that ends a run early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceededLimit {
    /// Its deadline.
    Deadline(Duration),
    /// Its memory limit, in bytes.
    Memory(u64),
}

impl ExceededLimit {
    pub(crate) fn words(self) -> String {
        match self {
            Self::Deadline(at) => format!("its deadline ({}) has passed", quantity::duration(at.try_into().unwrap_or_default())),
            Self::Memory(limit) => format!("opsctl reached its memory limit ({})", quantity::bytes(limit)),
        }
    }

    /// The reason of a check without a result. If opsctl itself was late, it implies nothing about the target.
    pub(crate) fn reason(self, began: Instant) -> String {
        match self {
            Self::Deadline(at) => lag::was_late(began).map_or_else(
                || format!("did not finish by the deadline ({})", quantity::duration(at.try_into().unwrap_or_default())),
                lag::too_busy,
            ),
            Self::Memory(_) => format!("did not finish: {}", self.words()),
        }
    }
}
