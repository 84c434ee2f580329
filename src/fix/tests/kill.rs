//! `kill -9` at every step: the test binary runs itself as a child that terminates at a failpoint.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use opsctl_core::model::{Object, Plan};

use super::scripted::*;
use super::*;
use crate::audit::{Ending, Journal, in_flight, verify};
use crate::config::Policy;

/// Reports the finding while the marker does not exist, so that it sees the effect of the fix.
struct Marker {
    made: PathBuf,
    plan: Plan,
    /// The finding is never resolved.
    hopeless: bool,
}

impl Engine for Marker {
    async fn recheck(&self, _check: &str, _target: &Object) -> Recheck {
        if self.made.exists() && !self.hopeless { healthy() } else { failing(&self.plan) }
    }
}

fn in_dir(dir: &Path) -> Fixture {
    let mut f = Fixture::new();
    (f.state, f.lock, f.marker) = (dir.join("state"), dir.join("lock"), dir.join("marker"));
    f
}

fn run(f: &Fixture, act: impl AsyncFnOnce(&mut Guard<'_, Marker>) -> Exit) -> (Exit, String) {
    let hopeless = f.lock.with_file_name("hopeless").exists();
    let engine = Marker { made: f.marker.clone(), plan: f.plan(), hopeless };
    let policy = Policy { allow: vec![], max_fixes_per_hour: 10, max_per_fix: 10, max_per_host: 20 };
    let mut out = Vec::new();
    let mut guard = Guard {
        engine: &engine,
        policy: &policy,
        state_dir: &f.state,
        lock_file: &f.lock,
        signing_key: None,
        kill_switch: &f.kill_switch,
        options: FixOptions { yes: true, ..FixOptions::default() },
        person: &f.person,
        out: &mut out,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exit = runtime.block_on(act(&mut guard));
    (exit, String::from_utf8(out).unwrap())
}

fn fix(f: &Fixture) -> (Exit, String) {
    let offer = offer(&f.plan());
    run(f, async |guard| guard.fix(&offer).await)
}

/// Not a test: entry point of the child.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("OPSCTL_TEST_KILL_DIR") else { return };
    let f = in_dir(Path::new(&dir));
    match std::env::var("OPSCTL_TEST_KILL_UNDO") {
        Ok(seq) => run(&f, async |guard| guard.undo(seq.parse().unwrap()).await),
        Err(_) => fix(&f),
    };
}

fn killed(dir: &Path, failpoint: &str, undo: Option<u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "fix::tests::kill::child", "--test-threads=1"]);
    child.env("OPSCTL_TEST_KILL_DIR", dir).env("OPSCTL_FAILPOINT", failpoint);
    undo.map(|seq| child.env("OPSCTL_TEST_KILL_UNDO", seq.to_string()));
    let status = child.output().unwrap().status;
    assert_eq!(status.signal(), Some(9), "{failpoint}: {status}");
}

fn entries(f: &Fixture) -> Vec<crate::audit::Entry> {
    let journal = Journal::at(&f.state);
    assert_eq!(verify(&journal.bytes().unwrap()).1, []);
    journal.entries().unwrap()
}

#[test]
fn killed_before_intent_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let f = in_dir(dir.path());
    killed(dir.path(), "before-intent", None);
    assert_eq!((entries(&f).len(), f.marker.exists()), (0, false));
    let (exit, output) = fix(&f);
    assert_eq!((exit, output.contains("was interrupted")), (Exit::Done, false), "{output}");
}

#[test]
fn kill_between_journal_and_head_is_no_tampering() {
    use crate::audit::Comparison;
    let dir = tempfile::tempdir().unwrap();
    let f = in_dir(dir.path());
    assert_eq!(fix(&f).0, Exit::Done);
    std::fs::remove_file(&f.marker).unwrap();
    killed(dir.path(), "before-head", None);
    let journal = Journal::at(&f.state);
    let checked = journal.check().unwrap();
    assert!(matches!(&checked.comparison, Comparison::Ahead { kept, by: 1 } if kept.entries == 2), "{:?}", checked.comparison);
    assert_eq!(checked.problems(&journal.database()), []);
    assert_eq!((in_flight(&entries(&f)).len(), f.marker.exists()), (1, false));
    // the next run resolves the interrupted fix and stores its head
    assert_eq!(fix(&f).0, Exit::Unverified);
    let checked = journal.check().unwrap();
    assert_eq!((&checked.comparison, checked.problems(&journal.database())), (&Comparison::Same, vec![]));
}

#[test]
fn kill_between_journal_and_head_of_the_first_entry_is_no_tampering() {
    use crate::audit::Comparison;
    let dir = tempfile::tempdir().unwrap();
    let f = in_dir(dir.path());
    killed(dir.path(), "before-head", None);
    let journal = Journal::at(&f.state);
    let checked = journal.check().unwrap();
    assert!(matches!(&checked.comparison, Comparison::Ahead { kept, by: 1 } if kept.entries == 0), "{:?}", checked.comparison);
    assert_eq!(checked.problems(&journal.database()), []);
    // and the next report stores its head
    assert!(journal.adopt(&checked));
    std::fs::remove_file(journal.path()).unwrap();
    assert!(matches!(journal.check().unwrap().comparison, Comparison::Deleted(kept) if kept.entries == 1));
}

#[test]
fn killed_between_intent_and_action_is_checked_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let f = in_dir(dir.path());
    killed(dir.path(), "after-intent", None);
    assert_eq!((in_flight(&entries(&f)).len(), f.marker.exists()), (1, false));
    let (exit, output) = fix(&f);
    assert_eq!((exit, f.marker.exists()), (Exit::Unverified, false), "{output}");
    assert!(
        output.contains("during demo.repair on container:web (journal entry 1)") && output.contains("nothing was repeated"),
        "{output}"
    );
    assert_eq!(fix(&f).0, Exit::Done);
}

#[test]
fn killed_after_action_is_recognised_as_effective() {
    for failpoint in ["between-actions", "after-action", "verifying", "before-outcome"] {
        let dir = tempfile::tempdir().unwrap();
        let f = in_dir(dir.path());
        killed(dir.path(), failpoint, None);
        assert_eq!((in_flight(&entries(&f)).len(), f.marker.exists()), (1, true));
        let (exit, output) = fix(&f);
        assert_eq!(exit, Exit::Done, "{output}");
        assert!(output.contains("demo.check no longer reports demo.broken; nothing was repeated"), "{output}");
        let entries = entries(&f);
        assert_eq!(entries.len(), 2, "no second intent");
        assert_eq!((in_flight(&entries).len(), entries[1].body.ending), (0, Some(Ending::Interrupted)));
    }
}

#[test]
fn killed_while_reverting_can_be_reverted_by_the_next_run() {
    for (failpoint, there) in [("before-taking-back", true), ("after-taking-back", false)] {
        let dir = tempfile::tempdir().unwrap();
        let f = in_dir(dir.path());
        std::fs::write(dir.path().join("hopeless"), "").unwrap();
        killed(dir.path(), failpoint, None);
        assert_eq!((in_flight(&entries(&f)).len(), f.marker.exists()), (1, there), "{failpoint}");
        std::fs::remove_file(dir.path().join("hopeless")).unwrap();
        let (exit, output) = fix(&f);
        assert_eq!(exit, if there { Exit::Done } else { Exit::Unverified }, "{failpoint}: {output}");
        assert!(output.contains("nothing was repeated") && output.contains("opsctl undo 2 reverts"), "{output}");
        assert_eq!(f.marker.exists(), there, "{failpoint}");
        assert!(in_flight(&entries(&f)).is_empty());
    }
}

#[test]
fn killed_during_undo_can_be_undone_by_the_next_run() {
    for (failpoint, undone) in
        [("undo-before-intent", false), ("undo-after-intent", false), ("undo-after-action", true), ("undo-before-outcome", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let f = in_dir(dir.path());
        assert_eq!(fix(&f).0, Exit::Done);
        killed(dir.path(), failpoint, Some(2));
        assert_eq!(f.marker.exists(), !undone, "{failpoint}");
        let (exit, output) = run(&f, async |guard| guard.undo(2).await);
        assert_eq!(
            output.contains("during the undo of demo.repair on container:web"),
            failpoint != "undo-before-intent",
            "{output}"
        );
        // rm of a missing file fails, so the second undo of this fix fails
        assert_eq!(exit, if undone { Exit::Failed } else { Exit::Done }, "{failpoint}: {output}");
        assert!(!f.marker.exists() && in_flight(&entries(&f)).is_empty());
    }
}

#[test]
fn object_changed_during_a_pause_stops_the_fix() {
    let dir = tempfile::tempdir().unwrap();
    let f = in_dir(dir.path());
    let pause = dir.path().join("pause");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fix::tests::kill::child", "--test-threads=1"])
        .env("OPSCTL_TEST_KILL_DIR", dir.path())
        .env("OPSCTL_FAILPOINT_PAUSE", format!("before-recheck={}", pause.display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = std::time::Instant::now();
    while !pause.exists() {
        assert!(started.elapsed().as_secs() < 20, "the child did not reach the pause");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // meanwhile another run cannot start
    assert_eq!(fix(&f).0, Exit::Held);
    std::fs::write(&f.marker, "repaired").unwrap();
    std::fs::remove_file(&pause).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(entries(&f).len(), 0, "changed since the plan");
}
