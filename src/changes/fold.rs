//! One line for what was done to many things at once: an upgrade of two hundred packages, fifty containers stopped together.

use jiff::SignedDuration;
use opsctl_core::model::{Change, ChangeKind, quantity};

/// So many of one kind, or more, are told together.
const MANY: usize = 4;

/// How far apart the first and the last of them may be: a large upgrade takes its time.
const TOGETHER: SignedDuration = SignedDuration::from_mins(30);

/// Names told of them.
const NAMED: usize = 3;

/// The changes with what belongs together in one line, at the time of its first.
#[must_use]
pub fn fold(changes: &[Change]) -> Vec<Change> {
    changes.chunk_by(alike).flat_map(|run| if run.len() < MANY { run.to_vec() } else { together(run) }).collect()
}

/// The same was done, by the same, right behind it.
fn alike(a: &Change, b: &Change) -> bool {
    // every note and everything opsctl did was meant one by one
    let one_by_one = matches!(a.kind, ChangeKind::Note | ChangeKind::Opsctl | ChangeKind::Boot);
    !one_by_one && a.kind == b.kind && a.by == b.by && verb(a) == verb(b)
}

/// `upgraded` of `upgraded from 1 to 2`.
fn verb(change: &Change) -> &str {
    change.what.split([' ', ',']).next().unwrap_or_default()
}

fn together(run: &[Change]) -> Vec<Change> {
    let mut out = Vec::new();
    let mut rest = run;
    while let Some(first) = rest.first() {
        let near = rest.iter().take_while(|c| c.at.duration_since(first.at) <= TOGETHER).count();
        let (these, later) = rest.split_at(near);
        rest = later;
        if near < MANY {
            out.extend_from_slice(these);
            continue;
        }
        let names: Vec<&str> =
            these.iter().map(|c| c.subject.split_once(':').map_or(c.subject.as_str(), |(_, name)| name)).collect();
        let what = format!("{}: {}", verb(first), quantity::some_of(&names, NAMED));
        out.push(Change { subject: quantity::count(near, &first.kind.to_string()), what, ..first.clone() });
    }
    out
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn many_of_one_kind_are_one_line_and_few_are_not() {
        let at = |second| Timestamp::from_second(second).unwrap_or_default();
        let package = |second, name: &str, what: &str| {
            Change::new(at(second), ChangeKind::Package, format!("package:{name}"), what).by(Some("apt-get"))
        };
        let mut changes: Vec<Change> =
            ["a", "b", "c", "d", "e"].iter().zip(0..).map(|(n, s)| package(s, n, "upgraded from 1 to 2")).collect();
        changes.push(package(6, "f", "installed, version 1"));
        changes.extend(["g", "h"].map(|n| package(7, n, "removed, version 1")));
        // the same again, much later, is another time
        changes.extend((0..4).map(|s| package(9000 + s, "i", "removed, version 1")));
        changes.extend((0..5).map(|s| Change::new(at(9100 + s), ChangeKind::Note, "deploy", "shop")));
        let told: Vec<String> = fold(&changes).iter().map(Change::says).collect();
        assert_eq!(told.len(), 1 + 1 + 2 + 1 + 5, "{told:?}");
        assert_eq!(told[0], "5 packages upgraded: a, b, c and 2 more (by apt-get)");
        assert_eq!(
            told[1..4].join("; "),
            "package:f installed, version 1 (by apt-get); package:g removed, version 1 (by apt-get); package:h removed, version 1 (by apt-get)"
        );
        assert_eq!(told[4], "4 packages removed: i, i, i and 1 more (by apt-get)");
        assert_eq!(fold(&[]), []);
    }
}
