//! Exact output of `opsctl audit` on journals of this version and of 0.1.0. Needs no root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use opsctl::audit::{Body, Head, Journal, Kind};
use opsctl_core::probe::Redactor;

/// A journal and a database written by version 0.1.0.
const OLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/0.1.0");

struct State {
    tmp: tempfile::TempDir,
}

impl State {
    fn new(entries: usize) -> Self {
        let state = Self { tmp: tempfile::tempdir().unwrap() };
        (0..entries).for_each(|n| state.note(&format!("note {n}")));
        state
    }

    fn dir(&self) -> PathBuf {
        self.tmp.path().join("state")
    }

    fn journal(&self) -> Journal {
        Journal::at(&self.dir())
    }

    fn note(&self, text: &str) {
        self.journal().append(Body::new(Kind::Note, text), &Redactor::default()).unwrap();
    }

    fn head(&self) -> String {
        Head::of(&self.journal().bytes().unwrap()).to_string()
    }

    fn first_lines(&self, n: usize) {
        let text = fs::read_to_string(self.journal().path()).unwrap();
        fs::write(self.journal().path(), text.split_inclusive('\n').take(n).collect::<String>()).unwrap();
    }

    fn remove_database(&self) {
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.dir().join(format!("state.db{end}")));
        }
    }

    /// Exit code, standard output with the directory as `S`, and standard error.
    fn opsctl(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_opsctl"));
        command.args(args).stdin(Stdio::null()).env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
        let Output { status, stdout, stderr } = command.env("OPSCTL_STATE_DIR", self.dir()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&self.dir().display().to_string(), "S");
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    #[track_caller]
    fn verify(&self, args: &[&str], code: i32, lines: &[&str]) {
        let (got, out, err) = self.opsctl(&[&["audit", "verify"], args].concat());
        // a user other than root gets one more line
        let out: Vec<&str> = out.lines().filter(|l| !l.starts_with("this is the journal of user ")).collect();
        let lines: Vec<&str> = lines.iter().copied().chain((code == 2).then_some(TO_DO)).collect();
        assert_eq!((got, out, err.as_str()), (code, lines, ""));
    }
}

const TO_DO: &str = "to do: keep a copy of S as evidence; compare the head in reports, mails and metrics that left this host (--head) to date \
                     the change; restore the journal, or `opsctl audit accept REASON` when the change is explained";

fn holds(n: usize) -> String {
    format!("S/journal.jsonl: {n} entries, the chain is intact")
}

#[test]
fn intact_journal_is_verified() {
    let s = State::new(3);
    s.verify(&[], 0, &[&holds(3), &format!("head {}, as recorded in S/state.db", s.head())]);
}

#[test]
fn truncated_journal_is_found() {
    let s = State::new(5);
    let head = s.head();
    s.first_lines(3);
    let found = format!(
        "S/state.db has the head {head}, the journal ends with entry 3: entries 4 to 5 cut off, or the file replaced by an older copy"
    );
    s.verify(&[], 2, &[&holds(3), &found]);
}

#[test]
fn rewritten_journal_is_found() {
    let (s, other) = (State::new(3), State::new(2));
    let head = s.head();
    other.note("a lie");
    fs::copy(other.journal().path(), s.journal().path()).unwrap();
    let hash = s.head().split_once(':').unwrap().1.to_owned();
    let found = format!("S/state.db has the head {head}, entry 3 of the journal has the hash {hash}: the journal was rewritten");
    s.verify(&[], 2, &[&holds(3), &found]);
}

#[test]
fn removed_journal_is_found() {
    let s = State::new(3);
    let head = s.head();
    fs::remove_file(s.journal().path()).unwrap();
    let found = format!("S/state.db has the head {head}, the journal has no entry: it was removed");
    s.verify(&[], 2, &[&holds(0), &found]);
    let (code, shown, _) = s.opsctl(&["audit", "show"]);
    assert!(
        code == 0
            && shown.starts_with("no entry in S/journal.jsonl, which does not exist\nthe journal is incomplete or was altered"),
        "{shown}"
    );
}

#[test]
fn removed_database_is_found() {
    let s = State::new(3);
    s.remove_database();
    let found = "S/state.db has no head, although entries were written while it had one: it was removed or replaced";
    s.verify(&[], 2, &[&holds(3), found]);
}

#[test]
fn removed_journal_and_database_are_found_only_with_a_given_head() {
    let s = State::new(3);
    let head = s.head();
    fs::remove_dir_all(s.dir()).unwrap();
    let nothing = "no journal and no head of one: opsctl changed nothing here, or journal and state database were both removed, which only a \
                   head that left this host shows (--head)";
    s.verify(&[], 0, &[&holds(0), nothing]);
    let found = format!("the head given is {head}, the journal has no entry: it was removed or replaced");
    s.verify(&["--head", &head], 2, &[&holds(0), nothing, &found]);
}

#[test]
fn given_head_is_found_in_a_continued_journal() {
    let s = State::new(2);
    let earlier_head = s.head();
    s.note("later");
    let lines = [
        holds(3),
        format!("head {}, as recorded in S/state.db", s.head()),
        format!("the journal contains the head given, {earlier_head}, and 1 entry after it"),
    ];
    s.verify(&["--head", &earlier_head], 0, &[&lines[0], &lines[1], &lines[2]]);
}

#[test]
fn malformed_head_is_wrong_usage() {
    let (code, out, err) = State::new(1).opsctl(&["audit", "verify", "--head", "12"]);
    assert_eq!((code, out.as_str()), (64, ""));
    assert!(err.contains("`12` is not COUNT:HASH, a number and 64 hex digits, as reports and mails print it"), "{err}");
}

#[test]
fn journal_and_database_of_0_1_0_are_continued() {
    let s = State::new(0);
    fs::create_dir(s.dir()).unwrap();
    fs::set_permissions(s.dir(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(Path::new(OLD).join("journal.jsonl"), s.journal().path()).unwrap();
    let old = rusqlite::Connection::open(s.dir().join("state.db")).unwrap();
    old.execute_batch(&fs::read_to_string(Path::new(OLD).join("state.sql")).unwrap()).unwrap();
    drop(old);
    let (code, shown, _) = s.opsctl(&["audit", "show"]);
    assert!(
        code == 0 && shown.contains("#4 2026-11-30T05:12:19Z outcome of #3 verified  demo.make service:demo  taken back"),
        "{shown}"
    );
    let head = s.head();
    s.verify(&[], 0, &[&holds(4), &format!("head {head}; no head was kept before; S/state.db has it from now on")]);
    s.verify(&[], 0, &[&holds(4), &format!("head {head}, as recorded in S/state.db")]);
    s.note("by this version");
    s.verify(
        &["--head", &head],
        0,
        &[
            &holds(5),
            &format!("head {}, as recorded in S/state.db", s.head()),
            &format!("the journal contains the head given, {head}, and 1 entry after it"),
        ],
    );
    let db = rusqlite::Connection::open(s.dir().join("state.db")).unwrap();
    let kept: i64 = db.query_row("SELECT count(*) FROM episode WHERE code = 'demo.marker'", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1, "history is still there");
}

#[test]
fn keys_are_created_once() {
    let s = State::new(0);
    let path = s.tmp.path().join("journal.key").display().to_string();
    let (code, out, err) = s.opsctl(&["audit", "key", &path]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, err.as_str(), lines.len()), (0, "", 5), "{out}");
    assert_eq!(
        lines[..3],
        [format!("private key: {path}, for the configuration:"), "[audit]".to_owned(), format!("signing_key = \"{path}\"")]
    );
    assert!(lines[3].starts_with(&format!("public key: {path}.pub, or ")), "{out}");
    let before = fs::read(&path).unwrap();
    let (code, out, err) = s.opsctl(&["audit", "key", &path]);
    assert_eq!((code, out.as_str(), fs::read(&path).unwrap()), (70, "", before));
    assert!(err.contains("writing the key") && err.contains("File exists"), "{err}");
}
