//! Runbook documentation as a man page of section 7: the subset of Markdown that RUNBOOK.md files use.

use std::fmt::Write as _;

use crate::catalog::Documentation;

/// `opsctl-<runbook>(7)`.
pub(super) fn manual(id: &str, about: &str, doc: &Documentation) -> String {
    let mut out = format!(
        ".TH OPSCTL-{} 7 \"\" \"opsctl {}\" \"opsctl runbooks\"\n.SH NAME\nopsctl\\-{} \\- {}\n.SH SYNOPSIS\n.B opsctl {}\n",
        id.to_uppercase(),
        env!("CARGO_PKG_VERSION"),
        escape(id),
        escape(about),
        escape(id)
    );
    for (heading, body) in &doc.sections {
        // writing to a String cannot fail
        let _ = writeln!(out, ".SH {}", escape(&heading.to_uppercase()));
        body_of(body, &mut out);
    }
    out
}

fn body_of(body: &str, out: &mut String) {
    let mut in_code = false;
    let mut rows = 0;
    for line in body.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
            *out += if in_code { ".PP\n.RS 4\n.nf\n" } else { ".fi\n.RE\n" };
        } else if in_code {
            *out += &escape(line);
            out.push('\n');
        } else if line.starts_with('|') {
            rows += 1;
            // the header of the table and its delimiter row
            if rows > 2 {
                let mut cells = line.trim_matches('|').split('|').map(|c| inline(c.trim()));
                let (first, second) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
                let _ = writeln!(out, ".TP\n\\fB{first}\\fR ({second})\n{}", cells.collect::<Vec<_>>().join(" "));
            }
        } else if let Some(item) = line.strip_prefix("- ") {
            let _ = writeln!(out, ".IP \\(bu 2\n{}", inline(item));
        } else if line.trim().is_empty() {
            *out += ".PP\n";
        } else {
            *out += &inline(line.trim_start());
            out.push('\n');
        }
    }
}

/// Backticks become bold.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 1 {
            let _ = write!(out, "\\fB{}\\fR", escape_inside(part));
        } else {
            out += &escape_inside(part);
        }
    }
    guard(out)
}

fn escape(text: &str) -> String {
    guard(escape_inside(text))
}

fn escape_inside(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// A dot or quote at the beginning of a line would be a request.
fn guard(line: String) -> String {
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troff_syntax_is_escaped() {
        assert_eq!(inline(".so `a-b` \\x"), "\\&.so \\fBa\\-b\\fR \\ex");
        let mut out = String::new();
        body_of("| a | b | c |\n|---|---|---|\n| x.y | warn | when |\n\n- item\n\n```sh\n.dot\n```\n", &mut out);
        assert_eq!(out, ".TP\n\\fBx.y\\fR (warn)\nwhen\n.PP\n.IP \\(bu 2\nitem\n.PP\n.PP\n.RS 4\n.nf\n\\&.dot\n.fi\n.RE\n");
    }
}
