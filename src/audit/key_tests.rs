//! Signatures and their key.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::tests::Fixture;
use super::*;

impl Fixture {
    fn key(&self, name: &str) -> (PathBuf, SigningKey) {
        let path = self.dir.path().join(name);
        let (key, _) = SigningKey::create(&path).unwrap();
        (path, key)
    }

    /// A journal with signatures from now on.
    fn signed(&mut self) -> SigningKey {
        let (path, key) = self.key("journal.key");
        self.journal = self.journal.clone().signed_with(Some(&path));
        key
    }

    fn signatures(&self, key: &SigningKey) -> Signatures {
        signatures(&self.journal.bytes().unwrap(), &[key.public().clone()])
    }
}

/// Strips signatures and hashes, and rewrites the chain from `from` on, as an attacker without the key would.
fn rechained(text: &str, from: usize, change: impl Fn(&mut serde_json::Value)) -> String {
    let mut out = Vec::new();
    let mut prev = chain::GENESIS.to_owned();
    for (i, line) in text.lines().enumerate() {
        let mut line = line.to_owned();
        if i >= from {
            let mut json = serde_json::to_value(chain::parse(line.as_bytes()).unwrap()).unwrap();
            json.as_object_mut().unwrap().remove("sig");
            json["prev"] = prev.into();
            change(&mut json);
            line = chain::seal(&json.to_string(), None::<fn(&[u8]) -> String>);
        }
        prev = chain::digest(line.as_bytes());
        out.push(line + "\n");
    }
    out.concat()
}

#[test]
fn entries_are_signed_and_verified() {
    let mut f = Fixture::new();
    let key = f.signed();
    f.three();
    assert_eq!(f.faults(), []);
    assert_eq!(f.signatures(&key), Signatures { good: 3, ..Signatures::default() });
    assert!(f.journal.entries().unwrap()[0].sig.as_ref().unwrap().starts_with(&key.public().id()));
}

#[test]
fn entries_before_the_key_are_covered_by_the_first_signature() {
    let mut f = Fixture::new();
    f.three();
    let key = f.signed();
    f.add(Body::new(Kind::Note, "signed"));
    assert_eq!(f.signatures(&key), Signatures { unsigned: 3, good: 1, ..Signatures::default() });
}

#[test]
fn journal_rewritten_without_the_key() {
    let mut f = Fixture::new();
    let key = f.signed();
    f.three();
    f.edit(|text| rechained(&text, 1, |_| {}));
    assert_eq!(f.faults(), []);
    let found: Vec<_> = f.signatures(&key).faults.into_iter().map(|f| (f.line, f.kind)).collect();
    assert_eq!(found, [(2, FaultKind::Unsigned), (3, FaultKind::Unsigned)]);
}

#[test]
fn unsigned_entry_appended_to_a_signed_journal() {
    let mut f = Fixture::new();
    let key = f.signed();
    f.three();
    Journal::at(f.journal.path().parent().unwrap()).append(Body::new(Kind::Note, "forged"), &Redactor::default()).unwrap();
    assert_eq!(f.signatures(&key).faults, [Fault { line: 4, kind: FaultKind::Unsigned }]);
}

#[test]
fn signature_moved_to_another_entry() {
    let mut f = Fixture::new();
    let key = f.signed();
    f.three();
    let stolen = f.journal.entries().unwrap()[0].sig.clone().unwrap();
    f.edit(|text| {
        let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
        let open = last.rsplit_once(",\"sig\":").unwrap().0;
        format!("{before}\n{}\n", chain::seal(open, Some(|_: &[u8]| stolen.clone())))
    });
    assert_eq!(f.faults(), []);
    assert_eq!(f.signatures(&key).faults, [Fault { line: 3, kind: FaultKind::Forged { key: key.public().id() } }]);
}

#[test]
fn entries_signed_with_another_key_are_counted_by_its_id() {
    let mut f = Fixture::new();
    let (other, other_key) = f.key("other.key");
    let key = f.signed();
    f.add(Body::new(Kind::Note, "right"));
    f.journal = f.journal.clone().signed_with(Some(&other));
    f.add(Body::new(Kind::Note, "other"));
    let found = f.signatures(&key);
    assert_eq!((found.good, found.unknown), (1, [(other_key.public().id(), 1)].into()));
}

#[test]
fn head_of_a_report_is_signed() {
    let mut f = Fixture::new();
    let key = f.signed();
    f.three();
    let (head, note) = f.journal.report().unwrap();
    let mark = head.signature.unwrap();
    let head = Head { entries: head.entries, hash: head.head };
    assert!(note.is_none() && key.public().verifies_head(&head, &mark));
    assert!(!key.public().verifies_head(&Head { entries: 2, ..head }, &mark));
}

#[test]
fn unreadable_key_prevents_an_entry() {
    let mut f = Fixture::new();
    f.three();
    f.journal = f.journal.clone().signed_with(Some(Path::new("/nonexistent/journal.key")));
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let error = f.journal.append(Body::new(Kind::Note, "x"), &Redactor::default()).unwrap_err().to_string();
    assert!(error.contains("reading the signing key /nonexistent/journal.key"), "{error}");
    assert_eq!(f.journal.entries().unwrap().len(), 3);
}

#[test]
fn key_files_are_readable_by_their_owner_only() {
    let f = Fixture::new();
    let (path, key) = f.key("journal.key");
    let mode = |p: &Path| fs::metadata(p).unwrap().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let public = f.dir.path().join("journal.key.pub");
    assert_eq!(PublicKey::read(public.to_str().unwrap()).as_ref(), Ok(key.public()));
    assert_eq!(PublicKey::read(&key.public().hex()).as_ref(), Ok(key.public()));
    assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
}

#[test]
fn existing_private_key_is_not_overwritten() {
    let f = Fixture::new();
    let (path, _) = f.key("journal.key");
    let before = fs::read(&path).unwrap();
    fs::remove_file(f.dir.path().join("journal.key.pub")).unwrap();
    assert!(SigningKey::create(&path).is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!f.dir.path().join("journal.key.pub").exists(), "no half of a pair is left behind");
}

#[test]
fn existing_public_key_is_not_overwritten() {
    let f = Fixture::new();
    fs::write(f.dir.path().join("journal.key.pub"), "mine").unwrap();
    assert!(SigningKey::create(&f.dir.path().join("journal.key")).is_err());
    assert!(!f.dir.path().join("journal.key").exists());
    assert_eq!(fs::read(f.dir.path().join("journal.key.pub")).unwrap(), b"mine");
}

#[track_caller]
fn refused(path: &Path, why: &str) {
    let error = SigningKey::load(path).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn key_readable_by_others_is_rejected() {
    let f = Fixture::new();
    let (path, _) = f.key("journal.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    refused(&path, "others may read or write it (mode 640); chmod 600 it");
}

#[test]
fn key_in_a_writable_directory_is_rejected() {
    let f = Fixture::new();
    fs::create_dir_all(f.dir.path().join("a/b")).unwrap();
    let (path, _) = f.key("a/b/journal.key");
    fs::set_permissions(f.dir.path().join("a"), fs::Permissions::from_mode(0o777)).unwrap();
    refused(&path, "others may write to the directory");
    assert!(SigningKey::create(&f.dir.path().join("a/b/other.key")).is_err());
}

#[test]
fn key_of_another_user_is_rejected() {
    let f = Fixture::new();
    let (path, _) = f.key("journal.key");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        refused(&path, "it belongs to user 65534, opsctl runs as user 0");
    }
}

#[test]
fn key_in_a_directory_of_another_user_is_rejected() {
    let f = Fixture::new();
    fs::create_dir(f.dir.path().join("theirs")).unwrap();
    let (path, _) = f.key("theirs/journal.key");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(f.dir.path().join("theirs"), Some(65534), None).unwrap();
        refused(&path, "belongs to user 65534, not to root");
    }
}

#[test]
fn link_to_a_key_is_rejected() {
    let f = Fixture::new();
    let (path, _) = f.key("journal.key");
    symlink(&path, f.dir.path().join("link")).unwrap();
    refused(&f.dir.path().join("link"), "reading the signing key");
}

#[test]
fn link_to_the_directory_of_a_key_is_rejected() {
    let f = Fixture::new();
    fs::create_dir(f.dir.path().join("real")).unwrap();
    f.key("real/journal.key");
    symlink(f.dir.path().join("real"), f.dir.path().join("link")).unwrap();
    refused(&f.dir.path().join("link/journal.key"), "is a symbolic link or no directory");
}

#[test]
fn pipe_instead_of_a_key_does_not_hang() {
    let f = Fixture::new();
    let path = f.dir.path().join("journal.key");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    refused(&path, "it is not a regular file");
}

#[test]
fn key_of_openssl_is_read() {
    // openssl genpkey -algorithm ed25519, version 1 of PKCS#8; RFC 8410, section 10.3
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str =
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let f = Fixture::new();
    let (path, public) = (f.dir.path().join("openssl.key"), f.dir.path().join("openssl.pub"));
    fs::write(&path, PEM).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&public, PUBLIC).unwrap();
    assert_eq!(Ok(SigningKey::load(&path).unwrap().public()), PublicKey::read(public.to_str().unwrap()).as_ref());
}

#[test]
fn invalid_key_file_is_rejected() {
    let f = Fixture::new();
    let path = f.dir.path().join("journal.key");
    fs::write(&path, "hello").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&path, "it is no PKCS#8 file with an Ed25519 key");
    for text in ["", "abc", &"g".repeat(64), path.to_str().unwrap(), "/nonexistent"] {
        assert!(PublicKey::read(text).is_err(), "{text}");
    }
}
