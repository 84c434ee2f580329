//! The graph of lock waits of a PostgreSQL server.

use std::collections::{BTreeMap, BTreeSet};

use opsctl_core::model::quantity::{count, seconds};

use super::backend::Backend;

/// The graph of lock waits.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Blocker to the sessions that wait for it directly.
    below: BTreeMap<i32, BTreeSet<i32>>,
    waiting: BTreeSet<i32>,
}

impl Tree {
    /// The lock waits of these sessions.
    pub(super) fn of(sessions: &[Backend]) -> Self {
        let mut tree = Self::default();
        for s in sessions {
            for blocker in s.blocked_by.iter().flatten().filter(|b| **b != s.pid) {
                tree.below.entry(*blocker).or_default().insert(s.pid);
                tree.waiting.insert(s.pid);
            }
        }
        tree
    }

    /// All sessions that wait for `pid`, directly or indirectly.
    pub(super) fn waiters(&self, pid: i32) -> BTreeSet<i32> {
        let mut all = BTreeSet::new();
        let mut next = vec![pid];
        while let Some(at) = next.pop() {
            for waiter in self.below.get(&at).into_iter().flatten() {
                // a deadlock that is not yet resolved is a cycle
                if *waiter != pid && all.insert(*waiter) {
                    next.push(*waiter);
                }
            }
        }
        all
    }

    /// Blockers that do not wait themselves; 0 is a prepared transaction.
    pub(super) fn roots(&self) -> Vec<i32> {
        self.below.keys().copied().filter(|pid| !self.waiting.contains(pid)).collect()
    }
}

/// The session with this pid.
pub(super) fn session_of(sessions: &[Backend], pid: i32) -> Option<&Backend> {
    sessions.iter().find(|s| s.pid == pid)
}

/// Maximum number of lines of a rendered tree.
const MAX_TREE_LINES: usize = 10;

/// Renders the lock waits. Sessions with the same query that block no other session share one line.
pub(super) fn tree_text(sessions: &[Backend], tree: &Tree, root: i32) -> String {
    let mut lines =
        vec![session_of(sessions, root).map_or_else(|| format!("pid {root}"), |b| format!("{} {}", b.label(), activity(b)))];
    branch(sessions, tree, root, 1, &mut BTreeSet::from([root]), &mut lines);
    if lines.len() > MAX_TREE_LINES {
        lines.truncate(MAX_TREE_LINES);
        lines.push("and more".to_owned());
    }
    lines.join("\n")
}

fn branch(sessions: &[Backend], tree: &Tree, pid: i32, depth: usize, seen: &mut BTreeSet<i32>, lines: &mut Vec<String>) {
    let indent = format!("{} ", ">".repeat(depth));
    let mut alike: BTreeMap<(String, String), usize> = BTreeMap::new();
    // a session can wait for two others: it is listed below the first
    let fresh: Vec<i32> = tree.below.get(&pid).into_iter().flatten().copied().filter(|p| seen.insert(*p)).collect();
    for waiter in fresh {
        let Some(b) = session_of(sessions, waiter) else { continue };
        if tree.below.contains_key(&waiter) {
            lines.push(format!("{indent}{} {}", b.label(), activity(b)));
            branch(sessions, tree, waiter, depth + 1, seen, lines);
        } else {
            let app = b.app.as_deref().filter(|a| !a.is_empty()).map_or(String::new(), |a| format!(" ({a})"));
            *alike
                .entry((format!("{}{app}", b.role.as_deref().unwrap_or("?")), b.query.chars().take(80).collect()))
                .or_default() += 1;
        }
    }
    lines.extend(alike.into_iter().map(|((role, query), n)| format!("{indent}{} of {role}: {query}", count(n, "session"))));
}

/// `idle in transaction 14 s: BEGIN; SELECT …`.
fn activity(b: &Backend) -> String {
    let query: String = b.query.chars().take(80).collect();
    format!("{} {}: {query}", b.state.as_deref().unwrap_or("?"), seconds(b.state_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_wait_cycle_terminates() {
        let backend = |pid, blocked_by| Backend { pid, blocked_by: Some(vec![blocked_by]), ..Backend::default() };
        let sessions = [backend(1, 2), backend(2, 1)];
        let tree = Tree::of(&sessions);
        assert_eq!((tree.roots().len(), tree.waiters(1).len()), (0, 1));
        assert!(!tree_text(&sessions, &tree, 1).is_empty());
    }
}
