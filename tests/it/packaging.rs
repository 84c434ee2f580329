//! The files of a release: built twice, installed, and refused after a change. No root and no network.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::lab::{available, installed};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A program in place of the static binary: the installation runs `opsctl --version`.
const PROGRAM: &str = "#include <stdio.h>\nint main(void) { puts(\"opsctl 0.1.0\"); return 0; }\n";

/// Exit codes of `packaging/release` and `install.sh`.
const USAGE: i32 = 64;
const REFUSED: i32 = 65;

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Compiles a C program; the error is the compiler's.
fn compile(source: &str, options: &[&str], to: &Path) -> Result<(), String> {
    let mut command = Command::new("cc");
    command.args(options).args(["-x", "c", "-", "-o"]).arg(to).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut compiler = command.spawn().map_err(|e| format!("cc: {e}"))?;
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = compiler.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Whether the program could be compiled statically; skips the test otherwise.
fn compile_static(source: &str, to: &Path) -> bool {
    if !installed(&["cc", "readelf"]) {
        return false;
    }
    let why = compile(source, &["-static"], to).err().map(|e| format!("needs a static C library: {e}"));
    available(why.as_deref())
}

/// A directory with a key, a static program, and the release of both.
struct Release {
    dir: tempfile::TempDir,
}

impl Release {
    fn of(source: &str) -> Option<Self> {
        if !installed(&["ssh-keygen", "tar", "sha256sum", "gzip"]) {
            return None;
        }
        let release = Self { dir: tempfile::tempdir().unwrap() };
        if !compile_static(source, &release.path("program")) {
            return None;
        }
        release.new_key("key");
        release.build("release");
        Some(release)
    }

    /// A release as it is published.
    fn signed() -> Option<Self> {
        Self::of(PROGRAM)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    fn new_key(&self, name: &str) {
        succeeds(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(self.path(name)));
    }

    #[track_caller]
    fn build(&self, output: &str) {
        let mut command = Command::new(Path::new(ROOT).join("packaging/release"));
        command.arg("--binary").arg(self.path("program")).arg("--key").arg(self.path("key"));
        succeeds(command.arg("--output").arg(self.path(output)));
    }

    fn archive(&self) -> PathBuf {
        let files = files(&self.path("release"));
        let name = files.keys().find(|name| name.ends_with(".tar.gz")).expect("an archive");
        self.path("release").join(name)
    }

    /// The archive's name with this suffix.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.archive().into_os_string();
        path.push(suffix);
        path.into()
    }

    fn prefix(&self) -> PathBuf {
        self.path("prefix")
    }

    fn manifest(&self) -> PathBuf {
        self.prefix().join("share/opsctl/manifest")
    }

    fn script(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.arg(self.path("release/install.sh")).arg("--prefix").arg(self.prefix()).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Runs `install.sh` with the archive and these arguments.
    fn install(&self, arguments: &[&str]) -> Output {
        let archive = self.archive();
        self.script(&[arguments, &[archive.to_str().unwrap()]].concat())
    }

    #[track_caller]
    fn is_installed(&self) {
        let output = self.install(&[]);
        assert!(output.status.success(), "{}", text(&output));
    }

    /// Asserts that `install.sh` states this reason and writes nothing.
    #[track_caller]
    fn is_refused(&self, arguments: &[&str], reason: &str) {
        let output = self.install(arguments);
        assert_eq!(output.status.code(), Some(REFUSED), "{}", text(&output));
        assert!(text(&output).contains(reason), "{}", text(&output));
        assert!(!self.prefix().exists(), "{:?}", files(&self.prefix()).keys());
    }

    /// Signs the archive with this key for this namespace, instead of its signature.
    #[track_caller]
    fn sign(&self, key: &str, namespace: &str) {
        fs::remove_file(self.beside(".sig")).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(self.path(key));
        succeeds(command.arg(self.archive()));
    }
}

/// The files below a directory, by relative path.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn read(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for path in fs::read_dir(directory).into_iter().flatten().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                read(root, &path, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    read(directory, directory, &mut found);
    found
}

#[test]
fn release_is_reproducible() {
    let Some(release) = Release::signed() else { return };
    release.build("again");
    let (first, second) = (files(&release.path("release")), files(&release.path("again")));
    assert_eq!(first.len(), 4, "archive, checksum, signature, install.sh: {:?}", first.keys());
    assert!(first == second);
}

#[test]
fn dynamic_binary_is_no_release() {
    if !installed(&["cc", "readelf"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    compile(PROGRAM, &[], &program).unwrap();
    let mut command = Command::new(Path::new(ROOT).join("packaging/release"));
    let output = command.arg("--binary").arg(&program).arg("--output").arg(dir.path().join("release")).output().unwrap();
    assert_eq!(output.status.code(), Some(REFUSED), "{}", text(&output));
    assert!(text(&output).contains("is not static"), "{}", text(&output));
    assert!(!dir.path().join("release").exists());
}

#[test]
fn installed_files_are_those_of_the_manifest() {
    let Some(release) = Release::signed() else { return };
    release.is_installed();
    let prefix = release.prefix();
    assert_eq!(succeeds(Command::new(prefix.join("bin/opsctl")).arg("--version")), "opsctl 0.1.0");
    let mut expected: Vec<PathBuf> = fs::read_to_string(release.manifest()).unwrap().lines().map(PathBuf::from).collect();
    expected.push(release.manifest());
    expected.sort();
    let mut found: Vec<PathBuf> = files(&prefix).into_keys().map(|name| prefix.join(name)).collect();
    found.sort();
    assert_eq!(found, expected);
    for name in ["share/man/man1/opsctl-diagnose.1", "share/bash-completion/completions/opsctl", "share/doc/opsctl/LICENSE"] {
        assert_eq!(fs::metadata(prefix.join(name)).unwrap().permissions().mode() & 0o777, 0o644, "{name}");
    }
}

#[test]
fn changed_archive_is_refused() {
    let Some(release) = Release::signed() else { return };
    let archive = release.archive();
    fs::write(&archive, [fs::read(&archive).unwrap(), vec![0]].concat()).unwrap();
    // its checksum was changed with it
    let sum = succeeds(Command::new("sha256sum").arg(&archive));
    fs::write(release.beside(".sha256"), sum).unwrap();
    release.is_refused(&[], "the signature of");
}

#[test]
fn archive_without_a_signature_is_refused() {
    let Some(release) = Release::signed() else { return };
    fs::remove_file(release.beside(".sig")).unwrap();
    release.is_refused(&[], "is not signed");
}

#[test]
fn signature_of_another_key_is_refused() {
    let Some(release) = Release::signed() else { return };
    release.new_key("other");
    release.sign("other", "opsctl-release");
    release.is_refused(&[], "the signature of");
}

#[test]
fn signature_for_another_purpose_is_refused() {
    let Some(release) = Release::signed() else { return };
    release.sign("key", "file");
    release.is_refused(&[], "the signature of");
}

#[test]
fn checksum_of_another_release_is_refused() {
    let Some(release) = Release::signed() else { return };
    fs::write(release.beside(".sha256"), format!("{}  opsctl\n", "0".repeat(64))).unwrap();
    release.is_refused(&[], "does not match");
}

#[test]
fn archive_with_another_checksum_than_expected_is_refused() {
    let Some(release) = Release::signed() else { return };
    release.is_refused(&["--sha256", &"0".repeat(64)], "the checksum of");
}

#[test]
fn expected_checksum_replaces_the_signature() {
    let Some(release) = Release::signed() else { return };
    fs::remove_file(release.beside(".sig")).unwrap();
    let sum = succeeds(Command::new("sha256sum").arg(release.archive()));
    let output = release.install(&["--sha256", &sum[..64].to_uppercase()]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn script_without_a_key_requires_one() {
    let Some(release) = Release::signed() else { return };
    fs::copy(Path::new(ROOT).join("packaging/install.sh"), release.path("release/install.sh")).unwrap();
    release.is_refused(&[], "no key to verify");
    let public = fs::read_to_string(release.path("key.pub")).unwrap();
    fs::write(release.path("signers"), format!("opsctl-release {public}")).unwrap();
    let output = release.install(&["--allowed-signers", release.path("signers").to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn binary_that_does_not_start_is_refused() {
    let Some(release) = Release::of("int main(void) { return 1; }\n") else { return };
    release.is_refused(&[], "does not start");
}

#[test]
fn prefix_is_an_absolute_path() {
    let Some(release) = Release::signed() else { return };
    for prefix in ["relative", "/tmp/../relative"] {
        let output = release.install(&["--prefix", prefix]);
        assert_eq!(output.status.code(), Some(USAGE), "{prefix}: {}", text(&output));
    }
}

#[test]
fn next_version_removes_files_of_the_previous_one() {
    let Some(release) = Release::signed() else { return };
    release.is_installed();
    let old = release.prefix().join("share/man/man1/opsctl-removed.1");
    fs::write(&old, "").unwrap();
    let manifest = fs::read_to_string(release.manifest()).unwrap();
    fs::write(release.manifest(), format!("{manifest}{}\n", old.display())).unwrap();
    release.is_installed();
    assert!(!old.exists());
    assert_eq!(fs::read_to_string(release.manifest()).unwrap(), manifest);
}

#[test]
fn uninstalled_release_leaves_no_files() {
    let Some(release) = Release::signed() else { return };
    release.is_installed();
    // a file of another program
    let other = release.prefix().join("bin/other");
    fs::write(&other, "").unwrap();
    let output = release.script(&["--uninstall"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(files(&release.prefix()).into_keys().collect::<Vec<_>>(), ["bin/other"]);
    assert!(!release.prefix().join("share/doc/opsctl").exists() && !release.prefix().join("share/opsctl").exists());
}

#[test]
fn manifest_names_only_files_below_the_prefix() {
    let Some(release) = Release::signed() else { return };
    release.is_installed();
    let outside = release.path("outside");
    fs::write(&outside, "").unwrap();
    let (prefix, directory) = (release.prefix(), release.dir.path().display());
    let paths = format!(
        "{}/../outside\n{}/bin/../../outside\n{directory}/outside\n{directory}/prefix/../outside\n",
        prefix.display(),
        prefix.display()
    );
    fs::write(release.manifest(), paths).unwrap();
    let output = release.script(&["--uninstall"]);
    assert!(output.status.success() && outside.exists(), "{}", text(&output));
}

#[test]
fn debian_package_of_a_static_binary_depends_on_nothing() {
    if !installed(&["cargo-deb", "dpkg-deb", "strip"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (program, deb) = (dir.path().join("program"), dir.path().join("opsctl.deb"));
    if !compile_static(PROGRAM, &program) {
        return;
    }
    let mut command = Command::new(Path::new(ROOT).join("packaging/build-deb"));
    succeeds(command.args(["--fast", "--binary"]).arg(&program).arg("--output").arg(&deb));
    let field = |name: &str| succeeds(Command::new("dpkg-deb").arg("--field").arg(&deb).arg(name));
    assert_eq!((field("Package"), field("Depends")), ("opsctl".to_owned(), String::new()));
}
