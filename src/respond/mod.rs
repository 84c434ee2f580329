//! Answers to alerts: matching runbooks, their findings, and the message for the operator.

mod answer;
mod payload;
mod route;
mod text;

pub use answer::{AlertReport, Alerted, Applied, Response, SimilarFinding, respond};
pub use payload::{Alert, Payload, PayloadError, parse};
pub use route::{Route, route};
pub use text::{markdown, message, table};
