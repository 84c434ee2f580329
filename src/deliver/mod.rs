//! Brings a report to whoever wants it: mail, webhooks, files. What cannot be delivered now waits in the spool, and is tried again by
//! the next report.

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

use crate::config::{Config, Delivery, Destination, When, fill};
use crate::output;
use crate::render::{self, Format, Style};
use crate::report::of_owner;

pub use message::{Message, with_footer};
pub use send::Web;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) use spool::is_parcel;

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum Parcel {
    /// A mail.
    Mail { subject: String, text: String, html: Option<String> },
    /// The body of a request to a webhook.
    Webhook { body: serde_json::Value },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sent {
    /// It is there.
    Done,
    /// Not now: the network, the server, too often.
    Later(String),
    /// Never: the address is wrong, or what was sent.
    Never(String),
}

/// Pauses before the second and the third attempt, where the first failed at once; more is left to the next report.
const BACKOFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Who delivers.
pub struct Post<'a> {
    config: &'a Config,
    state_dir: &'a Path,
    web: OnceCell<Web>,
}

impl<'a> Post<'a> {
    /// With what the configuration says.
    #[must_use]
    pub fn new(config: &'a Config, state_dir: &'a Path) -> Self {
        Self { config, state_dir, web: OnceCell::new() }
    }

    /// Brings `message` about `report` to everybody who wants to hear on one of these occasions. The result says what went wrong, one
    /// line each. Blocks; every attempt has its limit.
    #[must_use]
    pub fn deliver(&self, report: &Report, message: &dyn Fn(&Report) -> Message, occasions: &[When]) -> Vec<String> {
        let mut notes = Vec::new();
        let stuck = self.flush(&mut notes);
        for delivery in self.config.deliveries.iter().filter(|d| d.when.iter().any(|w| occasions.contains(w))) {
            let mine = delivery.owner.as_ref().map(|owner| of_owner(report, owner));
            // nothing of theirs is wrong or over: no news for them
            let empty = |r: &Report| r.findings.is_empty() && r.course.as_ref().is_none_or(|c| c.recovered.is_empty());
            if mine.as_ref().is_some_and(|r| empty(r) && !delivery.when.contains(&When::Always)) {
                continue;
            }
            let report = mine.as_ref().unwrap_or(report);
            let message = message(report);
            if let Destination::File { path, format } = &delivery.place {
                let own = message.files.iter().find(|(f, _)| f == format).map(|(_, text)| text.clone());
                let text = own.unwrap_or_else(|| match format {
                    Format::Table => with_footer(format.render(report, &Style::plain()), report),
                    format => format.render(report, &Style::plain()),
                });
                let access = render::access(*format, path, self.config.file_mode);
                if let Err(e) = output::write(path, text.into_bytes(), access) {
                    notes.push(format!("writing the report to {}: {e}", path.display()));
                }
                continue;
            }
            let Some(parcel) = parcel(delivery, report, &message) else { continue };
            let key = spool::key(delivery);
            if stuck.contains(&key) {
                self.keep(&key, &parcel, "what was sent before still waits", delivery, &mut notes);
                continue;
            }
            match self.try_to_send(delivery, &parcel) {
                Sent::Done => {}
                Sent::Later(why) => self.keep(&key, &parcel, &why, delivery, &mut notes),
                Sent::Never(why) => notes.push(format!("{} did not take the report: {why}", delivery.name())),
            }
        }
        notes
    }

    /// Asks the heartbeat address, so that somebody notices when no report is made any more.
    #[must_use]
    pub fn heartbeat(&self) -> Option<String> {
        let url = self.config.heartbeat.as_ref()?;
        let filled = match fill(url, &environment) {
            Ok(filled) => filled,
            Err(why) => return Some(format!("the heartbeat of [report]: {why}")),
        };
        match self.web().get(&filled) {
            Sent::Done => None,
            Sent::Later(why) | Sent::Never(why) => Some(format!("the heartbeat of [report] was not heard: {why}")),
        }
    }

    /// Sends what waits, oldest first; the result names the deliveries that are still stuck.
    fn flush(&self, notes: &mut Vec<String>) -> Vec<String> {
        let mut stuck: Vec<String> = Vec::new();
        for waiting in spool::waiting(self.state_dir, notes) {
            let Some(delivery) = self.config.deliveries.iter().find(|d| spool::key(d) == waiting.key) else {
                notes.push("what waited for a delivery that the configuration no longer has was dropped".to_owned());
                waiting.remove();
                continue;
            };
            if stuck.contains(&waiting.key) {
                continue;
            }
            match self.send(delivery, &waiting.parcel) {
                Sent::Done => waiting.remove(),
                Sent::Never(why) => {
                    notes.push(format!("{} did not take a report that waited: {why}", delivery.name()));
                    waiting.remove();
                }
                Sent::Later(_) => stuck.push(waiting.key),
            }
        }
        stuck
    }

    /// Made when it is needed: reading the trusted authorities takes its time.
    fn web(&self) -> &Web {
        self.web.get_or_init(|| Web::new(&self.config.runbooks.tls.ca_files))
    }

    fn keep(&self, key: &str, parcel: &Parcel, why: &str, delivery: &Delivery, notes: &mut Vec<String>) {
        let why = printable(why);
        notes.push(match spool::put(self.state_dir, key, parcel) {
            Ok(()) => format!("{} cannot be reached now ({why}); the report waits for the next one", delivery.name()),
            Err(e) => format!("{} cannot be reached now ({why}), and the report cannot be kept: {e}", delivery.name()),
        });
    }

    fn try_to_send(&self, delivery: &Delivery, parcel: &Parcel) -> Sent {
        let mut sent = self.send(delivery, parcel);
        for pause in BACKOFF {
            if !matches!(sent, Sent::Later(_)) {
                break;
            }
            std::thread::sleep(pause);
            sent = self.send(delivery, parcel);
        }
        sent
    }

    fn send(&self, delivery: &Delivery, parcel: &Parcel) -> Sent {
        match (&delivery.place, parcel) {
            (Destination::Mail { .. }, Parcel::Mail { subject, text, html }) => {
                mail::send(&delivery.place, subject, text, html.as_deref(), &self.config.runbooks.tls.ca_files)
            }
            (Destination::Webhook { url, .. }, Parcel::Webhook { body }) => match fill(url, &environment) {
                Ok(url) => self.web().post(&url, body),
                Err(why) => Sent::Later(why),
            },
            _ => Sent::Never("it waited for another kind of delivery".to_owned()),
        }
    }
}

/// What is sent there; none to a file.
fn parcel(delivery: &Delivery, report: &Report, message: &Message) -> Option<Parcel> {
    match &delivery.place {
        Destination::Mail { .. } => {
            Some(Parcel::Mail { subject: message.subject.clone(), text: message.text.clone(), html: message.html.clone() })
        }
        Destination::Webhook { shape, .. } => Some(Parcel::Webhook { body: webhook::body(*shape, report, message) }),
        Destination::File { .. } => None,
    }
}
