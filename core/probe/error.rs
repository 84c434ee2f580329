//! Errors of probes.

use std::io;
use std::time::Duration;

/// The cause of a [`ProbeError::Failed`] with data that a parser rejected. The parser's own message describes its Rust types, not the data.
pub const UNEXPECTED_FORMAT: &str = "unexpected format";

/// The privilege that a denied read needs: root, or, for root in a container or a user namespace, more capabilities.
#[must_use]
pub fn needed_right() -> &'static str {
    if rustix::process::geteuid().is_root() { "capabilities that root lacks here" } else { "root" }
}

/// A failure of the probe itself. A broken target is evidence, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The probe does not apply to this host.
    #[error("{0}")]
    Skip(String),
    /// Permission denied.
    #[error("reading {subject} from {from}: permission denied; needs {needs}")]
    Denied {
        /// The information to be read.
        subject: String,
        /// The source.
        from: String,
        /// Required privilege: `root or group docker`.
        needs: String,
    },
    /// The read timed out.
    #[error("reading {subject} from {from}: timed out after {}", crate::model::quantity::duration((*after).try_into().unwrap_or_default()))]
    Timeout {
        /// The information to be read.
        subject: String,
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
    #[error("reading {subject} from {from}: {why}")]
    Failed {
        /// The information to be read.
        subject: String,
        /// The source.
        from: String,
        /// The cause.
        why: String,
    },
}

impl ProbeError {
    /// A failure that is neither a permission error nor a timeout.
    pub fn failed(subject: impl Into<String>, from: impl Into<String>, why: &str) -> Self {
        Self::Failed { subject: subject.into(), from: from.into(), why: why.to_owned() }
    }

    /// An I/O error. A permission error is a separate variant: the state is unknown, and the error names the required privilege.
    pub fn io(subject: impl Into<String>, from: impl Into<String>, error: &io::Error) -> Self {
        let (subject, from) = (subject.into(), from.into());
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { subject, from, needs: needed_right().to_owned() }
        } else {
            Self::Failed { subject, from, why: error.to_string() }
        }
    }

    /// An I/O error about a process; an exited process is skipped.
    pub(super) fn of_process(subject: &str, from: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Skip("the process no longer exists".to_owned()),
            _ => Self::io(subject, from, error),
        }
    }
}
