#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{chown, symlink};

use crate::probe::io::executable::*;

/// Files of this user in `own`, and of user 4242 in `theirs`: both have the script `x.sh`, which may be run, and `x.txt`, which may not.
struct TestFiles(tempfile::TempDir);

impl TestFiles {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let files = Self(tempfile::tempdir().unwrap());
        for (name, owner) in [("own", 0), ("theirs", 4242)] {
            std::fs::create_dir(files.path(name)).unwrap();
            for (file, mode) in [("x.sh", 0o755), ("x.txt", 0o644), ("Makefile", 0o644)] {
                files.write(&format!("{name}/{file}"), "#!/bin/sh\necho hello\n", mode, owner);
            }
            chown(files.path(name), Some(owner), None).unwrap();
        }
        Some(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32, owner: u32) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        chown(self.path(name), Some(owner), None).unwrap();
    }

    /// `~` stands for the directory of these files.
    fn vet(&self, argv: &[&str], cwd: &str) -> Result<Program, String> {
        let filled = |text: &str| text.replace('~', &self.0.path().display().to_string());
        vet(&argv.iter().map(|w| filled(w)).collect::<Vec<_>>(), Some(&filled(cwd)))
    }
}

/// Command lines that run a file; `DIR` is its directory.
const RUNS: &[&[&str]] = &[
    &["DIR/x.sh"],
    &["sh", "DIR/x.txt"],
    &["sh", "-eu", "DIR/x.txt"],
    &["sh", "+e", "DIR/x.txt"],
    &["sh", "--", "DIR/x.txt"],
    &["bash", "--norc", "DIR/x.txt"],
    &["bash", "--rcfile", "DIR/x.txt", "-i", "/nonexistent"],
    &["sh", "-c", "DIR/x.sh | head"],
    &["sh", "-c", ". DIR/x.txt"],
    &["sh", "-c", "--", "DIR/x.sh"],
    &["sh", "-c", "-e", ". DIR/x.txt; true"],
    &["sh", "-c", "exec sh DIR/x.txt"],
    &["sh", "-c", "cd DIR && ls"],
    &["sh", "-ec", "FOO=1 DIR/x.sh --now"],
    &["env", "DIR/x.sh"],
    &["env", "A=b", "sh", "DIR/x.txt"],
    &["env", "PATH=DIR", "x.sh"],
    &["timeout", "5", "DIR/x.sh"],
    &["timeout", "5", "nice", "sh", "-e", "DIR/x.txt"],
    &["find", "/nonexistent", "-exec", "DIR/x.sh", ";"],
    &["xargs", "--arg-file=/dev/null", "DIR/x.sh"],
    &["awk", "-f", "DIR/x.txt"],
    &["perl", "-IDIR", "-e", "1"],
    &["perl", "-I", "DIR", "/nonexistent"],
];

#[test]
fn file_of_another_user_is_not_run() {
    let Some(files) = TestFiles::new() else { return };
    for line in RUNS {
        let line = |dir: &str| line.iter().map(|w| w.replace("DIR", dir)).collect::<Vec<_>>();
        let (own, foreign) = (line("~/own"), line("~/theirs"));
        let vet = |line: &[String]| files.vet(&line.iter().map(String::as_str).collect::<Vec<_>>(), "/");
        assert!(vet(&own).is_ok(), "{own:?}: {:?}", vet(&own));
        let error = vet(&foreign).unwrap_err();
        assert!(error.contains("theirs belongs to user 4242"), "{foreign:?}: {error}");
    }
}

#[test]
fn data_file_of_another_user_is_accepted() {
    let Some(files) = TestFiles::new() else { return };
    for line in [
        &["cat", "~/theirs/x.sh"][..],
        &["stat", "-c", "%Y", "~/theirs/x.sh"],
        &["test", "-x", "~/theirs/x.sh"],
        &["tar", "-tf", "~/theirs/x.txt"],
        &["sh", "~/own/x.sh", "~/theirs/x.txt"],
        &["sh", "-e", "~/own/x.sh", "~/theirs/x.txt"],
        &["sh", "-c", "grep -q hello ~/theirs/x.txt"],
        &["awk", "{ print }", "~/theirs/x.txt"],
        &["timeout", "5", "wc", "-l", "~/theirs/x.txt"],
    ] {
        assert!(files.vet(line, "/").is_ok(), "{line:?}: {:?}", files.vet(line, "/"));
    }
}

#[test]
fn directory_and_project_files_are_checked() {
    let Some(files) = TestFiles::new() else { return };
    assert!(files.vet(&["true"], "~/own").is_ok());
    assert!(files.vet(&["true"], "~/theirs").unwrap_err().contains("theirs belongs to user 4242"));
    if locate("make").is_err() {
        return;
    }
    assert!(files.vet(&["make", "restart", "ENV=prod"], "~/own").is_ok());
    assert!(files.vet(&["make", "-C", "~/own"], "/").is_ok());
    for line in [&["make", "-C", "~/theirs"][..], &["make", "-f", "~/theirs/Makefile"], &["make", "--directory=~/theirs"]] {
        assert!(files.vet(line, "/").is_err(), "{line:?}");
    }
    files.write("own/Makefile", "all:\n", 0o644, 4242);
    assert!(files.vet(&["make"], "~/own").unwrap_err().contains("Makefile belongs to user 4242"));
}

#[test]
fn interpreter_of_another_user_is_not_run() {
    let Some(files) = TestFiles::new() else { return };
    let dir = files.0.path().display().to_string();
    for (name, line, ok) in [
        ("a", "#!/bin/sh".to_owned(), true),
        ("b", "#!/usr/bin/env sh".to_owned(), true),
        ("c", "#!/usr/bin/env -S sh -e".to_owned(), true),
        ("d", format!("#!{dir}/theirs/x.sh"), false),
        ("e", format!("#! {dir}/theirs/x.sh -x"), false),
        ("f", format!("#!/usr/bin/env {dir}/theirs/x.sh"), false),
        ("g", format!("#!/usr/bin/env -S PATH={dir}/theirs x.sh"), false),
        ("h", format!("#!{dir}/own/d"), false),
        ("i", "#!bin/sh".to_owned(), false),
        ("j", "#!/usr/bin/env no-such-program".to_owned(), false),
        ("k", format!("#!/bin/sh {dir}/theirs/x.txt"), false),
    ] {
        files.write(&format!("own/{name}"), &format!("{line}\necho\n"), 0o755, 0);
        let vetted = files.vet(&[&format!("~/own/{name}")], "/");
        assert_eq!(vetted.is_ok(), ok, "{line}: {vetted:?}");
    }
}

#[test]
fn link_is_checked_by_its_target() {
    let Some(files) = TestFiles::new() else { return };
    symlink("x.sh", files.path("own/good")).unwrap();
    symlink("../theirs/x.sh", files.path("own/bad")).unwrap();
    symlink("/bin/sh", files.path("own/runner")).unwrap();
    assert!(files.vet(&["~/own/good"], "/").is_ok());
    assert!(files.vet(&["~/own/bad"], "/").is_err());
    assert!(files.vet(&["~/own/runner", "~/own/x.txt"], "/").is_ok());
    assert!(files.vet(&["~/own/runner", "~/theirs/x.txt"], "/").is_err());
}

#[test]
fn program_is_found_in_the_safe_path_only() {
    assert!(resolve("sh").is_ok_and(|p| p.path.starts_with('/')));
    assert!(resolve("no-such-program").is_err_and(|e| e.contains("was not found in")));
    assert!(resolve("/etc/passwd").is_err_and(|e| e.contains("is not executable")));
}

#[test]
fn version_is_removed_from_a_name() {
    for (word, name) in [("/usr/bin/python3.11", "python"), ("php8.2", "php"), ("sh", "sh"), ("7", "7"), ("", "")] {
        assert_eq!(base(word), name);
    }
}
