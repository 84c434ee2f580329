//! The part of a report that concerns one owner.

use opsctl_core::model::{Report, Severity};

/// Reduces a report to this owner: findings, their checks, causes and fixes, and recovered findings. The verdict is that of the
/// remaining findings.
#[must_use]
pub fn of_owner(report: &Report, owner: &str) -> Report {
    let is_owned = |o: &Option<String>| o.as_deref() == Some(owner);
    let mut reduced = report.clone();
    reduced.findings.retain(|f| is_owned(&f.owner));
    let kept = |id: &String| reduced.findings.iter().any(|f| f.id == *id);
    reduced.checks.retain(|row| row.findings.iter().any(kept));
    // a cause with another owner is still the cause
    reduced.causes.retain(|c| kept(&c.root) || c.explains.iter().any(kept));
    let about: Vec<String> = reduced.findings.iter().map(|f| f.subject.to_string()).collect();
    reduced.fixes.retain(|fix| about.contains(&fix.subject));
    reduced.measures.retain(|m| about.contains(&m.subject));
    let roots: Vec<String> = reduced.causes.iter().map(|c| c.root.clone()).collect();
    let others = report.findings.iter().filter(|f| !is_owned(&f.owner) && roots.contains(&f.id)).cloned();
    let counts = reduced.findings.iter().filter(|f| f.waived.is_none()).map(|f| f.severity).max();
    (reduced.verdict, reduced.exit_code) = match counts {
        Some(Severity::Crit) => ("crit".to_owned(), 2),
        Some(Severity::Warn) => ("warn".to_owned(), 1),
        _ => ("ok".to_owned(), 0),
    };
    reduced.findings.extend(others.collect::<Vec<_>>());
    if let Some(course) = &mut reduced.course {
        let kept = |id: &String| reduced.findings.iter().any(|f| f.id == *id);
        course.findings.retain(|k| kept(&k.finding));
        course.recovered.retain(|r| is_owned(&r.owner));
        course.trends.retain(|t| about.contains(&t.subject));
    }
    reduced
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::report;
    use super::*;

    #[test]
    fn owner_gets_own_findings_and_their_cause() {
        let mut all = report(&[("web", Severity::Warn), ("db", Severity::Crit)]);
        all.findings[0].owner = Some("shop".into());
        let reduced = of_owner(&all, "shop");
        assert_eq!(
            (reduced.findings.len(), reduced.verdict.as_str(), reduced.exit_code, reduced.checks.len()),
            (1, "warn", 1, 1)
        );
        assert_eq!(of_owner(&all, "nobody").verdict, "ok");
        // the database has another owner, and is the cause
        all.causes = vec![opsctl_core::model::Cause {
            root: "f1".into(),
            explains: vec!["f0".into()],
            because: vec!["x".into()],
            confidence: opsctl_core::model::Confidence::Confirmed,
        }];
        let reduced = of_owner(&all, "shop");
        assert_eq!((reduced.findings.len(), reduced.verdict.as_str()), (2, "warn"));
    }
}
