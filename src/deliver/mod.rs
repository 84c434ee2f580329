//! Delivers reports by mail, webhook and file. Undelivered messages are stored in the spool and retried by the next report.

mod mail;
mod message;
mod send;
mod spool;
mod webhook;

use std::cell::OnceCell;
use std::path::Path;
use std::time::Duration;

use opsctl_core::model::{Report, printable};
use opsctl_core::probe::environment;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Delivery, Destination, Occasion, fill};
use crate::output::{self, Access};
use crate::render::{Format, Style};
use crate::report::of_owner;

pub use message::{Message, with_footer};
pub use send::Web;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use spool::is_parcel;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum QueuedMessage {
    /// A mail.
    Mail { subject: String, text: String, html: Option<String> },
    /// The body of a request to a webhook.
    Webhook { body: serde_json::Value },
}

/// Result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeliveryResult {
    /// Delivered.
    Done,
    /// Temporary error: network, server, rate limit.
    Later(String),
    /// Permanent error: invalid address or message.
    Never(String),
}

/// Delays before the second and the third attempt, if the first failed immediately; the next report retries again.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Sends messages to the configured destinations.
pub struct Mailer<'a> {
    config: &'a Config,
    state_dir: &'a Path,
    web: OnceCell<Web>,
}

impl<'a> Mailer<'a> {
    /// With the destinations of the configuration.
    #[must_use]
    pub fn new(config: &'a Config, state_dir: &'a Path) -> Self {
        Self { config, state_dir, web: OnceCell::new() }
    }

    /// Sends the `message` for `report` to all destinations that subscribe to one of these occasions. Returns the errors, one line
    /// each. Blocks; every attempt has a time limit.
    #[must_use]
    pub fn deliver(&self, report: &Report, message: &dyn Fn(&Report) -> Message, occasions: &[Occasion]) -> Vec<String> {
        let mut notes = Vec::new();
        let stuck = self.flush(&mut notes);
        for delivery in self.config.deliveries.iter().filter(|d| d.when.iter().any(|w| occasions.contains(w))) {
            let filtered = delivery.owner.as_ref().map(|owner| of_owner(report, owner));
            // no open or resolved finding of this owner: nothing to send
            let empty = |r: &Report| r.findings.is_empty() && r.course.as_ref().is_none_or(|c| c.recovered.is_empty());
            if filtered.as_ref().is_some_and(|r| empty(r) && !delivery.when.contains(&Occasion::Always)) {
                continue;
            }
            let report = filtered.as_ref().unwrap_or(report);
            let message = message(report);
            if let Destination::File { path, format } = &delivery.destination {
                let own = message.files.iter().find(|(f, _)| f == format).map(|(_, text)| text.clone());
                let text = own.unwrap_or_else(|| match format {
                    Format::Table => with_footer(format.render(report, &Style::plain()), report),
                    format => format.render(report, &Style::plain()),
                });
                let access = Access::of_report(*format, path, self.config.file_mode);
                if let Err(e) = output::write(path, text.into_bytes(), access) {
                    notes.push(format!("writing the report to {}: {e}", path.display()));
                }
                continue;
            }
            let Some(parcel) = parcel(delivery, report, &message) else { continue };
            let key = spool::key(delivery);
            if stuck.contains(&key) {
                self.keep(&key, &parcel, "an earlier report is still queued", delivery, &mut notes);
                continue;
            }
            match self.try_to_send(delivery, &parcel) {
                DeliveryResult::Done => {}
                DeliveryResult::Later(why) => self.keep(&key, &parcel, &why, delivery, &mut notes),
                DeliveryResult::Never(why) => notes.push(format!("{} rejected the report: {why}", delivery.name())),
            }
        }
        notes
    }

    /// Requests the heartbeat URL: the monitoring service behind it alerts if reports stop.
    #[must_use]
    pub fn heartbeat(&self) -> Option<String> {
        let url = self.config.heartbeat.as_ref()?;
        let filled = match fill(url, &environment) {
            Ok(filled) => filled,
            Err(why) => return Some(format!("the heartbeat of [report]: {why}")),
        };
        match self.web().get(&filled) {
            DeliveryResult::Done => None,
            DeliveryResult::Later(why) | DeliveryResult::Never(why) => Some(format!("the heartbeat of [report] failed: {why}")),
        }
    }

    /// Sends the spooled messages, oldest first; returns the destinations that still fail.
    fn flush(&self, notes: &mut Vec<String>) -> Vec<String> {
        let mut stuck: Vec<String> = Vec::new();
        for waiting in spool::waiting(self.state_dir, notes) {
            let Some(delivery) = self.config.deliveries.iter().find(|d| spool::key(d) == waiting.key) else {
                notes.push("a queued report was dropped: its destination is no longer configured".to_owned());
                waiting.remove();
                continue;
            };
            if stuck.contains(&waiting.key) {
                continue;
            }
            match self.send(delivery, &waiting.parcel) {
                DeliveryResult::Done => waiting.remove(),
                DeliveryResult::Never(why) => {
                    notes.push(format!("{} rejected a queued report: {why}", delivery.name()));
                    waiting.remove();
                }
                DeliveryResult::Later(_) => stuck.push(waiting.key),
            }
        }
        stuck
    }

    /// The HTTP client, created on first use: reading the trusted CAs takes time.
    fn web(&self) -> &Web {
        self.web.get_or_init(|| Web::new(&self.config.runbooks.tls.ca_files))
    }

    fn keep(&self, key: &str, parcel: &QueuedMessage, why: &str, delivery: &Delivery, notes: &mut Vec<String>) {
        let why = printable(why);
        notes.push(match spool::put(self.state_dir, key, parcel) {
            Ok(()) => format!("{} is unreachable ({why}); the report is queued for the next run", delivery.name()),
            Err(e) => format!("{} is unreachable ({why}), and the report cannot be queued: {e}", delivery.name()),
        });
    }

    fn try_to_send(&self, delivery: &Delivery, parcel: &QueuedMessage) -> DeliveryResult {
        let mut sent = self.send(delivery, parcel);
        for pause in BACKOFF {
            if !matches!(sent, DeliveryResult::Later(_)) {
                break;
            }
            std::thread::sleep(pause);
            sent = self.send(delivery, parcel);
        }
        sent
    }

    fn send(&self, delivery: &Delivery, parcel: &QueuedMessage) -> DeliveryResult {
        match (&delivery.destination, parcel) {
            (Destination::Mail { .. }, QueuedMessage::Mail { subject, text, html }) => {
                mail::send(&delivery.destination, subject, text, html.as_deref(), &self.config.runbooks.tls.ca_files)
            }
            (Destination::Webhook { url, .. }, QueuedMessage::Webhook { body }) => match fill(url, &environment) {
                Ok(url) => self.web().post(&url, body),
                Err(why) => DeliveryResult::Later(why),
            },
            _ => DeliveryResult::Never("it was queued for another kind of destination".to_owned()),
        }
    }
}

/// The message for a destination; `None` for a file.
fn parcel(delivery: &Delivery, report: &Report, message: &Message) -> Option<QueuedMessage> {
    match &delivery.destination {
        Destination::Mail { .. } => {
            Some(QueuedMessage::Mail { subject: message.subject.clone(), text: message.text.clone(), html: message.html.clone() })
        }
        Destination::Webhook { shape, .. } => Some(QueuedMessage::Webhook { body: webhook::body(*shape, report, message) }),
        Destination::File { .. } => None,
    }
}
