//! Severity of a finding, and [`Verdict`] of a check or a run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Severity of a finding. Ordered: `Info < Warn < Crit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Noteworthy; never counts against the host.
    Info,
    /// A future fault, or a minor one now.
    Warn,
    /// A fault now.
    Crit,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Crit => "crit",
        })
    }
}

/// The outcome of a check, a runbook or a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Checked; healthy.
    Ok,
    /// Checked; there is a noteworthy fact.
    Info,
    /// Checked; attention needed.
    Warn,
    /// Checked; broken.
    Crit,
    /// The target exists but could not be checked; the text names the reason. Never shown as bad, never as ok.
    Unknown(String),
    /// Does not apply to this host; the text names the reason.
    Skip(String),
}

impl Verdict {
    /// The word used in every output.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Crit => "crit",
            Self::Unknown(_) => "unknown",
            Self::Skip(_) => "skip",
        }
    }

    /// Reason why it is unknown or skipped.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) | Self::Skip(why) => Some(why),
            _ => None,
        }
    }

    /// Weight in a roll-up: crit > warn > unknown > ok. Info and skip do not count.
    fn rank(&self) -> u8 {
        match self {
            Self::Crit => 3,
            Self::Warn => 2,
            Self::Unknown(_) => 1,
            Self::Ok | Self::Info | Self::Skip(_) => 0,
        }
    }

    /// The verdict of a whole from its parts: the heaviest, or ok.
    pub fn roll_up<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        parts.into_iter().filter(|v| v.rank() > 0).max_by_key(|v| v.rank()).cloned().unwrap_or(Self::Ok)
    }

    /// Process exit code of the commands that return a verdict: 0 ok, 1 warn, 2 crit, 3 unknown.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Ok | Self::Info | Self::Skip(_) => 0,
            Self::Warn => 1,
            Self::Crit => 2,
            Self::Unknown(_) => 3,
        }
    }
}

impl From<Severity> for Verdict {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warn => Self::Warn,
            Severity::Crit => Self::Crit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roll_up_puts_unknown_between_warn_and_ok() {
        let unknown = Verdict::Unknown("needs root".into());
        let skip = Verdict::Skip("no docker".into());
        assert_eq!(Verdict::roll_up([&Verdict::Ok, &unknown, &Verdict::Warn]), Verdict::Warn);
        assert_eq!(Verdict::roll_up([&Verdict::Ok, &unknown]), unknown);
        assert_eq!(Verdict::roll_up([&Verdict::Info, &skip]), Verdict::Ok);
        assert_eq!(Verdict::roll_up([]), Verdict::Ok);
    }
}
