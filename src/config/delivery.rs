//! `[[delivery]]`: destinations of reports and responses.

use std::path::PathBuf;
use std::str::FromStr;

use opsctl_core::model::address::{join, without_brackets};
use url::Url;

use super::names::did_you_mean;
use super::problem::ValidationError;
use super::raw;
use super::server::fill;
use crate::output::Format;

/// Occasions of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A new or resolved finding.
    Change,
    /// Every report.
    Always,
    /// The summary of a day.
    Day,
    /// The summary of a week.
    Week,
    /// The summary of a month.
    Month,
    /// The response to an alert.
    Alert,
}

const WHEN: &[(&str, Occasion)] = &[
    ("alert", Occasion::Alert),
    ("always", Occasion::Always),
    ("change", Occasion::Change),
    ("day", Occasion::Day),
    ("month", Occasion::Month),
    ("week", Occasion::Week),
];

/// Format of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Slack's incoming webhooks.
    Slack,
    /// Discord's webhooks.
    Discord,
    /// Microsoft Teams' workflows: a message with an adaptive card.
    Teams,
    /// Mattermost's incoming webhooks.
    Mattermost,
    /// The report itself.
    Json,
}

const SHAPES: &[(&str, WebhookFormat)] = &[
    ("discord", WebhookFormat::Discord),
    ("json", WebhookFormat::Json),
    ("mattermost", WebhookFormat::Mattermost),
    ("slack", WebhookFormat::Slack),
    ("teams", WebhookFormat::Teams),
];

/// Destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A mail server.
    Mail {
        /// Implicit TLS.
        tls: bool,
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Recipients.
        to: Vec<String>,
        /// Sender; opsctl at this host by default.
        from: Option<String>,
        /// Login.
        user: Option<String>,
        /// File of its password.
        password_file: Option<PathBuf>,
    },
    /// A webhook; its URL may contain variables, and is a secret itself.
    Webhook {
        /// URL.
        url: String,
        /// Format of the body.
        shape: WebhookFormat,
    },
    /// A file.
    File {
        /// Path.
        path: PathBuf,
        /// Format of the file.
        format: Format,
    },
}

/// A validated entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Destination.
    pub destination: Destination,
    /// Occasions.
    pub when: Vec<Occasion>,
    /// Only findings of this owner.
    pub owner: Option<String>,
}

impl Delivery {
    /// Its name in messages, without secrets.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.destination {
            Destination::Mail { host, port, .. } => format!("mail over {}", join(host, *port)),
            Destination::Webhook { url, .. } => {
                let host = Url::parse(url).ok().and_then(|u| u.host_str().map(str::to_owned));
                format!("the webhook at {}", host.unwrap_or_else(|| "an address from the environment".to_owned()))
            }
            Destination::File { path, .. } => path.display().to_string(),
        }
    }
}

/// Validates a URL with variables.
pub(super) fn web_address(text: &str) -> Result<(), String> {
    if text.starts_with("${") {
        return fill(text, &|_| Some(String::new())).map(|_| ());
    }
    let shape = fill(text, &|_| Some("1".to_owned()))?;
    match Url::parse(&shape) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => Err("not an address such as `https://hooks.example.org/…`".to_owned()),
    }
}

fn named<T: Copy>(known: &[(&str, T)], word: &toml::Spanned<String>, key: &str) -> Result<T, ValidationError> {
    known.iter().find(|(name, _)| name == word.get_ref()).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let hint = did_you_mean(word.get_ref(), names.iter().copied());
        let hint = if hint.is_empty() { format!(", expected one of {}", names.join(", ")) } else { hint };
        ValidationError::new(word.span(), format!("`{key}` in [[delivery]]: `{}` is unknown{hint}", word.get_ref()))
    })
}

/// Validates one entry.
pub(super) fn validate(raw: &raw::Delivery) -> Result<Delivery, ValidationError> {
    let wrong = |why: String| ValidationError::new(raw.to.span(), format!("`to` in [[delivery]]: {why}"));
    let to = raw.to.get_ref();
    let destination = if let Some(path) = to.strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') {
            return Err(wrong("not an absolute path such as `file:/var/log/opsctl/report.txt`".to_owned()));
        }
        Destination::File { path: path.into(), format: format_of(raw, path)? }
    } else if to.starts_with("smtp://") || to.starts_with("smtps://") {
        mail(raw)?
    } else {
        web_address(to).map_err(|why| wrong(format!("{why}; mail goes to `smtp://host:port`, a file is `file:/path`")))?;
        let shape = match &raw.shape {
            Some(shape) => named(SHAPES, shape, "shape")?,
            None => shape_of(to).ok_or_else(|| wrong("the service of this webhook is unknown; set `shape`".to_owned()))?,
        };
        Destination::Webhook { url: to.clone(), shape }
    };
    let when = raw.when.iter().map(|w| named(WHEN, w, "when")).collect::<Result<_, _>>()?;
    Ok(Delivery { destination, when, owner: raw.owner.clone() })
}

/// The services with webhooks that are recognized by their URL.
fn shape_of(url: &str) -> Option<WebhookFormat> {
    let host = Url::parse(url).ok()?.host_str()?.to_owned();
    match host.as_str() {
        "hooks.slack.com" => Some(WebhookFormat::Slack),
        "discord.com" | "discordapp.com" => Some(WebhookFormat::Discord),
        h if h.ends_with("webhook.office.com") || h.ends_with("logic.azure.com") || h.ends_with("powerplatform.com") => {
            Some(WebhookFormat::Teams)
        }
        _ => None,
    }
}

fn format_of(raw: &raw::Delivery, path: &str) -> Result<Format, ValidationError> {
    match &raw.format {
        Some(format) => <Format as clap::ValueEnum>::from_str(format.get_ref(), true)
            .map_err(|why| ValidationError::new(format.span(), format!("`format` in [[delivery]]: {why}"))),
        None => Ok(match path.rsplit_once('.').map(|(_, end)| end) {
            Some("html" | "htm") => Format::Html,
            Some("json") => Format::Json,
            Some("prom") => Format::Prometheus,
            Some("tap") => Format::Tap,
            Some("xml") => Format::Junit,
            Some("md") => Format::Markdown,
            Some("jsonl") => Format::Jsonl,
            _ => Format::Table,
        }),
    }
}

fn mail(raw: &raw::Delivery) -> Result<Destination, ValidationError> {
    let wrong = |why: &str| ValidationError::new(raw.to.span(), format!("`to` in [[delivery]]: {why}"));
    let url = Url::parse(raw.to.get_ref()).map_err(|_| wrong("not an address such as `smtp://mail.example.org:25`"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("the login goes to `user` and `password_file`"));
    }
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| wrong("it names no host"))?;
    if raw.mail.is_empty() {
        return Err(wrong("`mail` has no recipients"));
    }
    for address in raw.mail.iter().chain(&raw.from) {
        if lettre::Address::from_str(address.get_ref()).is_err() {
            let why = format!("[[delivery]]: `{}` is not a mail address such as `ops@example.org`", address.get_ref());
            return Err(ValidationError::new(address.span(), why));
        }
    }
    let tls = url.scheme() == "smtps";
    Ok(Destination::Mail {
        tls,
        host: without_brackets(host).to_owned(),
        // 465: RFC 8314; 25: the usual port of a local mail server
        port: url.port().unwrap_or(if tls { 465 } else { 25 }),
        to: raw.mail.iter().map(|m| m.get_ref().clone()).collect(),
        from: raw.from.as_ref().map(|f| f.get_ref().clone()),
        user: raw.user.clone(),
        password_file: raw.password_file.as_ref().map(PathBuf::from),
    })
}
