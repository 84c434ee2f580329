//! What is told, in the forms that different places need.

use opsctl_core::model::Report;

use crate::render::{Format, Style};
use crate::report::{Line, chat, footer, headline};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub subject: String,
    /// All of it, for a person.
    pub text: String,
    /// The same as a page.
    pub html: Option<String>,
    /// A few lines for a chat.
    pub chat: Vec<Line>,
    /// For programs, where it is more than the report.
    pub json: Option<serde_json::Value>,
    /// For a file, where it is more than the report in that format.
    pub files: Vec<(Format, String)>,
}

/// A text with the head of the journal below it, so that whatever leaves the host takes a copy along.
#[must_use]
pub fn with_footer(text: String, report: &Report) -> String {
    match footer(report) {
        Some(line) => format!("{text}{line}\n"),
        None => text,
    }
}

impl Message {
    /// What a report says.
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
