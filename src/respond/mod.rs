//! Answers to alerts: matching runbooks, their findings, and the message for the operator.

mod answer;
mod payload;
mod route;
mod text;

pub use answer::{Alerted, Answer, Applied, Likeness, Response, respond};
pub use payload::{Alert, PayloadError, parse};
pub use route::{Route, route};
pub use text::{markdown, message, table};
