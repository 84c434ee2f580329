//! Errors of probes.

use std::io;
use std::time::Duration;

/// The cause of a [`ProbeError::Failed`] whose data a parser rejected. The parser's own message describes its Rust types, not the data.
pub const UNEXPECTED_FORMAT: &str = "unexpected format";

/// A failure of the probe itself. A broken target is evidence, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The probe does not apply to this host.
    #[error("{0}")]
    Skip(String),
    /// Permission denied.
    #[error("reading {what} from {from}: permission denied; needs {needs}")]
    Denied {
        /// The information to be read.
        what: String,
        /// The source.
        from: String,
        /// Required privilege: `root or group docker`.
        needs: String,
    },
    /// The read timed out.
    #[error("reading {what} from {from}: timed out after {}", crate::model::quantity::duration((*after).try_into().unwrap_or_default()))]
    Timeout {
        /// The information to be read.
        what: String,
        /// The source.
        from: String,
        /// The timeout.
        after: Duration,
    },
    /// A server process of an unexpected user: no credentials are sent to it, and no file it names is read or executed.
    #[error("{server} {why}: not examined")]
    Untrusted {
        /// The server.
        server: String,
        /// The reason: `belongs to user mallory (uid 1001)`.
        why: String,
    },
    /// Any other failure.
    #[error("reading {what} from {from}: {why}")]
    Failed {
        /// The information to be read.
        what: String,
        /// The source.
        from: String,
        /// The cause.
        why: String,
    },
}

impl ProbeError {
    /// A failure that is neither a permission error nor a timeout.
    pub fn failed(what: impl Into<String>, from: impl Into<String>, why: &str) -> Self {
        Self::Failed { what: what.into(), from: from.into(), why: why.to_owned() }
    }

    /// An I/O error. A permission error is a separate variant: the state is unknown, and the error names the required privilege.
    pub fn io(what: impl Into<String>, from: impl Into<String>, error: &io::Error) -> Self {
        let (what, from) = (what.into(), from.into());
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { what, from, needs: "root".to_owned() }
        } else {
            Self::Failed { what, from, why: error.to_string() }
        }
    }

    /// An I/O error about a process; an exited process is skipped.
    pub(super) fn of_process(what: &str, from: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Skip("the process no longer exists".to_owned()),
            _ => Self::io(what, from, error),
        }
    }
}
