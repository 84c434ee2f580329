//! The message in the formats of the destinations.

use opsctl_core::model::Report;

use crate::render::{Format, Style};
use crate::report::{Line, chat, footer, headline};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub subject: String,
    /// Complete text.
    pub text: String,
    /// Complete text as HTML.
    pub html: Option<String>,
    /// A few lines for a chat.
    pub chat: Vec<Line>,
    /// JSON, if it differs from the report.
    pub json: Option<serde_json::Value>,
    /// Content of files by format, if it differs from the report.
    pub files: Vec<(Format, String)>,
}

/// Appends the head of the journal, so that every message contains a copy that has left the host.
#[must_use]
pub fn with_footer(text: String, report: &Report) -> String {
    match footer(report) {
        Some(line) => format!("{text}{line}\n"),
        None => text,
    }
}

impl Message {
    /// The message for a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let style = Style { width: 100, ..Style::plain() };
        Self {
            subject: format!("[opsctl] {}", headline(report)),
            text: with_footer(Format::Table.render(report, &style), report),
            html: Some(Format::Html.render(report, &style)),
            chat: chat(report),
            json: None,
            files: Vec::new(),
        }
    }
}
