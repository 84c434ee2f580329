//! One line of the journal.

use jiff::Timestamp;
use opsctl_core::model::{Plan, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a line records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A fix is about to be applied.
    Intent,
    /// How an intent or an undo ended.
    Outcome,
    /// A fix is about to be taken back.
    Undo,
    /// Anything else worth keeping, for example a waiver.
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

/// How an intent or an undo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Applied, and the finding is gone.
    Verified,
    /// Applied, and the finding is still there (or could not be looked for).
    Unverified,
    /// Applied, not verified, and taken back.
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

/// Who ran opsctl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Real user id.
    pub uid: u32,
    /// `$SUDO_USER`: the person behind a root shell, as far as sudo knows.
    pub sudo_user: Option<String>,
}

impl Who {
    /// The user of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { uid: rustix::process::getuid().as_raw(), sudo_user: std::env::var("SUDO_USER").ok().filter(|u| !u.is_empty()) }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.sudo_user, self.uid) {
            (Some(name), _) => f.write_str(name),
            (None, 0) => f.write_str("root"),
            (None, uid) => write!(f, "user {uid}"),
        }
    }
}

/// What is to be written; number, time and chain are added by the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// What it records.
    pub kind: Kind,
    /// The entry this is about: an outcome's intent or undo, an undo's intent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Fix id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// What it acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// One line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Everything that was going to be done, and what takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

impl Body {
    /// A line of this kind about nothing yet.
    #[must_use]
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, of: None, fix: None, subject: None, ending: None, text: text.into(), plan: None }
    }

    /// The line written before `plan` is applied; `because` is the finding it is for.
    #[must_use]
    pub fn intent(plan: &Plan, because: &str) -> Self {
        Self {
            fix: Some(plan.fix.clone()),
            subject: Some(plan.subject.clone()),
            plan: Some(plan.clone()),
            ..Self::new(Kind::Intent, because)
        }
    }

    /// The line written before `intent` is taken back.
    #[must_use]
    pub fn undo(intent: &Entry) -> Self {
        Self {
            of: Some(intent.seq),
            fix: intent.body.fix.clone(),
            subject: intent.body.subject.clone(),
            ..Self::new(Kind::Undo, "")
        }
    }

    /// The line written when the intent or undo `of` has ended.
    #[must_use]
    pub fn outcome(of: u64, fix: Option<String>, subject: Option<Subject>, ending: Ending, text: impl Into<String>) -> Self {
        Self { of: Some(of), fix, subject, ending: Some(ending), ..Self::new(Kind::Outcome, text) }
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of the line, from 1; a torn line has none.
    pub seq: u64,
    /// SHA-256 of the bytes of the line before, without its line end; zeros for the first.
    pub prev: String,
    /// Wall-clock time.
    pub at: Timestamp,
    /// The run that wrote it.
    pub run: String,
    /// Who ran it.
    pub by: Who,
    /// The state database held the head of the journal when this was written: one without a head was replaced since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub head_kept: bool,
    /// Id of the key and signature, when entries are signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}
