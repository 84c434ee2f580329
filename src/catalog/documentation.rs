//! Parser of RUNBOOK.md.

/// The required sections, in this order.
pub const SECTIONS: &[&str] = &["Purpose", "Why it matters", "Verdicts", "By hand", "Fixes", "Fix safety", "Alerts", "See also"];

/// The documentation of a runbook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documentation {
    /// First heading.
    pub title: String,
    /// Heading and text of each section, as written.
    pub sections: Vec<(String, String)>,
}

impl Documentation {
    /// Splits the text at its headings.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut doc = Self::default();
        let mut in_code = false;
        for line in text.lines() {
            in_code ^= line.starts_with("```");
            if let Some(title) = line.strip_prefix("# ").filter(|_| !in_code) {
                title.trim().clone_into(&mut doc.title);
            } else if let Some(heading) = line.strip_prefix("## ").filter(|_| !in_code) {
                doc.sections.push((heading.trim().to_owned(), String::new()));
            } else if let Some((_, body)) = doc.sections.last_mut() {
                body.push_str(line);
                body.push('\n');
            }
        }
        for (_, body) in &mut doc.sections {
            *body = body.trim_matches('\n').to_owned();
        }
        doc
    }

    /// The text of a section.
    #[must_use]
    pub fn section(&self, heading: &str) -> &str {
        self.sections.iter().find(|(h, _)| h == heading).map_or("", |(_, body)| body)
    }

    /// The rows of a section's table, without header and delimiter row.
    #[must_use]
    pub fn table(&self, heading: &str) -> Vec<Vec<String>> {
        let rows = self.section(heading).lines().filter(|l| l.starts_with('|'));
        rows.skip(2).map(|l| l.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect()).collect()
    }

    /// The names in the bullets of the Alerts section.
    #[must_use]
    pub fn alerts(&self) -> Vec<&str> {
        let bullets = self.section("Alerts").lines().filter_map(|l| l.strip_prefix("- `"));
        bullets.filter_map(|l| l.split('`').next()).collect()
    }

    /// Sections that are missing, empty or out of order.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let have: Vec<&str> = self.sections.iter().map(|(h, _)| h.as_str()).collect();
        let mut problems = Vec::new();
        if have != SECTIONS {
            problems.push(format!("the sections are {have:?} and should be {SECTIONS:?}"));
        }
        problems.extend(self.sections.iter().filter(|(_, b)| b.is_empty()).map(|(h, _)| format!("the section {h} is empty")));
        if self.title.is_empty() {
            problems.push("it has no title".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_tables_and_alerts_are_parsed() {
        let doc = Documentation::parse(
            "# x\n\n## Verdicts\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n## By hand\n\n```sh\n# not a title\n## nor a section\n```\n\n## Alerts\n\n- `Down`\n- `Slow` and more\n",
        );
        assert_eq!(doc.title, "x");
        assert_eq!(doc.table("Verdicts"), [["1", "2"]]);
        assert!(doc.section("By hand").contains("## nor a section"));
        assert_eq!(doc.alerts(), ["Down", "Slow"]);
        assert_eq!(doc.problems().len(), 1);
    }
}
