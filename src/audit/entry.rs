//! One line of the journal.

use jiff::Timestamp;
use opsctl_core::model::{Object, Plan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A fix is about to be applied.
    Intent,
    /// Result of an intent or an undo.
    Outcome,
    /// A fix is about to be reverted.
    Undo,
    /// Any other record, for example a waiver.
    Note,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Undo => "undo",
            Self::Note => "note",
        })
    }
}

/// Result of an intent or an undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Applied, and the finding no longer exists.
    Verified,
    /// Applied, and the finding still exists (or could not be checked).
    Unverified,
    /// Applied, not verified, and reverted.
    Undone,
    /// An action failed.
    Failed,
    /// opsctl was killed between intent and outcome; a later run wrote this.
    Interrupted,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Undone => "undone",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        })
    }
}

/// The user that ran opsctl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// Real user id.
    pub uid: u32,
    /// `$SUDO_USER`: the user that invoked sudo.
    pub sudo_user: Option<String>,
}

impl Author {
    /// The user of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { uid: rustix::process::getuid().as_raw(), sudo_user: std::env::var("SUDO_USER").ok().filter(|u| !u.is_empty()) }
    }
}

impl std::fmt::Display for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.sudo_user, self.uid) {
            (Some(name), _) => f.write_str(name),
            (None, 0) => f.write_str("root"),
            (None, uid) => write!(f, "user {uid}"),
        }
    }
}

/// The content of a new entry; number, time and chain are added by the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Kind.
    pub kind: Kind,
    /// The entry it refers to: an outcome's intent or undo, an undo's intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Fix id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The object that the fix changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Object>,
    /// Result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// One line of text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The planned actions and their reverse actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

impl Body {
    /// An entry of this kind with only a text.
    #[must_use]
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, of: None, fix: None, subject: None, ending: None, text: text.into(), plan: None }
    }

    /// The entry written before `plan` is applied; `because` is its finding.
    #[must_use]
    pub fn intent(plan: &Plan, because: &str) -> Self {
        Self {
            fix: Some(plan.fix.clone()),
            subject: Some(plan.subject.clone()),
            plan: Some(plan.clone()),
            ..Self::new(Kind::Intent, because)
        }
    }

    /// The entry written before `intent` is reverted.
    #[must_use]
    pub fn undo(intent: &Entry) -> Self {
        Self {
            of: Some(intent.seq),
            fix: intent.body.fix.clone(),
            subject: intent.body.subject.clone(),
            ..Self::new(Kind::Undo, "")
        }
    }

    /// The entry written when the intent or undo `of` has ended.
    #[must_use]
    pub fn outcome(of: u64, fix: Option<String>, subject: Option<Object>, ending: Ending, text: impl Into<String>) -> Self {
        Self { of: Some(of), fix, subject, ending: Some(ending), ..Self::new(Kind::Outcome, text) }
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of the line, from 1; a torn line has none.
    pub seq: u64,
    /// SHA-256 of the bytes of the previous line, without its newline; zeros for the first.
    pub prev: String,
    /// Wall-clock time.
    pub at: Timestamp,
    /// The run that wrote it.
    pub run: String,
    /// The user that ran it.
    pub by: Author,
    /// The state database held the head of the journal when this was written: one without a head was replaced since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub head_kept: bool,
    /// Id of the key and signature, when entries are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
    /// Content.
    #[serde(flatten)]
    pub body: Body,
}
