//! Unchecked objects: while there are any, opsctl cannot report that there is nothing to do.

use opsctl_core::model::{CheckRow, Kind, Reported, Runbook};

/// Reasons why it is unknown whether `fix` is needed, for `subject` if one is named; empty if every object that could need it was
/// checked. An unknown check is its own reason; an engine or a systemd that does not respond hides its objects.
#[must_use]
pub fn unseen(fix: &str, subject: Option<&str>, runbooks: &[Runbook], rows: &[CheckRow], findings: &[Reported]) -> Vec<String> {
    let offering: Vec<&str> = runbooks
        .iter()
        .flat_map(|r| &r.checks)
        .map(|c| c.spec())
        .filter(|spec| spec.fixes.iter().any(|f| f.id == fix))
        .map(|spec| spec.id)
        .collect();
    let calls = |row: &&CheckRow| offering.contains(&row.check.as_str());
    let about = |row: &&CheckRow| {
        let name = row.target.split_once(':').map_or(row.target.as_str(), |(_, name)| name);
        subject.is_none_or(|s| s == name || s == row.target)
    };
    let hidden: Vec<String> = rows.iter().filter(calls).filter(about).filter_map(unknown).collect();
    let seen = rows.iter().filter(calls).any(|row| about(&row) && !matches!(row.verdict.as_str(), "unknown" | "skip"));
    if !hidden.is_empty() || seen {
        return hidden;
    }
    // no object of that name was checked: look for failed checks of the engine, of the host and of discovery
    let runbook_of = |check: &str| check.split_once('.').map(|(runbook, _)| runbook.to_owned());
    let of_runbook = |row: &&CheckRow| offering.iter().any(|check| runbook_of(check).as_deref() == Some(&row.runbook));
    let gate = |row: &&CheckRow| row.target == Kind::Host.to_string() || row.target.starts_with(&format!("{}:", Kind::Engine));
    let crit = |row: &CheckRow| {
        let first = findings.iter().find(|f| row.findings.contains(&f.id))?;
        (row.verdict == "crit").then(|| format!("{} {}: {}", row.check, row.target, first.message))
    };
    let discovery = rows.iter().filter(|row| row.check == "discovery").filter_map(unknown);
    let gates = rows.iter().filter(of_runbook).filter(gate).filter_map(|row| unknown(row).or_else(|| crit(row)));
    // an object of that name may be behind one that could not be checked: a site behind its nginx
    let others = rows.iter().filter(calls).filter_map(unknown);
    gates.chain(discovery).chain(others).collect()
}

fn unknown(row: &CheckRow) -> Option<String> {
    let why = row.reason.as_deref().unwrap_or("unknown");
    (row.verdict == "unknown").then(|| format!("{} {}: {why}", row.check, row.target))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use opsctl_core::model::{Code, Finding, Object, Severity};

    use super::*;
    use crate::config::Loaded;

    static SILENT: Code = Code { id: "x.silent", severities: &[Severity::Crit], when: "", hint: "", ..Code::BASE };

    /// Reasons for these checks, targets and verdicts.
    fn reasons(fix: &str, subject: Option<&str>, rows: &[(&str, &str, &str)]) -> Vec<String> {
        let row = |(check, target, verdict): &(&str, &str, &str)| CheckRow {
            check: (*check).into(),
            runbook: check.split('.').next().unwrap().into(),
            target: (*target).into(),
            verdict: (*verdict).into(),
            reason: (*verdict == "unknown").then(|| "timed out after 2 s".into()),
            duration_ms: 1,
            findings: if *verdict == "crit" { vec!["f1".into()] } else { Vec::new() },
        };
        let rows: Vec<CheckRow> = rows.iter().map(row).collect();
        let silent = Finding::new(&SILENT, Severity::Crit, Object::host(), "no response");
        let silent = Reported { id: "f1".into(), ..Reported::new(silent) };
        unseen(fix, subject, &crate::site::runbooks(&Loaded::defaults().config), &rows, &[silent])
    }

    #[test]
    fn checked_object_has_no_reasons() {
        let rows = [("systemd.unit", "unit:a.service", "ok"), ("systemd.unit", "unit:b.service", "unknown")];
        assert!(reasons("systemd.restart", Some("a.service"), &rows).is_empty());
        assert!(reasons("systemd.restart", Some("unit:a.service"), &rows).is_empty());
        assert!(reasons("container.start", None, &rows).is_empty(), "another runbook's affair");
        let misspelt = [("systemd.unit", "unit:a.service", "ok"), ("systemd.state", "host", "ok")];
        assert!(reasons("systemd.restart", Some("aa.service"), &misspelt).is_empty());
    }

    #[test]
    fn unknown_check_is_a_reason() {
        let rows = [("systemd.unit", "unit:a.service", "ok"), ("systemd.unit", "unit:b.service", "unknown")];
        let of_b = ["systemd.unit unit:b.service: timed out after 2 s"];
        assert_eq!(reasons("systemd.restart", Some("b.service"), &rows), of_b);
        assert_eq!(reasons("systemd.restart", None, &rows), of_b, "it could be the one");
    }

    #[test]
    fn unresponsive_manager_hides_its_objects() {
        let hung = [("systemd.state", "host", "crit"), ("container.state", "container:web", "ok")];
        assert_eq!(reasons("systemd.restart", Some("a.service"), &hung), ["systemd.state host: no response"]);
        let denied = [("container.engine-reachable", "engine:docker", "unknown")];
        assert_eq!(
            reasons("container.start", Some("web"), &denied),
            ["container.engine-reachable engine:docker: timed out after 2 s"]
        );
        let unfound = [("discovery", "host", "unknown")];
        assert_eq!(reasons("nginx.reload", None, &unfound), ["discovery host: timed out after 2 s"]);
    }
}
