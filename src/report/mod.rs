//! Comparison of a report with earlier runs: new, persisting and recovered findings, and trends.

mod chat;
mod course;
mod journal;
mod owner;
mod trend;

pub use chat::{Line, chat, footer, headline};
pub use course::{Compared, Period, compare};
pub use journal::add_journal;
pub use owner::of_owner;

#[cfg(test)]
pub(crate) use course::tests as fixtures;
