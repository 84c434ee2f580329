//! What webhooks understand.

use opsctl_core::model::Report;
use serde_json::{Value, json};

use super::Message;
use crate::config::Shape;
use crate::report::Line;

/// The longest texts: Discord 2000 characters (discord.com/developers/docs/resources/webhook), Mattermost 16383, Slack 40000 of which
/// it shows 4000 well, Teams 28 kB for the whole message.
const DISCORD: usize = 1900;
const MATTERMOST: usize = 16_000;
const SLACK: usize = 3900;
const TEAMS: usize = 20_000;

/// The body of a request.
pub(super) fn body(shape: Shape, report: &Report, message: &Message) -> Value {
    let markdown = |most| text(&message.chat, "**", &markdown_escaped, most);
    match shape {
        Shape::Slack => json!({ "text": text(&message.chat, "*", &slack_escaped, SLACK) }),
        // nobody is called by what a container is named
        Shape::Discord => json!({ "content": markdown(DISCORD), "allowed_mentions": { "parse": [] } }),
        Shape::Mattermost => json!({ "text": markdown(MATTERMOST) }),
        Shape::Teams => json!({
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
        Shape::Json => message.json.clone().unwrap_or_else(|| serde_json::to_value(report).unwrap_or_default()),
    }
}

/// The last line, if it is one that is always kept, and the lines before it.
fn footer(lines: &[Line]) -> (&[Line], Option<&str>) {
    match lines.split_last() {
        Some((Line::Footer(text), before)) => (before, Some(text)),
        _ => (lines, None),
    }
}

/// Lines of text, bold as the service has it, cut at the end of a line.
fn text(lines: &[Line], bold: &str, escaped: &dyn Fn(&str) -> String, most: usize) -> String {
    let (lines, footer) = footer(lines);
    let footer = footer.map(escaped).unwrap_or_default();
    let most = most.saturating_sub(footer.chars().count() + 2);
    let mut out = String::new();
    for line in lines {
        let shown = match line {
            Line::Title(text) => format!("{bold}{}{bold}", escaped(text)),
            Line::Text(text) | Line::Footer(text) => escaped(text),
            Line::Command(text) => format!("`{}`", text.replace('`', "'")),
        };
        if out.chars().count() + shown.chars().count() + 2 > most {
            out.push_str(if footer.is_empty() { "…" } else { "…\n" });
            break;
        }
        out.push_str(&shown);
        out.push('\n');
    }
    out + &footer
}

fn card(lines: &[Line], most: usize) -> Vec<Value> {
    let (lines, footer) = footer(lines);
    let small = |text: &str| json!({ "type": "TextBlock", "text": markdown_escaped(text), "wrap": true, "spacing": "Small" });
    let footer = footer.map(small);
    let mut left = most.saturating_sub(footer.as_ref().map_or(0, |block| block.to_string().len()));
    let mut blocks = Vec::new();
    for line in lines {
        let block = match line {
            Line::Title(text) => {
                json!({ "type": "TextBlock", "text": markdown_escaped(text), "weight": "Bolder", "size": "Medium", "wrap": true })
            }
            Line::Text(text) | Line::Footer(text) => small(text),
            Line::Command(text) => json!({ "type": "TextBlock", "text": text, "fontType": "Monospace", "wrap": true }),
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

/// Slack reads `<!channel>` and links in angle brackets (api.slack.com/reference/surfaces/formatting).
fn slack_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What would be markup or a mention.
fn markdown_escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if matches!(c, '\\' | '*' | '_' | '`' | '~' | '|' | '[' | ']' | '<' | '>') {
            out.push('\\');
        }
        out.push(c);
        if c == '@' {
            // a word joiner keeps "@everyone" from being a mention
            out.push('\u{2060}');
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{JournalHead, Severity};

    use super::*;
    use crate::report::fixtures::report;

    fn of(shape: Shape, report: &Report) -> Value {
        body(shape, report, &Message::of(report))
    }

    #[test]
    fn each_service_gets_its_own_shape() {
        let r = report(&[("web", Severity::Crit)]);
        assert!(of(Shape::Slack, &r)["text"].as_str().is_some_and(|t| t.starts_with("*web-1: crit: web is down*\n")));
        assert!(of(Shape::Mattermost, &r)["text"].as_str().is_some_and(|t| t.starts_with("**web-1: crit: web is down**\n")));
        assert_eq!(of(Shape::Discord, &r)["allowed_mentions"]["parse"], json!([]));
        assert_eq!(of(Shape::Teams, &r)["attachments"][0]["content"]["body"][0]["text"], "web-1: crit: web is down");
        assert_eq!(of(Shape::Json, &r)["schema_version"], 1);
    }

    #[test]
    fn a_name_calls_nobody() {
        let r = report(&[("<!channel> @everyone [x](http://evil)", Severity::Crit)]);
        let slack = of(Shape::Slack, &r).to_string();
        assert!(!slack.contains("<!channel>"), "{slack}");
        for shape in [Shape::Discord, Shape::Mattermost, Shape::Teams] {
            let text = of(shape, &r).to_string();
            assert!(!text.contains("@everyone") && !text.contains("[x](http"), "{text}");
        }
    }

    #[test]
    fn no_message_is_longer_than_its_service_takes() {
        let long = "x".repeat(3000);
        let r = report(&[(&long, Severity::Crit), ("web", Severity::Crit)]);
        assert!(of(Shape::Discord, &r)["content"].as_str().is_some_and(|t| t.chars().count() <= 2000));
        assert!(of(Shape::Teams, &r).to_string().len() < 28_000);
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
            for (shape, field) in [(Shape::Slack, "text"), (Shape::Discord, "content"), (Shape::Mattermost, "text")] {
                let body = of(shape, &r);
                let text = body[field].as_str().unwrap_or_default();
                assert_eq!(text.lines().last(), Some(line.as_str()), "{text}");
                assert!(shape != Shape::Discord || text.chars().count() <= DISCORD, "{}", text.chars().count());
            }
            let card = of(Shape::Teams, &r);
            let blocks = card["attachments"][0]["content"]["body"].as_array().cloned().unwrap_or_default();
            assert_eq!(blocks.last().map(|b| b["text"].clone()), Some(line.into()));
        }
    }
}
