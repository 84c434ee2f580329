//! Why something could not be read.

use std::io;
use std::time::Duration;

/// What went wrong on our side of a probe. A target that is broken is evidence, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It does not apply to this host.
    #[error("{0}")]
    Skip(String),
    /// This user may not read it.
    #[error("reading {what} from {from}: permission denied; needs {needs}")]
    Denied {
        /// What was being read.
        what: String,
        /// From where.
        from: String,
        /// Who may: `root or group docker`.
        needs: String,
    },
    /// It did not come back in time.
    #[error("reading {what} from {from}: timed out after {}", crate::model::quantity::duration((*after).try_into().unwrap_or_default()))]
    Timeout {
        /// What was being read.
        what: String,
        /// From where.
        from: String,
        /// How long was waited.
        after: Duration,
    },
    /// A server whose process belongs to a user that is not expected to run it: it gets no login, and nothing it names is read or run.
    #[error("{server} {why}: not examined")]
    Untrusted {
        /// The server.
        server: String,
        /// What is known of it: `belongs to user mallory (uid 1001)`.
        why: String,
    },
    /// Anything else.
    #[error("reading {what} from {from}: {why}")]
    Failed {
        /// What was being read.
        what: String,
        /// From where.
        from: String,
        /// What happened.
        why: String,
    },
}

impl ProbeError {
    /// Anything that is neither permission nor time.
    pub fn failed(what: impl Into<String>, from: impl Into<String>, why: &str) -> Self {
        Self::Failed { what: what.into(), from: from.into(), why: why.to_owned() }
    }

    /// An I/O error; permission is told apart, because it means unknown and how to get it.
    pub fn io(what: impl Into<String>, from: impl Into<String>, error: &io::Error) -> Self {
        let (what, from) = (what.into(), from.into());
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied { what, from, needs: "root".to_owned() }
        } else {
            Self::Failed { what, from, why: error.to_string() }
        }
    }

    /// An I/O error about a process: one that has ended is no error.
    pub(super) fn of_process(what: &str, from: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Skip("the process is gone".to_owned()),
            _ => Self::io(what, from, error),
        }
    }
}
