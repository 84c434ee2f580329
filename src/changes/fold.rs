//! Folds many similar changes into one line: an upgrade of two hundred packages, fifty containers stopped together.

use jiff::SignedDuration;
use opsctl_core::model::{Change, ChangeKind, quantity};

/// Minimum number of similar changes that are folded.
const MIN_FOLDED: usize = 4;

/// Maximum time between the first and the last of them: a large upgrade takes a while.
const MAX_SPAN: SignedDuration = SignedDuration::from_mins(30);

/// Number of names listed.
const MAX_NAMES: usize = 3;

/// Folds similar changes into one, at the time of the first.
#[must_use]
pub fn fold(changes: &[Change]) -> Vec<Change> {
    changes.chunk_by(is_similar).flat_map(|run| if run.len() < MIN_FOLDED { run.to_vec() } else { fold_run(run) }).collect()
}

/// Whether two adjacent changes have the same kind, verb and author.
fn is_similar(a: &Change, b: &Change) -> bool {
    // notes and actions of opsctl are individual changes
    let one_by_one = matches!(a.kind, ChangeKind::Note | ChangeKind::Opsctl | ChangeKind::Boot);
    !one_by_one && a.kind == b.kind && a.by == b.by && verb(a) == verb(b)
}

/// `upgraded` of `upgraded from 1 to 2`.
fn verb(change: &Change) -> &str {
    change.what.split([' ', ',']).next().unwrap_or_default()
}

fn fold_run(run: &[Change]) -> Vec<Change> {
    let mut out = Vec::new();
    let mut rest = run;
    while let Some(first) = rest.first() {
        let near = rest.iter().take_while(|c| c.at.duration_since(first.at) <= MAX_SPAN).count();
        let (these, later) = rest.split_at(near);
        rest = later;
        if near < MIN_FOLDED {
            out.extend_from_slice(these);
            continue;
        }
        let names: Vec<&str> =
            these.iter().map(|c| c.subject.split_once(':').map_or(c.subject.as_str(), |(_, name)| name)).collect();
        let description = format!("{}: {}", verb(first), quantity::some_of(&names, MAX_NAMES));
        out.push(Change { subject: quantity::count(near, &first.kind.to_string()), what: description, ..first.clone() });
    }
    out
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn many_similar_changes_are_one_line() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let package = |second, name: &str, description: &str| {
            Change::new(at(second), ChangeKind::Package, format!("package:{name}"), description).by(Some("apt-get"))
        };
        let mut changes: Vec<Change> =
            ["a", "b", "c", "d", "e"].iter().zip(0..).map(|(n, s)| package(s, n, "upgraded from 1 to 2")).collect();
        changes.push(package(6, "f", "installed, version 1"));
        changes.extend(["g", "h"].map(|n| package(7, n, "removed, version 1")));
        // the same change much later is not folded with the first ones
        changes.extend((0..4).map(|s| package(9000 + s, "i", "removed, version 1")));
        changes.extend((0..5).map(|s| Change::new(at(9100 + s), ChangeKind::Note, "deploy", "shop")));
        let folded: Vec<String> = fold(&changes).iter().map(Change::summary).collect();
        assert_eq!(folded.len(), 1 + 1 + 2 + 1 + 5, "{folded:?}");
        assert_eq!(folded[0], "5 packages upgraded: a, b, c and 2 more (by apt-get)");
        assert_eq!(
            folded[1..4].join("; "),
            "package:f installed, version 1 (by apt-get); package:g removed, version 1 (by apt-get); package:h removed, version 1 (by apt-get)"
        );
        assert_eq!(folded[4], "4 packages removed: i, i, i and 1 more (by apt-get)");
        assert_eq!(fold(&[]), []);
    }
}
