//! One file per format; each is a pure function from the report to text.

mod diagnosis;
mod html;
mod json;
mod jsonl;
mod junit;
mod markdown;
mod markup;
mod nagios;
mod plot;
mod pretty;
mod prometheus;
mod style;
mod table;
mod tap;
mod unanswered;
mod view;

#[cfg(test)]
pub(crate) mod hostile;
#[cfg(test)]
mod sample;

use anyhow::Context as _;
use opsctl_core::model::Report;

pub use crate::output::Format;
pub use nagios::nagios_error;
pub use pretty::pretty;
pub use style::{ColorChoice, OutputEnvironment, Style};
pub use view::scope;

impl Format {
    /// The report in this format.
    #[must_use]
    pub fn render(self, report: &Report, style: &Style) -> String {
        match self {
            Self::Table => table::render(report, style),
            Self::Json => json::render(report),
            Self::Jsonl => jsonl::render(report),
            Self::Markdown => markdown::render(report),
            Self::Html => html::render(report),
            Self::Junit => junit::render(report),
            Self::Tap => tap::render(report),
            Self::Nagios => nagios::render(report),
            Self::Prometheus => prometheus::render(report),
        }
    }
}

/// Any value as one JSON document, safe to show on a terminal.
pub fn json_document(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(value).context("writing JSON")?;
    text.push('\n');
    Ok(json::escaped(text))
}

/// Foreign text in a cell of a Markdown table, as code.
#[must_use]
pub fn markdown_cell(text: &str) -> String {
    markdown::cell(text)
}

/// Foreign text in Markdown, as code.
#[must_use]
pub fn markdown_code(text: &str) -> String {
    markdown::code(text)
}
