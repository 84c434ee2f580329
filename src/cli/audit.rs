//! `opsctl audit`: the journal of changes to this host.

#![allow(clippy::disallowed_methods, reason = "files of the state directory, which no other user can change")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::bail;
use opsctl_core::model::printable;

use super::exit;
use crate::audit::{self, Checked, Comparison, Entry, Fault, Head, Journal, Kind, Position, Problem, PublicKey, SigningKey};
use crate::config::{Config, ConfigEnvironment};

/// Show and verify the journal of changes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Subcommand. Default: show
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the journal, oldest entry first
    Show {
        /// Only the last N entries
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        /// Format on standard output
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Find entries that were edited, removed, added, exchanged or cut off, and a journal that was rewritten or removed
    ///
    /// The journal is a chain of hashes, and the state database keeps its head: number and hash of the last entry. Root of this host can change
    /// both; a head in a report or mail that left the host shows that (--head).
    ///
    /// Exit codes: 0 the journal is intact, 2 it was tampered with, 3 it could not be compared with a head that was kept, or holds signatures
    /// of a key that is not known, 77 it cannot be read by this user.
    Verify(Verify),
    /// Accept a difference that was explained, and keep the present head of the journal from now on
    ///
    /// The reason is written to the journal. Lines that were edited or removed cannot be accepted: move the file away and keep it as evidence,
    /// then accept that it is missing.
    Accept {
        /// Reason of the difference, for example "restored from the backup of Monday"
        reason: String,
    },
    /// Create an Ed25519 key pair for signatures: FILE with the private key (mode 600) and FILE.pub; neither may exist
    Key {
        /// File of the private key: an absolute path in directories that only root can write
        file: PathBuf,
    },
}

#[derive(Debug, Default, clap::Args)]
struct Verify {
    /// Compare with a head that a report, mail or metric of this host contains; with or without its signature
    #[arg(long, value_name = "COUNT:HASH")]
    head: Option<ExpectedHead>,
    /// Verify signatures with this public key: a file or 64 hex digits; can be given several times. Default: that of the configuration
    #[arg(long, value_name = "PUBLIC", value_parser = PublicKey::read)]
    key: Vec<PublicKey>,
    /// Verify a copy of a journal; it is not compared with the state database of this host
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A head given on the command line.
#[derive(Debug, Clone)]
struct ExpectedHead {
    head: Head,
    /// Id of the key and signature.
    signature: Option<String>,
}

impl FromStr for ExpectedHead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // COUNT:HASH:KEY:SIGNATURE
        let end = text.match_indices(':').nth(1).map_or(text.len(), |(at, _)| at);
        let (head, signature) = text.split_at(end);
        Ok(Self { head: head.parse()?, signature: signature.strip_prefix(':').map(str::to_owned) })
    }
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Table,
    Json,
}

/// Path of root's journal without a configuration.
const ROOT_JOURNAL: &str = "/var/lib/opsctl/journal.jsonl";

/// Runs the subcommand.
pub fn exec(args: &Args, config: &Config) -> anyhow::Result<u8> {
    let environment = ConfigEnvironment::of_process();
    let key = config.signing_key.as_deref();
    let journal = Journal::at(&environment.state_dir(config.state_dir.as_deref())).signed_with(key);
    let out = &mut std::io::stdout().lock();
    let result = match args.command.as_ref().unwrap_or(&Command::Show { last: None, format: Format::Table }) {
        Command::Show { last, format } => show(&journal, *last, *format, environment.root, out),
        Command::Verify(verify) => verify.run(&journal, key.filter(|_| environment.root), environment.root, out),
        Command::Accept { reason } => accept(&journal, reason, out),
        Command::Key { file } => create_key(file, out),
    };
    result.map_err(|e| match e.downcast_ref::<audit::JournalError>() {
        Some(denied) if denied.is_permission() && !environment.root => {
            e.context("this needs root, for example `sudo opsctl audit`")
        }
        _ => e,
    })
}

fn show(journal: &Journal, last: Option<usize>, format: Format, root: bool, out: &mut dyn Write) -> anyhow::Result<u8> {
    let entries = journal.entries()?;
    let shown = &entries[entries.len().saturating_sub(last.unwrap_or(usize::MAX))..];
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(shown)?)?,
        Format::Table if shown.is_empty() => writeln!(out, "no entry in {}", path_text(journal))?,
        Format::Table => {
            for entry in shown {
                writeln!(out, "{}", row(entry))?;
            }
        }
    }
    let mut remarks = Vec::new();
    if let Some(problem) = journal.check()?.problems(&journal.database()).first() {
        remarks.push(format!("the journal is incomplete or was altered: {}; see `opsctl audit verify`", problem.text));
    }
    remarks.extend(owner_note(journal, root));
    for remark in remarks {
        // JSON is exactly one document
        match format {
            Format::Json => writeln!(std::io::stderr().lock(), "opsctl: {}", printable(&remark))?,
            Format::Table => writeln!(out, "{}", printable(&remark))?,
        }
    }
    Ok(exit::OK)
}

/// The path of the journal, and whether the file exists.
fn path_text(journal: &Journal) -> String {
    let path = journal.path().display();
    if journal.path().exists() { path.to_string() } else { format!("{path}, which does not exist") }
}

/// For a user other than root: the owner of this journal, and the path of root's.
fn owner_note(journal: &Journal, root: bool) -> Option<String> {
    let other = !root && journal.path() != Path::new(ROOT_JOURNAL);
    other.then(|| {
        format!(
            "this is the journal of user {}, {}; changes by root are in root's journal ({ROOT_JOURNAL}), which only root can read: `sudo opsctl audit`",
            rustix::process::geteuid().as_raw(),
            journal.path().display()
        )
    })
}

/// `#12 2026-11-21T04:00:00Z outcome of #11 verified  container.start container:web  text (uid 0, sudo by alice)`
fn row(entry: &Entry) -> String {
    use std::fmt::Write as _;
    let body = &entry.body;
    let at = entry.at.round(jiff::Unit::Second).unwrap_or(entry.at);
    let mut row = format!("#{} {at} {}", entry.seq, body.kind);
    // writing to a string cannot fail
    let _ = body.of.map_or(Ok(()), |of| write!(row, " of #{of}"));
    let _ = body.ending.map_or(Ok(()), |ending| write!(row, " {ending}"));
    let _ = body.fix.as_ref().map_or(Ok(()), |fix| write!(row, "  {fix}"));
    let _ = body.subject.as_ref().map_or(Ok(()), |subject| write!(row, " {subject}"));
    if body.kind == Kind::Intent {
        let actions = body.plan.iter().flat_map(|p| &p.actions).map(ToString::to_string).collect::<Vec<_>>();
        let _ = write!(row, "  {}", actions.join("; "));
    }
    if !body.text.is_empty() {
        let _ = write!(row, "  {}", body.text);
    }
    let sudo = entry.by.sudo_user.as_ref().map(|u| format!(", sudo by {u}")).unwrap_or_default();
    let _ = write!(row, "  (uid {}{sudo})", entry.by.uid);
    printable(&row)
}

/// The lines that `opsctl audit verify` prints, and its exit code so far.
struct Outcome<'a> {
    out: &'a mut dyn Write,
    code: u8,
}

impl Outcome<'_> {
    fn line(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "{}", printable(text))
    }

    /// Tampering takes precedence over a failed comparison.
    fn problem(&mut self, tampering: bool, text: &str) -> std::io::Result<()> {
        self.code = match (tampering, self.code) {
            (true, _) => 2,
            (false, exit::OK) => exit::UNKNOWN,
            (false, code) => code,
        };
        self.line(text)
    }
}

impl Verify {
    /// `configured` is the signing key of the configuration.
    fn run(&self, journal: &Journal, configured: Option<&Path>, root: bool, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut outcome = Outcome { out, code: exit::OK };
        let bytes = if let Some(copy) = &self.file {
            let bytes = audit::read_copy(copy)?;
            let (entries, faults) = audit::verify(&bytes);
            chain(copy, &bytes, entries, &faults, &mut outcome)?;
            let head = Head::of(&bytes);
            outcome.line(&format!("head {head}; a copy is not compared with the state database of this host"))?;
            bytes
        } else {
            let checked = journal.check()?;
            chain(journal.path(), &checked.bytes, checked.entries, &checked.faults, &mut outcome)?;
            compare_head(journal, &checked, &mut outcome)?;
            checked.bytes
        };
        let keys = self.keys(configured, &mut outcome)?;
        self.signatures(&bytes, &keys, &mut outcome)?;
        self.verify_head(&bytes, &keys, &mut outcome)?;
        if let (None, Some(text)) = (&self.file, owner_note(journal, root)) {
            outcome.line(&text)?;
        }
        if outcome.code == 2 {
            let directory = self.file.as_deref().unwrap_or(journal.path()).parent().unwrap_or(Path::new("/")).display();
            outcome.line(&format!(
                "to do: keep a copy of {directory} as evidence; compare the head in reports, mails and metrics that left this host (--head) to \
                 date the change; restore the journal, or `opsctl audit accept REASON` when the change is explained"
            ))?;
        }
        Ok(outcome.code)
    }

    /// The keys that signatures are verified with.
    fn keys(&self, configured: Option<&Path>, outcome: &mut Outcome<'_>) -> anyhow::Result<Vec<PublicKey>> {
        if !self.key.is_empty() {
            return Ok(self.key.clone());
        }
        match configured.map(SigningKey::load).transpose() {
            Ok(key) => Ok(key.map(|key| key.public().clone()).into_iter().collect()),
            Err(e) => {
                outcome.problem(false, &format!("signatures are not verified: {e}"))?;
                Ok(Vec::new())
            }
        }
    }

    fn signatures(&self, bytes: &[u8], keys: &[PublicKey], outcome: &mut Outcome<'_>) -> anyhow::Result<()> {
        let found = audit::signatures(bytes, keys);
        for fault in &found.faults {
            outcome.problem(true, &fault.to_string())?;
        }
        let before = if found.unsigned > 0 { format!(", {} before them unsigned", found.unsigned) } else { String::new() };
        if found.good > 0 {
            outcome.line(&format!("signatures: {} verified{before}", entries_of(found.good)))?;
        }
        for (id, n) in &found.unknown {
            let text = format!(
                "signatures: {} signed with key {id}, and its public key is not known here (--key PUBLIC)",
                entries_of(*n)
            );
            // keys of the command line exclude all others
            if self.key.is_empty() && keys.is_empty() {
                outcome.line(&text)?;
            } else {
                outcome.problem(!self.key.is_empty(), &text)?;
            }
        }
        if found.good == 0 && found.unknown.is_empty() && found.faults.is_empty() && !keys.is_empty() {
            // a key that was configured a moment ago has not signed an entry yet
            let text = format!("signatures: none of {} is signed", entries_of(found.unsigned));
            if self.key.is_empty() { outcome.line(&text)? } else { outcome.problem(true, &text)? }
        }
        Ok(())
    }

    /// The head of the command line.
    fn verify_head(&self, bytes: &[u8], keys: &[PublicKey], outcome: &mut Outcome<'_>) -> anyhow::Result<()> {
        let Some(expected) = &self.head else { return Ok(()) };
        let head = &expected.head;
        match &expected.signature {
            None => {}
            Some(mark) if keys.iter().any(|key| key.verifies_head(head, mark)) => {
                outcome.line("the head given is signed with a key of this journal")?;
            }
            Some(_) if keys.is_empty() => outcome.line("the signature of the head given is not verified (--key PUBLIC)")?,
            Some(_) => outcome.problem(true, "the head given is not signed with a key of this journal: it may be forged")?,
        }
        let n = head.entries;
        match audit::find(bytes, head) {
            Position::Last => outcome.line(&format!("the journal ends with the head given, {head}"))?,
            Position::Followed(by) => {
                outcome.line(&format!("the journal contains the head given, {head}, and {} after it", entries_of(by)))?;
            }
            Position::Absent(last) => {
                let text = match last {
                    0 => format!("the head given is {head}, the journal has no entry: it was removed or replaced"),
                    last if last < n => {
                        format!(
                            "the head given is {head}, the journal ends with entry {last}: it was cut off or replaced by an older copy"
                        )
                    }
                    _ => format!("the head given is {head}, the journal has no entry {n}: it was removed"),
                };
                outcome.problem(true, &text)?;
            }
            Position::Differs(found) => {
                let text =
                    format!("the head given is {head}, entry {n} of the journal has the hash {found}: the journal was rewritten");
                outcome.problem(true, &text)?;
            }
        }
        Ok(())
    }
}

/// The lines of the journal.
fn chain(path: &Path, bytes: &[u8], entries: usize, faults: &[Fault], outcome: &mut Outcome<'_>) -> anyhow::Result<()> {
    for fault in faults {
        if fault.kind.is_tampering() {
            outcome.problem(true, &fault.to_string())?;
        } else {
            outcome.line(&fault.to_string())?;
        }
    }
    let path = path.display();
    let count = entries_of(entries);
    if outcome.code != exit::OK {
        outcome.line(&format!("{path}: {count}, the chain is broken"))?;
    } else if entries == 0 && !bytes.is_empty() && faults.is_empty() {
        bail!("{path} is not a journal");
    } else {
        outcome.line(&format!("{path}: {count}, the chain is intact"))?;
    }
    Ok(())
}

/// The journal and the head that was kept.
fn compare_head(journal: &Journal, checked: &Checked, outcome: &mut Outcome<'_>) -> anyhow::Result<()> {
    let db = journal.database();
    let head = &checked.head;
    let shown = db.display();
    match &checked.comparison {
        Comparison::Nothing => {
            outcome.line(
                "no journal and no head of one: opsctl changed nothing here, or journal and state database were both removed, which only a \
                 head that left this host shows (--head)",
            )?;
        }
        Comparison::Same => outcome.line(&format!("head {head}, as recorded in {shown}"))?,
        Comparison::Ahead { kept, by } => {
            let now = if journal.adopt(checked) { "; it now has the new head" } else { "" };
            outcome.line(&format!(
                "head {head}; {shown} has the head of entry {}, {} after it chain on to it: opsctl was killed before it kept the new head, or \
                 could not write the database{now}",
                kept.entries,
                entries_of(*by)
            ))?;
        }
        Comparison::NeverKept => {
            let now = if journal.adopt(checked) { format!("; {shown} has it from now on") } else { String::new() };
            outcome.line(&format!("head {head}; no head was kept before{now}"))?;
        }
        _ => {}
    }
    // those of the lines are printed already
    let lines = checked.faults.iter().filter(|f| f.kind.is_tampering()).count();
    for Problem { tampering, text } in checked.problems(&db).into_iter().skip(lines) {
        outcome.problem(tampering, &text)?;
    }
    Ok(())
}

fn entries_of(n: usize) -> String {
    if n == 1 { "1 entry".to_owned() } else { format!("{n} entries") }
}

fn accept(journal: &Journal, reason: &str, out: &mut dyn Write) -> anyhow::Result<u8> {
    let checked = journal.check()?;
    if let Some(fault) = checked.faults.iter().find(|f| f.kind.is_tampering()) {
        let path = journal.path().display();
        bail!("{fault}: lines of a journal cannot be accepted; move {path} away as evidence, then accept that it is missing");
    }
    let problems = checked.problems(&journal.database());
    if problems.is_empty() {
        writeln!(out, "nothing to accept: {} is unchanged", journal.path().display())?;
        return Ok(exit::OK);
    }
    let found: Vec<&str> = problems.iter().map(|p| p.text.as_str()).collect();
    let receipt = journal.accept(&format!("journal accepted: {reason} ({})", found.join("; ")))?;
    writeln!(out, "accepted with entry {}; `opsctl audit verify` compares with its head", receipt.seq())?;
    Ok(exit::OK)
}

fn create_key(file: &Path, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (key, public) = SigningKey::create(file)?;
    writeln!(out, "private key: {}, for the configuration:", printable(&file.display().to_string()))?;
    writeln!(out, "[audit]\nsigning_key = {}", toml::Value::from(file.display().to_string()))?;
    writeln!(out, "public key: {}, or {}", printable(&public.display().to_string()), key.public().hex())?;
    writeln!(out, "key id: {}; keep the public key outside this host, for `opsctl audit verify --key`", key.public().id())?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use opsctl_core::probe::Redactor;

    use super::*;
    use crate::audit::Body;

    struct Fixture {
        dir: tempfile::TempDir,
        journal: Journal,
    }

    impl Fixture {
        fn new(notes: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let journal = Journal::at(&dir.path().join("s"));
            let f = Self { dir, journal };
            (0..notes).for_each(|i| f.note(&format!("note {i}\x1b[31m")));
            f
        }

        fn note(&self, text: &str) {
            self.journal.append(Body::new(Kind::Note, text), &Redactor::default()).unwrap();
        }

        /// Exit code and lines, the directory as `S` and hashes as `HASH`.
        fn text(&self, run: impl FnOnce(&mut dyn Write) -> anyhow::Result<u8>) -> (u8, String) {
            let mut out = Vec::new();
            let code = run(&mut out).unwrap();
            let text = String::from_utf8(out).unwrap().replace(&self.dir.path().join("s").display().to_string(), "S");
            let hash = regex::Regex::new("[0-9a-f]{64}").unwrap();
            (code, hash.replace_all(&text, "HASH").into_owned())
        }

        fn verify(&self, verify: &Verify) -> (u8, String) {
            self.text(|out| verify.run(&self.journal, None, true, out))
        }

        fn show(&self, last: Option<usize>, format: Format, root: bool) -> String {
            self.text(|out| show(&self.journal, last, format, root, out)).1
        }

        fn head(&self) -> ExpectedHead {
            self.journal.report().unwrap().0.mark().parse().unwrap()
        }

        fn truncate(&self, lines: usize) {
            let text = std::fs::read_to_string(self.journal.path()).unwrap();
            std::fs::write(self.journal.path(), text.split_inclusive('\n').take(lines).collect::<String>()).unwrap();
        }
    }

    const REMEDY: &str = "to do: keep a copy of S as evidence; compare the head in reports, mails and metrics that left this host (--head) to \
                         date the change; restore the journal, or `opsctl audit accept REASON` when the change is explained\n";

    #[test]
    fn rows_are_printable() {
        let f = Fixture::new(3);
        let shown = f.show(Some(2), Format::Table, true);
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.contains("#3 ") && shown.contains("note  note 1\\u{1b}[31m  (uid "), "{shown}");
    }

    #[test]
    fn json_is_one_document() {
        let f = Fixture::new(3);
        assert_eq!(serde_json::from_str::<Vec<Entry>>(&f.show(None, Format::Json, false)).unwrap().len(), 3);
    }

    #[test]
    fn absent_journal_names_the_file_that_was_read() {
        assert_eq!(Fixture::new(0).show(None, Format::Table, true), "no entry in S/journal.jsonl, which does not exist\n");
    }

    #[test]
    fn user_journal_is_labelled_as_such() {
        let shown = Fixture::new(0).show(None, Format::Table, false);
        let second = shown.lines().nth(1).unwrap();
        assert!(
            second.starts_with("this is the journal of user ")
                && second.contains("which only root can read: `sudo opsctl audit`")
        );
    }

    #[test]
    fn removed_journal_is_not_shown_as_empty() {
        let f = Fixture::new(2);
        std::fs::remove_file(f.journal.path()).unwrap();
        let shown = f.show(None, Format::Table, true);
        assert!(
            shown.contains("the journal is incomplete or was altered")
                && shown.contains("the journal has no entry: it was removed"),
            "{shown}"
        );
    }

    #[test]
    fn verified_journal() {
        let f = Fixture::new(3);
        let text = "S/journal.jsonl: 3 entries, the chain is intact\nhead 3:HASH, as recorded in S/state.db\n";
        assert_eq!(f.verify(&Verify::default()), (0, text.to_owned()));
    }

    #[test]
    fn nothing_to_verify() {
        let f = Fixture::new(0);
        let text = "S/journal.jsonl: 0 entries, the chain is intact\nno journal and no head of one: opsctl changed nothing here, or journal and \
                    state database were both removed, which only a head that left this host shows (--head)\n";
        assert_eq!(f.verify(&Verify::default()), (0, text.to_owned()));
    }

    #[test]
    fn edited_journal() {
        let f = Fixture::new(3);
        let edited = std::fs::read_to_string(f.journal.path()).unwrap().replace("note 1", "note 7");
        std::fs::write(f.journal.path(), edited).unwrap();
        let text = "line 2: edited after it was written\nS/journal.jsonl: 3 entries, the chain is broken\nhead 3:HASH, as recorded in S/state.db\n";
        assert_eq!(f.verify(&Verify::default()), (2, format!("{text}{REMEDY}")));
    }

    #[test]
    fn truncated_journal() {
        let f = Fixture::new(3);
        f.truncate(2);
        let text = "S/journal.jsonl: 2 entries, the chain is intact\nS/state.db has the head 3:HASH, the journal ends with entry 2: entry 3 cut \
                    off, or the file replaced by an older copy\n";
        assert_eq!(f.verify(&Verify::default()), (2, format!("{text}{REMEDY}")));
    }

    #[test]
    fn torn_line_raises_no_alarm() {
        let f = Fixture::new(2);
        let text = std::fs::read_to_string(f.journal.path()).unwrap();
        std::fs::write(f.journal.path(), text + "{\"seq\":3,").unwrap();
        let text = "line 3: torn by a crash; the chain continues\nS/journal.jsonl: 2 entries, the chain is intact\n\
                    head 2:HASH, as recorded in S/state.db\n";
        assert_eq!(f.verify(&Verify::default()), (0, text.to_owned()));
    }

    #[test]
    fn file_of_another_kind_is_rejected() {
        let f = Fixture::new(1);
        std::fs::write(f.dir.path().join("other"), "{").unwrap();
        let verify = |file: &str| Verify { file: Some(f.dir.path().join(file)), ..Verify::default() };
        assert_eq!(f.verify(&verify("other")).0, 0, "only an incomplete line");
        std::fs::write(f.dir.path().join("other"), "hello\n").unwrap();
        assert_eq!(f.verify(&verify("other")).0, 2);
        let missing = verify("missing").run(&f.journal, None, true, &mut Vec::new());
        assert!(missing.is_err_and(|e| e.to_string().contains("missing: No such file")));
    }

    #[test]
    fn given_head_equals_the_last_entry() {
        let f = Fixture::new(3);
        let (code, text) = f.verify(&Verify { head: Some(f.head()), ..Verify::default() });
        assert_eq!((code, text.lines().last()), (0, Some("the journal ends with the head given, 3:HASH")));
    }

    #[test]
    fn given_head_with_later_entries() {
        let f = Fixture::new(3);
        let head = f.head();
        f.note("later");
        let (code, text) = f.verify(&Verify { head: Some(head), ..Verify::default() });
        assert_eq!((code, text.lines().last()), (0, Some("the journal contains the head given, 3:HASH, and 1 entry after it")));
    }

    #[test]
    fn given_head_of_a_removed_state_directory() {
        let f = Fixture::new(3);
        let head = f.head();
        std::fs::remove_dir_all(f.dir.path().join("s")).unwrap();
        let (code, text) = f.verify(&Verify { head: Some(head), ..Verify::default() });
        let line = "the head given is 3:HASH, the journal has no entry: it was removed or replaced";
        assert_eq!((code, text.lines().nth(2)), (2, Some(line)));
    }

    #[test]
    fn given_head_of_a_journal_and_database_that_were_rewritten() {
        let f = Fixture::new(3);
        let head = f.head();
        std::fs::remove_dir_all(f.dir.path().join("s")).unwrap();
        (0..3).for_each(|_| f.note("forged"));
        assert_eq!(f.verify(&Verify::default()).0, 0, "not detectable on this host");
        let (code, text) = f.verify(&Verify { head: Some(head), ..Verify::default() });
        let line = "the head given is 3:HASH, entry 3 of the journal has the hash HASH: the journal was rewritten";
        assert_eq!((code, text.lines().nth(2)), (2, Some(line)));
    }

    #[test]
    fn copy_of_a_journal_is_verified_elsewhere() {
        let f = Fixture::new(3);
        let copy = f.dir.path().join("copy");
        std::fs::copy(f.journal.path(), &copy).unwrap();
        let other = Fixture::new(0);
        let (code, text) = other.verify(&Verify { file: Some(copy), head: Some(f.head()), key: vec![] });
        assert_eq!((code, text.lines().last()), (0, Some("the journal ends with the head given, 3:HASH")));
        assert!(text.contains("a copy is not compared with the state database of this host"), "{text}");
    }

    #[test]
    fn signed_journal_and_head() {
        let mut f = Fixture::new(1);
        let (key, _) = SigningKey::create(&f.dir.path().join("key")).unwrap();
        f.journal = f.journal.clone().signed_with(Some(&f.dir.path().join("key")));
        f.note("signed");
        let with = |key: &SigningKey| Verify { key: vec![key.public().clone()], head: Some(f.head()), file: None };
        let (code, text) = f.verify(&with(&key));
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let expected = [
            "signatures: 1 entry verified, 1 before them unsigned",
            "the head given is signed with a key of this journal",
            "the journal ends with the head given, 2:HASH",
        ];
        assert_eq!((code, lines), (0, expected.to_vec()));
        let (other, _) = SigningKey::create(&f.dir.path().join("other")).unwrap();
        let (code, text) = f.verify(&with(&other));
        assert!(code == 2 && text.contains("its public key is not known here"), "{text}");
        assert!(text.contains("the head given is not signed with a key of this journal: it may be forged"), "{text}");
    }

    #[test]
    fn signatures_without_a_key_raise_no_alarm() {
        let mut f = Fixture::new(0);
        SigningKey::create(&f.dir.path().join("key")).unwrap();
        f.journal = f.journal.clone().signed_with(Some(&f.dir.path().join("key")));
        f.note("signed");
        let (code, text) = f.verify(&Verify::default());
        assert!(code == 0 && text.contains("signatures: 1 entry signed with key "), "{text}");
    }

    #[test]
    fn unsigned_journal_with_a_newly_configured_key() {
        let f = Fixture::new(2);
        let path = f.dir.path().join("key");
        let (key, _) = SigningKey::create(&path).unwrap();
        let (code, text) = f.text(|out| Verify::default().run(&f.journal, Some(&path), true, out));
        assert_eq!((code, text.lines().last()), (0, Some("signatures: none of 2 entries is signed")));
        // a key given on the command line must have signed at least one entry
        assert_eq!(f.verify(&Verify { key: vec![key.public().clone()], ..Verify::default() }).0, 2);
    }

    #[test]
    fn configured_key_that_cannot_be_read_is_unknown() {
        let f = Fixture::new(2);
        let (code, text) = f.text(|out| Verify::default().run(&f.journal, Some(Path::new("/nonexistent/key")), true, out));
        assert!(code == 3 && text.contains("signatures are not verified: reading the signing key /nonexistent/key"), "{text}");
    }

    #[test]
    fn explained_difference_is_accepted() {
        let f = Fixture::new(3);
        f.truncate(1);
        assert_eq!(f.verify(&Verify::default()).0, 2);
        let (code, text) = f.text(|out| accept(&f.journal, "backup", out));
        assert_eq!((code, text.as_str()), (0, "accepted with entry 2; `opsctl audit verify` compares with its head\n"));
        let shown = f.show(Some(1), Format::Table, true);
        assert!(shown.contains("journal accepted: backup (S/state.db has the head 3:HASH, the journal ends with"), "{shown}");
        assert_eq!(f.verify(&Verify::default()).0, 0);
        assert_eq!(f.text(|out| accept(&f.journal, "x", out)).1, "nothing to accept: S/journal.jsonl is unchanged\n");
    }

    #[test]
    fn edited_lines_are_not_accepted() {
        let f = Fixture::new(3);
        let edited = std::fs::read_to_string(f.journal.path()).unwrap().replace("note 1", "note 7");
        std::fs::write(f.journal.path(), edited).unwrap();
        let error = accept(&f.journal, "x", &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("lines of a journal cannot be accepted; move "), "{error}");
        std::fs::rename(f.journal.path(), f.dir.path().join("evidence")).unwrap();
        assert_eq!(f.text(|out| accept(&f.journal, "x", out)).0, 0);
        assert_eq!(f.verify(&Verify::default()).0, 0);
    }

    #[test]
    fn given_head_is_count_hash_and_optional_signature() {
        let hash = "0".repeat(64);
        let expected: ExpectedHead = format!("7:{hash}:0123456789abcdef:ff").parse().unwrap();
        assert_eq!((expected.head.entries, expected.signature.as_deref()), (7, Some("0123456789abcdef:ff")));
        assert!("7".parse::<ExpectedHead>().is_err() && format!("{hash}:7").parse::<ExpectedHead>().is_err());
    }
}
