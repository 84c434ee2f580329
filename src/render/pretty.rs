//! Markdown on a terminal: bold headings, aligned tables, wrapped text. Piped, Markdown is unchanged.

use comfy_table::{ContentArrangement, Table as Grid, presets};

use super::style::Style;

/// The subset of Markdown used by the runbook documentation, for a terminal.
#[must_use]
pub fn pretty(text: &str, style: &Style) -> String {
    let mut out = String::new();
    let mut table: Vec<Vec<String>> = Vec::new();
    let mut in_code = false;
    for line in text.lines().chain([""]) {
        if !in_code && line.starts_with('|') {
            let cells: Vec<String> = line.trim_matches('|').split('|').map(|c| plain(c.trim())).collect();
            if !cells.iter().all(|c| c.chars().all(|c| c == '-')) {
                table.push(cells);
            }
            continue;
        }
        if !table.is_empty() {
            out += &grid(&std::mem::take(&mut table), style);
        }
        if line.starts_with("```") {
            in_code = !in_code;
        } else if in_code {
            out += "    ";
            out += line;
            out.push('\n');
        } else if let Some(heading) = line.strip_prefix("# ").or_else(|| line.strip_prefix("## ")) {
            out += &bold(heading, style);
            out.push('\n');
        } else {
            out += &plain(line);
            out.push('\n');
        }
    }
    out.trim_end().to_owned() + "\n"
}

fn grid(rows: &[Vec<String>], style: &Style) -> String {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(style.width).force_no_tty();
    grid.add_rows(rows.iter().skip(1).cloned());
    grid.lines().map(|l| l.trim_end().to_owned() + "\n").collect()
}

fn bold(text: &str, style: &Style) -> String {
    if style.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

fn plain(text: &str) -> String {
    text.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runbook_documentation_without_markup() {
        let text = "# t\n\nuse `x`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```sh\n# kept | as is\n```\n";
        assert_eq!(pretty(text, &Style::plain()), "t\n\nuse x\n\n 1  2\n\n    # kept | as is\n");
    }
}
