//! Each kind of tampering is detected, and similar harmless states are not reported.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;

use super::tests::Fixture;
use super::*;
use crate::state::STATE_DB;

impl Fixture {
    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn note(&self, text: &str) {
        self.add(Body::new(Kind::Note, text));
    }

    fn checked(&self) -> Checked {
        self.journal.check().unwrap()
    }

    /// The problems without hashes and directory.
    fn problems(&self) -> Vec<(bool, String)> {
        let hash = regex::Regex::new(":[0-9a-f]{64}").unwrap();
        let short = |text: String| hash.replace_all(&text.replace(&format!("{}/", self.state().display()), ""), "").into_owned();
        self.checked().problems(&self.journal.database()).into_iter().map(|p| (p.tampering, short(p.text))).collect()
    }

    #[track_caller]
    fn tampered(&self, text: &str) {
        assert_eq!(self.problems(), [(true, text.to_owned())]);
    }

    #[track_caller]
    fn intact(&self) {
        assert_eq!(self.problems(), []);
    }

    /// The files of the present database, to be restored later.
    fn copy_database(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.state()).unwrap().map(|e| e.unwrap().path());
        let files = files.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(STATE_DB));
        files.map(|p| (p.clone(), fs::read(p).unwrap())).collect()
    }

    fn remove_database(&self) {
        self.copy_database().into_iter().for_each(|(p, _)| fs::remove_file(p).unwrap());
    }

    /// Writes these notes as a new journal with a consistent chain, without touching the database.
    fn rewrite(&self, notes: &[&str]) {
        let other = Fixture::new();
        for note in notes {
            other.note(note);
        }
        fs::copy(other.journal.path(), self.journal.path()).unwrap();
    }

    fn sql(&self, sql: &str) {
        rusqlite::Connection::open(self.journal.database()).unwrap().execute_batch(sql).unwrap();
    }

    /// The state of version 0.1.0: no field of the head in any entry, and a database without its table.
    fn as_old_version(&self) {
        let mut prev = chain::GENESIS.to_owned();
        let mut text = Vec::new();
        for line in chain::lines(&self.journal.bytes().unwrap()) {
            let mut json = serde_json::to_value(chain::parse(line).unwrap()).unwrap();
            json.as_object_mut().unwrap().remove("head_kept");
            json["prev"] = prev.into();
            let line = chain::seal(&json.to_string(), None::<fn(&[u8]) -> String>);
            prev = chain::digest(line.as_bytes());
            text.push(line + "\n");
        }
        fs::write(self.journal.path(), text.concat()).unwrap();
        self.sql("DROP TABLE journal_head; DROP TABLE journal_gap; PRAGMA user_version = 2");
    }
}

fn restore(files: Vec<(PathBuf, Vec<u8>)>) {
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn intact_journal_equals_kept_head() {
    let f = Fixture::new();
    f.three();
    f.intact();
    let checked = f.checked();
    assert_eq!((checked.comparison, checked.head.entries), (Comparison::Same, 3));
    assert_eq!(checked.head, Head::of(&f.journal.bytes().unwrap()));
}

#[test]
fn no_journal_and_no_head_is_nothing_to_compare() {
    let f = Fixture::new();
    assert_eq!(f.checked().comparison, Comparison::Nothing);
    f.intact();
}

#[test]
fn first_entry_is_marked_as_written_with_a_head() {
    let f = Fixture::new();
    f.note("first");
    assert!(f.journal.entries().unwrap()[0].head_kept);
}

#[test]
fn edited_entry() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.replace("hello", "hallo"));
    let problems = f.problems();
    assert_eq!(problems[0], (true, "line 3: edited after it was written".to_owned()));
}

#[test]
fn edited_entry_with_a_new_sum() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| {
        let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
        let open = last.replace("hello", "hallo");
        let object = format!("{}}}", open.rsplit_once(",\"sum\":").unwrap().0);
        format!("{before}\n{}\n", chain::seal(&object, None::<fn(&[u8]) -> String>))
    });
    assert_eq!(f.faults(), [], "the chain alone does not show an edit of the last line");
    assert!(matches!(f.checked().comparison, Comparison::Rewritten { kept, .. } if kept.entries == 3));
}

#[test]
fn entry_removed_from_the_middle() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.split_inclusive('\n').enumerate().filter(|(i, _)| *i != 1).map(|(_, l)| l).collect());
    f.tampered("line 2: entry 2, which belongs before it, was removed");
}

#[test]
fn entries_removed_from_the_beginning() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.split_inclusive('\n').skip(2).collect());
    f.tampered("line 1: entries 1 to 2, which belong before it, were removed");
}

#[test]
fn exchanged_entries() {
    let f = Fixture::new();
    f.three();
    f.note("last");
    f.edit(|text| {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        [lines[0], lines[2], lines[1], lines[3]].concat()
    });
    let found: Vec<String> = f.problems().into_iter().map(|(_, text)| text).collect();
    assert_eq!(
        found,
        [
            "line 2: entry 3 where 2 belongs; lines were exchanged or repeated",
            "line 3: entry 2 where 4 belongs; lines were exchanged or repeated",
            "line 4: entry 4 where 3 belongs; lines were exchanged or repeated",
        ]
    );
}

#[test]
fn repeated_entry() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| format!("{text}{}", text.split_inclusive('\n').next_back().unwrap()));
    f.tampered("line 4: entry 3 where 4 belongs; lines were exchanged or repeated");
}

#[test]
fn truncated_at_the_end() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.split_inclusive('\n').take(1).collect());
    assert_eq!(f.faults(), []);
    f.tampered(
        "state.db has the head 3, the journal ends with entry 1: entries 2 to 3 cut off, or the file replaced by an older copy",
    );
}

#[test]
fn last_entry_cut_in_half_after_it_was_whole() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text[..text.len() - 40].to_owned());
    assert_eq!(f.faults(), [(3, FaultKind::Torn)]);
    f.tampered("state.db has the head 3, the journal ends with entry 2: entry 3 cut off, or the file replaced by an older copy");
}

#[test]
fn incomplete_entry_after_a_crash_raises_no_alarm() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| format!("{text}{{\"seq\":4,\"pre"));
    assert_eq!(f.faults(), [(4, FaultKind::Torn)]);
    f.intact();
    f.note("after the crash");
    f.intact();
}

#[test]
fn emptied_journal() {
    let f = Fixture::new();
    f.three();
    f.edit(|_| String::new());
    f.tampered("state.db has the head 3, the journal has no entry: it was removed");
}

#[test]
fn rewritten_journal_of_the_same_length() {
    let f = Fixture::new();
    f.three();
    f.rewrite(&["a", "b", "c"]);
    assert_eq!(f.faults(), []);
    assert!(matches!(f.checked().comparison, Comparison::Rewritten { kept, .. } if kept.entries == 3));
}

#[test]
fn rewritten_journal_that_is_longer() {
    let f = Fixture::new();
    f.three();
    f.rewrite(&["a", "b", "c", "d", "e"]);
    assert!(matches!(f.checked().comparison, Comparison::Rewritten { kept, .. } if kept.entries == 3));
}

#[test]
fn rewritten_journal_that_is_shorter() {
    let f = Fixture::new();
    f.three();
    f.rewrite(&["a"]);
    assert!(matches!(f.checked().comparison, Comparison::Truncated { kept, last: 1 } if kept.entries == 3));
}

#[test]
fn older_copy_of_the_journal() {
    let f = Fixture::new();
    f.three();
    let old = fs::read(f.journal.path()).unwrap();
    f.note("the one to hide");
    fs::write(f.journal.path(), old).unwrap();
    f.tampered("state.db has the head 4, the journal ends with entry 3: entry 4 cut off, or the file replaced by an older copy");
}

#[test]
fn older_copy_of_the_database_raises_no_alarm() {
    let f = Fixture::new();
    f.three();
    let old = f.copy_database();
    f.note("later");
    f.remove_database();
    restore(old);
    assert!(matches!(f.checked().comparison, Comparison::Ahead { by: 1, .. }));
    f.intact();
}

#[test]
fn removed_journal() {
    let f = Fixture::new();
    f.three();
    fs::remove_file(f.journal.path()).unwrap();
    f.tampered("state.db has the head 3, the journal has no entry: it was removed");
}

#[test]
fn removed_directory_except_the_database() {
    let f = Fixture::new();
    f.three();
    let kept = f.copy_database();
    fs::remove_dir_all(f.state()).unwrap();
    fs::create_dir(f.state()).unwrap();
    restore(kept);
    f.tampered("state.db has the head 3, the journal has no entry: it was removed");
}

#[test]
fn removed_database() {
    let f = Fixture::new();
    f.three();
    f.remove_database();
    f.tampered("state.db has no head, although entries were written while it had one: it was removed or replaced");
}

#[test]
fn removed_database_of_a_single_entry() {
    let f = Fixture::new();
    f.note("only");
    f.remove_database();
    f.tampered("state.db has no head, although entries were written while it had one: it was removed or replaced");
}

#[test]
fn removed_row_of_the_head() {
    let f = Fixture::new();
    f.three();
    f.sql("DELETE FROM journal_head");
    f.tampered("state.db has no head, although entries were written while it had one: it was removed or replaced");
}

#[test]
fn removed_directory_looks_like_a_new_host_until_a_head_is_compared() {
    let f = Fixture::new();
    f.three();
    let head = f.checked().head;
    fs::remove_dir_all(f.state()).unwrap();
    f.intact();
    assert_eq!(find(&f.journal.bytes().unwrap(), &head), Position::Absent(0));
}

#[test]
fn next_entry_does_not_hide_a_truncation() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.split_inclusive('\n').take(2).collect());
    f.note("next");
    assert_eq!(f.checked().comparison, Comparison::Same);
    let problems = f.problems();
    assert_eq!(problems.len(), 1);
    let (tampering, text) = &problems[0];
    assert!(
        *tampering && text.starts_with("found at ") && text.contains("the journal ends with entry 2: entry 3 cut off"),
        "{text}"
    );
    f.note("and another");
    assert_eq!(f.problems().len(), 1, "it stays");
}

#[test]
fn next_entry_does_not_hide_a_removed_database() {
    let f = Fixture::new();
    f.three();
    f.remove_database();
    f.note("next");
    let problems = f.problems();
    assert!(problems.len() == 1 && problems[0].1.contains("has no head, although"), "{problems:?}");
}

#[test]
fn accepted_difference_is_written_and_forgotten() {
    let f = Fixture::new();
    f.three();
    fs::remove_file(f.journal.path()).unwrap();
    f.note("next");
    assert_eq!(f.problems().len(), 1);
    f.journal.accept("restored from a backup").unwrap();
    f.intact();
    assert_eq!(f.journal.entries().unwrap().last().unwrap().body.text, "restored from a backup");
    f.note("later");
    f.intact();
}

#[test]
fn accept_writes_nothing_when_the_database_cannot_keep_it() {
    let f = Fixture::new();
    f.three();
    f.sql("PRAGMA user_version = 99");
    let before = f.journal.bytes().unwrap();
    assert!(f.journal.accept("x").is_err_and(|e| e.to_string().contains("has version 99")));
    assert_eq!(f.journal.bytes().unwrap(), before);
}

#[test]
fn journal_of_an_old_version_is_adopted_once() {
    let f = Fixture::new();
    f.three();
    f.as_old_version();
    f.intact();
    let checked = f.checked();
    assert_eq!(checked.comparison, Comparison::NeverKept);
    let (_, note) = f.journal.report().unwrap();
    assert!(note.is_some_and(|n| n.contains("was kept before")));
    assert_eq!((f.checked().comparison, f.journal.report().unwrap().1), (Comparison::Same, None));
}

#[test]
fn journal_of_an_old_version_continues() {
    let f = Fixture::new();
    f.three();
    f.as_old_version();
    f.note("by the new version");
    f.intact();
    assert_eq!(f.checked().comparison, Comparison::Same);
    f.edit(|text| text.split_inclusive('\n').take(2).collect());
    assert_eq!(f.problems().len(), 1);
}

#[test]
fn head_behind_after_a_kill_is_adopted_by_the_next_report() {
    let f = Fixture::new();
    f.three();
    let old = f.copy_database();
    f.note("killed before the head");
    f.remove_database();
    restore(old);
    assert_eq!(f.journal.report().unwrap().1, None);
    assert_eq!(f.checked().comparison, Comparison::Same);
}

#[test]
fn broken_chain_is_not_adopted() {
    let f = Fixture::new();
    f.three();
    f.as_old_version();
    f.edit(|text| text.replace("hello", "hallo"));
    assert!(f.journal.report().unwrap().0.problem.is_some());
    assert_eq!(f.checked().comparison, Comparison::NeverKept);
}

#[test]
fn locked_database_does_not_prevent_an_entry() {
    let f = Fixture::new();
    f.three();
    let other = rusqlite::Connection::open(f.journal.database()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    f.note("meanwhile");
    drop(other);
    assert!(matches!(f.checked().comparison, Comparison::Ahead { by: 1, .. }));
    f.intact();
    f.note("later");
    assert_eq!(f.checked().comparison, Comparison::Same);
    f.intact();
}

#[test]
fn database_of_a_newer_version_is_unknown() {
    let f = Fixture::new();
    f.three();
    f.sql("PRAGMA user_version = 99");
    f.note("meanwhile");
    let problems = f.problems();
    assert!(problems.len() == 1 && !problems[0].0 && problems[0].1.contains("has version 99"), "{problems:?}");
    f.sql("PRAGMA user_version = 3");
    f.intact();
}

#[test]
fn corrupt_database_is_not_reported_as_tampering() {
    let f = Fixture::new();
    f.three();
    f.remove_database();
    fs::write(f.journal.database(), "not a database file in this case ".repeat(200)).unwrap();
    let problems = f.problems();
    assert!(problems.len() == 1 && !problems[0].0 && problems[0].1.contains("is corrupt"), "{problems:?}");
    // checking moves nothing away
    assert!(f.journal.database().exists());
    f.note("next");
    let problems = f.problems();
    assert!(problems.len() == 1 && !problems[0].0 && problems[0].1.contains("is corrupt"), "{problems:?}");
    f.journal.accept("the disk was full").unwrap();
    f.intact();
}

#[test]
fn database_set_aside_is_not_reported_as_removed() {
    let f = Fixture::new();
    f.three();
    f.remove_database();
    fs::write(f.state().join("state.db.corrupt-1"), "").unwrap();
    let problems = f.problems();
    assert!(problems.len() == 1 && !problems[0].0 && problems[0].1.contains("was corrupt and is now"), "{problems:?}");
}

#[test]
fn head_of_a_report_is_found_again() {
    let f = Fixture::new();
    f.three();
    let (head, note) = f.journal.report().unwrap();
    assert_eq!((head.entries, head.problem.as_deref(), head.signature.as_deref(), note), (3, None, None, None));
    let expected: Head = head.mark().parse().unwrap();
    assert_eq!(find(&f.journal.bytes().unwrap(), &expected), Position::Last);
    f.note("later");
    assert_eq!(find(&f.journal.bytes().unwrap(), &expected), Position::Followed(1));
}

#[test]
fn report_names_the_tampering() {
    let f = Fixture::new();
    f.three();
    fs::remove_file(f.journal.path()).unwrap();
    let (head, note) = f.journal.report().unwrap();
    assert!(head.problem.is_some_and(|p| p.contains("it was removed")));
    let note = note.unwrap();
    assert!(
        note.starts_with("the journal of changes was tampered with (") && note.ends_with("see `opsctl audit verify`"),
        "{note}"
    );
}

#[test]
fn head_is_count_and_hash() {
    let head = Head { entries: 12, hash: "ab".repeat(32) };
    assert_eq!(head.to_string().parse(), Ok(head.clone()));
    assert_eq!(head.to_string().to_uppercase().parse(), Ok(head));
    for wrong in ["", "12", "12:", "x:00", &format!("-1:{}", "0".repeat(64)), &format!("1:{}", "g".repeat(64)), "1:é"] {
        assert!(wrong.parse::<Head>().is_err(), "{wrong}");
    }
}

#[test]
fn entry_number_at_the_limit_of_its_type() {
    let f = Fixture::new();
    f.three();
    f.edit(|text| text.replace("\"seq\":3", &format!("\"seq\":{}", u64::MAX)));
    assert!(!f.faults().is_empty());
    f.note("next");
    assert!(f.checked().broken());
}
