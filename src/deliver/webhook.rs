//! Request bodies of the webhook services.

use opsctl_core::model::Report;
use serde_json::{Value, json};

use super::Message;
use crate::config::WebhookFormat;
use crate::report::Line;

/// Text limits: Discord 2000 characters (discord.com/developers/docs/resources/webhook), Mattermost 16383, Slack 40000 of which
/// 4000 are displayed in full, Teams 28 kB for the whole message.
const DISCORD: usize = 1900;
const MATTERMOST: usize = 16_000;
const SLACK: usize = 3900;
const TEAMS: usize = 20_000;

/// Discord's message flag `SUPPRESS_EMBEDS`: no previews of links in the text.
const SUPPRESS_EMBEDS: u32 = 1 << 2;

/// The body of a request.
pub(super) fn body(shape: WebhookFormat, report: &Report, message: &Message) -> Value {
    let markdown = |max_chars| text(&message.chat, "**", &markdown_escaped, &str::to_owned, max_chars);
    match shape {
        // nothing of the text becomes a mention, a link or a preview (docs.slack.dev/messaging/formatting-message-text)
        WebhookFormat::Slack => json!({
            "text": text(&message.chat, "*", &|text| slack_entities(&inert(text).replace('`', GRAVE)), &slack_entities, SLACK),
            "parse": "none", "link_names": false, "unfurl_links": false, "unfurl_media": false,
        }),
        // names of containers cause no mentions
        WebhookFormat::Discord => {
            json!({ "content": markdown(DISCORD), "allowed_mentions": { "parse": [] }, "flags": SUPPRESS_EMBEDS })
        }
        WebhookFormat::Mattermost => json!({ "text": markdown(MATTERMOST) }),
        WebhookFormat::Teams => json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": card(&message.chat, TEAMS),
                },
            }],
        }),
        WebhookFormat::Json => message.json.clone().unwrap_or_else(|| serde_json::to_value(report).unwrap_or_default()),
    }
}

/// The footer, if the last line is one, and the lines before it.
fn footer(lines: &[Line]) -> (&[Line], Option<&str>) {
    match lines.split_last() {
        Some((Line::Footer(text), before)) => (before, Some(text)),
        _ => (lines, None),
    }
}

/// Lines of text with the bold markup of the service, truncated at the end of a line. In code spans only `entities` are escaped: services
/// detect no mentions and links there, and the command must stay copyable.
fn text(
    lines: &[Line],
    bold: &str,
    escaped: &dyn Fn(&str) -> String,
    entities: &dyn Fn(&str) -> String,
    max_chars: usize,
) -> String {
    let (lines, footer) = footer(lines);
    let footer = footer.map(escaped).unwrap_or_default();
    let max_chars = max_chars.saturating_sub(footer.chars().count() + 2);
    let mut out = String::new();
    for line in lines {
        let shown = match line {
            Line::Title(text) => format!("{bold}{}{bold}", escaped(text)),
            Line::Text(text) | Line::Footer(text) => escaped(text),
            Line::Command(text) => format!("`{}`", entities(&text.replace('`', GRAVE))),
        };
        if out.chars().count() + shown.chars().count() + 2 > max_chars {
            out.push_str(if footer.is_empty() { "…" } else { "…\n" });
            break;
        }
        out.push_str(&shown);
        out.push('\n');
    }
    out + &footer
}

fn card(lines: &[Line], max_bytes: usize) -> Vec<Value> {
    let (lines, footer) = footer(lines);
    let small = |text: &str| json!({ "type": "TextBlock", "text": markdown_escaped(text), "wrap": true, "spacing": "Small" });
    let footer = footer.map(small);
    let mut left = max_bytes.saturating_sub(footer.as_ref().map_or(0, |block| block.to_string().len()));
    let mut blocks = Vec::new();
    for line in lines {
        let block = match line {
            Line::Title(text) => {
                json!({ "type": "TextBlock", "text": markdown_escaped(text), "weight": "Bolder", "size": "Medium", "wrap": true })
            }
            Line::Text(text) | Line::Footer(text) => small(text),
            // a text run has no Markdown, so that the command stays copyable
            Line::Command(text) => json!({
                "type": "RichTextBlock",
                "inlines": [{ "type": "TextRun", "text": text.replace('`', GRAVE), "fontType": "Monospace" }],
            }),
        };
        let size = block.to_string().len();
        if size > left {
            break;
        }
        left -= size;
        blocks.push(block);
    }
    blocks.extend(footer);
    blocks
}

/// Replaces a backtick, which would end a code span. It has no meaning in a shell: an apostrophe would end the quotes around a
/// name, and the rest of the name would be executed as a command.
const GRAVE: &str = "\u{2CB}";

/// Breaks mentions, URLs and links; it has no width and is no space.
const WORD_JOINER: char = '\u{2060}';

/// Text in which services detect no mention, hashtag or URL; these need no markup.
fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let www = rest.get(..4).is_some_and(|w| w.eq_ignore_ascii_case("www."));
        let length = if www { 3 } else { c.len_utf8() };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
        if www || matches!(c, '@' | '#') || (c == ':' && rest.starts_with("//")) || (c == ']' && rest.starts_with('(')) {
            out.push(WORD_JOINER);
        }
    }
    out
}

/// Slack interprets `<!channel>` and links in angle brackets (docs.slack.dev/messaging/formatting-message-text). Other services accept the
/// same messages and interpret Markdown in them.
fn slack_entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text with escaped markup.
fn markdown_escaped(text: &str) -> String {
    inert(text).chars().fold(String::new(), |mut out, c| {
        if matches!(c, '\\' | '*' | '_' | '`' | '~' | '|' | '[' | ']' | '<' | '>' | '&' | '$') {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{JournalHead, Severity};
    use pulldown_cmark::Options;

    use super::*;
    use crate::render::hostile;
    use crate::report::fixtures::report;

    fn of(shape: WebhookFormat, report: &Report) -> Value {
        body(shape, report, &Message::of(report))
    }

    #[test]
    fn message_per_service() {
        let r = report(&[("web", Severity::Crit)]);
        assert!(of(WebhookFormat::Slack, &r)["text"].as_str().is_some_and(|t| t.starts_with("*web-1: crit: web is down*\n")));
        assert!(
            of(WebhookFormat::Mattermost, &r)["text"].as_str().is_some_and(|t| t.starts_with("**web-1: crit: web is down**\n"))
        );
        assert_eq!(of(WebhookFormat::Discord, &r)["allowed_mentions"]["parse"], json!([]));
        assert_eq!(of(WebhookFormat::Teams, &r)["attachments"][0]["content"]["body"][0]["text"], "web-1: crit: web is down");
        assert_eq!(of(WebhookFormat::Json, &r)["schema_version"], 1);
    }

    #[test]
    fn name_causes_no_mention() {
        let r = report(&[("<!channel> @everyone [x](http://evil)", Severity::Crit)]);
        let slack = of(WebhookFormat::Slack, &r).to_string();
        assert!(!slack.contains("<!channel>"), "{slack}");
        for shape in [WebhookFormat::Discord, WebhookFormat::Mattermost, WebhookFormat::Teams] {
            let text = of(shape, &r).to_string();
            assert!(!text.contains("@everyone") && !text.contains("[x](http"), "{text}");
        }
    }

    #[test]
    fn hostile_text_is_inert_in_every_service() {
        for text in hostile::CORPUS {
            let report = hostile::report(text);
            for shape in [WebhookFormat::Discord, WebhookFormat::Mattermost, WebhookFormat::Slack] {
                let body = of(shape, &report);
                let shown = body["text"].as_str().or_else(|| body["content"].as_str()).unwrap_or_default();
                // Mattermost accepts Slack messages, and interprets Markdown in them
                // but no formulas by default
                let math = if shape == WebhookFormat::Slack { Options::ENABLE_MATH } else { Options::empty() };
                let options = hostile::GITHUB.difference(math);
                hostile::inert(shown, text, options);
                assert!(shape != WebhookFormat::Slack || !shown.contains(['<', '>']), "{text:?}: {shown}");
            }
            for block in of(WebhookFormat::Teams, &report)["attachments"][0]["content"]["body"].as_array().into_iter().flatten() {
                if let Some(shown) = block["text"].as_str() {
                    hostile::inert(shown, text, hostile::GITHUB);
                }
            }
        }
    }

    #[test]
    fn command_stays_one_command_for_a_shell() {
        // text after a backtick in a name must stay within the quotes of the name
        let name = "x`;touch /tmp/evil;`y";
        let report = hostile::report(name);
        for shape in [WebhookFormat::Discord, WebhookFormat::Mattermost, WebhookFormat::Slack, WebhookFormat::Teams] {
            let body = of(shape, &report).to_string();
            assert!(body.contains("'x\u{2CB};touch /tmp/evil;\u{2CB}y'"), "{body}");
        }
    }

    #[test]
    fn messages_are_within_the_limits_of_the_services() {
        let long = "x".repeat(3000);
        let r = report(&[(&long, Severity::Crit), ("web", Severity::Crit)]);
        assert!(of(WebhookFormat::Discord, &r)["content"].as_str().is_some_and(|t| t.chars().count() <= 2000));
        assert!(of(WebhookFormat::Teams, &r).to_string().len() < 28_000);
    }

    #[test]
    fn head_of_the_journal_is_the_last_line_also_of_a_cut_message() {
        let long = "x".repeat(1500);
        for names in [&["web"][..], &[&long, "web", &long]] {
            let mut r = report(&names.iter().map(|n| (*n, Severity::Crit)).collect::<Vec<_>>());
            let head = "ab".repeat(32);
            let file = "/var/lib/opsctl/journal.jsonl".to_owned();
            r.journal = Some(JournalHead { file, entries: 12, head: head.clone(), signature: None, problem: None });
            let line = format!("journal: 12 entries, head 12:{head}");
            for (shape, field) in
                [(WebhookFormat::Slack, "text"), (WebhookFormat::Discord, "content"), (WebhookFormat::Mattermost, "text")]
            {
                let body = of(shape, &r);
                let text = body[field].as_str().unwrap_or_default();
                assert_eq!(text.lines().last(), Some(line.as_str()), "{text}");
                assert!(shape != WebhookFormat::Discord || text.chars().count() <= DISCORD, "{}", text.chars().count());
            }
            let card = of(WebhookFormat::Teams, &r);
            let blocks = card["attachments"][0]["content"]["body"].as_array().cloned().unwrap_or_default();
            assert_eq!(blocks.last().map(|b| b["text"].clone()), Some(line.into()));
        }
    }
}
