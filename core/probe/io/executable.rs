//! Programs named by the configuration: the executed file, and whether another user can change it.
//!
//! [`crate::probe::io::trusted`] checks the program with every directory above it, the interpreters of its shebang, the script and other
//! files passed to an interpreter (`["sh", "/opt/x.sh"]`, `["timeout", "5", "python3", "/opt/x.py"]`), files of the working
//! directory that `make` and `docker compose` read by default, executables among the arguments of any program, and search paths
//! in the arguments (`PATH=…`). Files that a program reads at run time are not checked: modules, included files, its own
//! configuration.

#![allow(clippy::disallowed_methods, reason = "checks and opens programs by descriptor; called with the token")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::model::FileIdentity;
use crate::probe::io::command::{Program, SAFE_PATH};
use crate::probe::io::trusted;
use crate::probe::io::trusted::TrustError;

/// Number of bytes in which the kernel looks for a shebang (`BINPRM_BUF_SIZE`).
const MAX_SHEBANG_BYTES: u64 = 256;

/// Limit of nested script interpreters; the kernel stops at five.
const MAX_INTERPRETERS: usize = 5;

/// Programs that only read or move their file arguments, so that an executable among them is data.
const READERS: &[&str] = &[
    "[",
    "b2sum",
    "basename",
    "cat",
    "chmod",
    "chown",
    "cksum",
    "cmp",
    "cp",
    "cut",
    "df",
    "diff",
    "dirname",
    "dpkg-query",
    "du",
    "egrep",
    "fgrep",
    "file",
    "grep",
    "head",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mv",
    "od",
    "pgrep",
    "pidof",
    "ps",
    "readlink",
    "realpath",
    "rm",
    "sha1sum",
    "sha256sum",
    "sha512sum",
    "stat",
    "strings",
    "tail",
    "test",
    "touch",
    "tr",
    "uniq",
    "wc",
    "zgrep",
];

/// A program that executes a file or code given as an argument.
struct Interpreter {
    /// Names without version: `python3.11` is `python`.
    names: &'static [&'static str],
    /// Options with code as their value.
    code: &'static [&'static str],
    /// Options with another value.
    values: &'static [&'static str],
    /// Options with a module as their value; all further arguments belong to the module.
    module: &'static [&'static str],
    /// The first operand is code.
    text: bool,
    /// Long options have no value unless listed in [`Interpreter::values`]; for other interpreters they may have one.
    long_flags: bool,
}

const DEFAULT: Interpreter = Interpreter { names: &[], code: &[], values: &[], module: &[], text: false, long_flags: false };

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "rbash"],
        code: &["c"],
        values: &["o", "O", "rcfile", "init-file"],
        long_flags: true,
        ..DEFAULT
    },
    Interpreter { names: &["python", "pypy"], code: &["c"], values: &["W", "X", "Q"], module: &["m"], ..DEFAULT },
    Interpreter { names: &["perl"], code: &["e", "E"], values: &["I"], ..DEFAULT },
    Interpreter { names: &["ruby", "irb", "jruby"], code: &["e"], values: &["I", "r", "C", "E"], ..DEFAULT },
    Interpreter { names: &["node", "nodejs", "bun", "deno"], code: &["e", "p", "eval", "print"], values: &["r"], ..DEFAULT },
    Interpreter { names: &["php", "php-cli"], code: &["r", "R", "B", "E"], values: &["c", "d", "z"], ..DEFAULT },
    Interpreter {
        names: &["lua", "luajit", "tclsh", "wish", "expect", "guile", "Rscript"],
        code: &["e"],
        values: &["l"],
        ..DEFAULT
    },
    Interpreter { names: &["awk", "gawk", "mawk", "sed"], code: &["e"], values: &["v", "F", "f"], text: true, ..DEFAULT },
    Interpreter { names: &["java"], values: &["cp", "classpath", "p"], module: &["m"], ..DEFAULT },
    Interpreter {
        names: &["ansible-playbook", "psql", "ld.so", "ld-linux-x86-64.so", "ld-linux-aarch64.so"],
        code: &["c"],
        values: &["i", "e", "d", "U", "h", "p"],
        ..DEFAULT
    },
];

/// Programs that read files of the working directory, with the names of these files.
const PROJECTS: &[(&[&str], &[&str])] = &[
    (&["make", "gmake"], &["GNUmakefile", "makefile", "Makefile"]),
    (&["just"], &["justfile", ".justfile", "Justfile"]),
    (
        &["docker", "docker-compose", "podman", "podman-compose"],
        &[
            "compose.yaml",
            "compose.yml",
            "docker-compose.yml",
            "docker-compose.yaml",
            "compose.override.yaml",
            "docker-compose.override.yml",
            ".env",
        ],
    ),
];

/// Options of [`PROJECTS`] with a file or a directory as their value.
const PROJECT_OPTIONS: &[&str] = &[
    "-f",
    "-C",
    "--file",
    "--makefile",
    "--directory",
    "--justfile",
    "--working-directory",
    "--project-directory",
    "--env-file",
];

/// Resolves a program by its absolute path, or by its name in [`SAFE_PATH`], and checks its interpreters. The error states why it
/// must not be run.
pub(in crate::probe) fn resolve(name: &str) -> Result<Program, String> {
    let path = locate(name)?;
    let identity = vet_program(Path::new(&path), 0)?;
    Ok(Program { path, identity })
}

/// Resolves the program of a command line, and checks every file in the command line that it would execute. The error names the
/// untrusted file.
pub(in crate::probe) fn vet(argv: &[String], cwd: Option<&str>) -> Result<Program, String> {
    let name = argv.first().ok_or("there is nothing to run")?;
    let program = resolve(name)?;
    let cwd = Path::new(cwd.unwrap_or("/"));
    trusted::directory(cwd).map_err(|e| error_with_path(cwd, &e))?;
    vet_arguments(argv, cwd)?;
    Ok(program)
}

fn locate(name: &str) -> Result<String, String> {
    let missing = || {
        if name.starts_with('/') {
            format!("{name} does not exist or is not executable")
        } else {
            format!("{name} was not found in {SAFE_PATH}")
        }
    };
    let found = which::which_in(name, Some(SAFE_PATH), "/").map_err(|_| missing())?;
    found.to_str().filter(|p| p.starts_with('/')).map(str::to_owned).ok_or_else(missing)
}

/// The message of an error, with the path in front unless it is already there.
fn error_with_path(path: &Path, error: &TrustError) -> String {
    let text = error.to_string();
    if text.starts_with(&format!("{} ", path.display())) || text.starts_with(&format!("{}:", path.display())) {
        return text;
    }
    format!("{}: {text}", path.display())
}

/// Checks an executed program: the file itself, and the interpreter of its shebang.
fn vet_program(path: &Path, depth: usize) -> Result<FileIdentity, String> {
    let (file, identity) = match trusted::identity(path) {
        Ok(found) => found,
        // the shebang of an executable without read permission cannot be read
        Err(TrustError::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            let meta = std::fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
            return Ok(FileIdentity { dev: meta.dev(), ino: meta.ino() });
        }
        Err(e) => return Err(error_with_path(path, &e)),
    };
    if let Some(line) = shebang(file) {
        if depth >= MAX_INTERPRETERS {
            return Err(format!("{}: its interpreters are nested too deeply", path.display()));
        }
        vet_interpreter(path, &line, depth)?;
    }
    Ok(identity)
}

/// The shebang line of a script without `#!`.
fn shebang(file: File) -> Option<String> {
    let mut bytes = Vec::new();
    file.take(MAX_SHEBANG_BYTES).read_to_end(&mut bytes).ok()?;
    let line = bytes.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim().to_owned())
}

fn vet_interpreter(script: &Path, line: &str, depth: usize) -> Result<(), String> {
    let (interpreter, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let of = |why: String| format!("{}: its interpreter {why}", script.display());
    if !interpreter.starts_with('/') {
        return Err(of(format!("`{interpreter}` is not an absolute path")));
    }
    vet_program(Path::new(interpreter), depth + 1).map_err(of)?;
    // the kernel passes the rest as one argument; `env -S` splits it
    let mut argv = vec![interpreter.to_owned()];
    argv.extend(rest.split_whitespace().map(str::to_owned));
    if base(interpreter) == "env" {
        let assigns = |word: &str| word.starts_with('-') || word.contains('=');
        let named = argv[1..].iter().find(|w| !assigns(w)).ok_or_else(|| of("is `env` without a program".to_owned()))?;
        let located = locate(named).map_err(of)?;
        vet_program(Path::new(&located), depth + 1).map_err(of)?;
    }
    vet_arguments(&argv, Path::new("/")).map_err(of)
}

/// Checks all arguments that the program would execute.
fn vet_arguments(argv: &[String], cwd: &Path) -> Result<(), String> {
    let names = names_of(&argv[0]);
    if names.iter().any(|n| READERS.contains(&n.as_str())) {
        return Ok(());
    }
    for (i, word) in argv.iter().enumerate() {
        if i > 0 {
            vet_search_path(word, cwd)?;
            for path in absolute_paths(word) {
                if is_executable(&path) {
                    vet_program(&path, 0)?;
                }
            }
            if word.contains('/') && !word.starts_with(['/', '-']) && is_executable(&cwd.join(word)) {
                vet_program(&cwd.join(word), 0)?;
            }
        }
        // `timeout 5 sh x.sh`: the interpreter is an argument itself
        let names = if i == 0 { names.clone() } else { names_of(word) };
        let interpreter = INTERPRETERS.iter().find(|known| names.iter().any(|n| known.names.contains(&n.as_str())));
        if let Some(interpreter) = interpreter.filter(|_| locate(word).is_ok()) {
            vet_interpreted(interpreter, &argv[i + 1..], cwd)?;
        }
        let project = PROJECTS.iter().find(|(known, _)| names.iter().any(|n| known.contains(&n.as_str())));
        let composes = |n: &String| !matches!(n.as_str(), "docker" | "podman") || argv[i + 1..].iter().any(|w| w == "compose");
        if let Some((_, files)) = project.filter(|_| names.iter().all(composes)) {
            vet_project(files, &argv[i + 1..], cwd)?;
        }
    }
    Ok(())
}

/// Checks the files passed to an interpreter: option values before the script, and the script. Arguments after the script are
/// data.
fn vet_interpreted(interpreter: &Interpreter, args: &[String], cwd: &Path) -> Result<(), String> {
    let mut code = interpreter.text;
    let mut value = false;
    for arg in args {
        if matches!(arg.as_str(), "" | "-" | "--") || arg.starts_with('+') {
            continue;
        }
        let after_option = std::mem::replace(&mut value, false);
        if let Some(option) = arg.strip_prefix('-') {
            if let Some(at) = arg.find('/') {
                vet_existing(&cwd.join(&arg[at..]))?;
            }
            match option_value(interpreter, option) {
                OptionValue::Module => return Ok(()),
                OptionValue::Code => code = true,
                OptionValue::Value => value = true,
                OptionValue::None => {}
            }
            continue;
        }
        let path = cwd.join(arg);
        if after_option {
            vet_existing(&path)?;
        } else if code {
            return vet_code(arg, cwd);
        } else {
            vet_existing(&path)?;
            // an argument that is not a file is a subcommand
            if path.is_file() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OptionValue {
    None,
    Value,
    Code,
    Module,
}

fn option_value(interpreter: &Interpreter, option: &str) -> OptionValue {
    let (name, long) = option.strip_prefix('-').map_or((option, false), |name| (name, true));
    if long && name.contains('=') {
        return OptionValue::None;
    }
    // in a cluster such as `-ec` the last letter has the value; the `c` of a shell may be at any position
    let last = name.char_indices().last().map_or("", |(at, _)| &name[at..]);
    let is = |known: &[&str]| known.contains(&name) || (!long && known.contains(&last));
    if is(interpreter.code) || (interpreter.long_flags && !long && name.contains('c')) {
        OptionValue::Code
    } else if is(interpreter.module) {
        OptionValue::Module
    } else if is(interpreter.values) || (long && !interpreter.long_flags) {
        OptionValue::Value
    } else {
        OptionValue::None
    }
}

/// Checks files that code executes or sources, as far as its words show.
fn vet_code(code: &str, cwd: &Path) -> Result<(), String> {
    let mut before = "";
    let mut runs = false;
    for word in code.split(|c: char| c.is_whitespace() || ";|&()<>\"'`{}$".contains(c)).filter(|w| !w.is_empty()) {
        let interprets = |w: &str| INTERPRETERS.iter().any(|i| names_of(w).iter().any(|n| i.names.contains(&n.as_str())));
        runs = matches!(before, "." | "source" | "cd" | "exec") || interprets(before) || (runs && before.starts_with('-'));
        vet_search_path(word, cwd)?;
        if word.contains('/') {
            let path = cwd.join(word);
            if runs {
                vet_existing(&path)?;
            } else if is_executable(&path) {
                vet_program(&path, 0)?;
            }
        }
        before = word;
    }
    Ok(())
}

/// Checks files that a program reads from its working directory.
fn vet_project(files: &[&str], args: &[String], cwd: &Path) -> Result<(), String> {
    let mut directories = vec![cwd.to_owned()];
    let mut before = "";
    for arg in args {
        let value = match arg.split_once('=') {
            Some((option, value)) if PROJECT_OPTIONS.contains(&option) => Some(value),
            _ if PROJECT_OPTIONS.contains(&before) => Some(arg.as_str()),
            _ => arg.strip_prefix("-C").or_else(|| arg.strip_prefix("-f")).filter(|v| !v.is_empty()),
        };
        if let Some(value) = value {
            let path = cwd.join(value);
            vet_existing(&path)?;
            if path.is_dir() {
                directories.push(path);
            }
        }
        before = arg;
    }
    directories.iter().flat_map(|d| files.iter().map(|f| d.join(f))).try_for_each(|path| vet_existing(&path))
}

/// Checks `PATH=/home/u/bin` and similar arguments: search paths for programs, libraries or modules.
fn vet_search_path(word: &str, cwd: &Path) -> Result<(), String> {
    let Some((name, value)) = word.split_once('=') else { return Ok(()) };
    let variable = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let searched =
        ["PATH", "LIB", "LIBS", "PRELOAD", "AUDIT", "HOME", "ENV", "OPT", "OPTIONS", "STARTUP"].iter().any(|e| name.ends_with(e));
    if !variable || !searched {
        return Ok(());
    }
    value.split([':', ' ']).filter(|v| v.starts_with('/')).try_for_each(|path| vet_existing(&cwd.join(path)))
}

/// Checks a file or directory if it exists.
fn vet_existing(path: &Path) -> Result<(), String> {
    let Ok(meta) = std::fs::metadata(path) else { return Ok(()) };
    let vetted = if meta.is_dir() { trusted::directory(path).map(|_| ()) } else { trusted::open(path).map(|_| ()) };
    vetted.map_err(|e| error_with_path(path, &e))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The absolute paths in an argument: `--hook=/opt/x`, `/opt/x;/opt/y`.
fn absolute_paths(word: &str) -> impl Iterator<Item = PathBuf> {
    let pieces = word.split(|c: char| c.is_whitespace() || ";|&()<>\"'`{}$=,".contains(c));
    pieces.filter(|p| p.starts_with('/')).map(PathBuf::from)
}

/// The name of a program, and that of its link target: `python3.11` is `python`.
fn names_of(word: &str) -> Vec<String> {
    let mut names = vec![base(word)];
    if let Some(target) = locate(word).ok().and_then(|path| std::fs::canonicalize(path).ok()) {
        names.push(base(&target.to_string_lossy()));
    }
    names
}

fn base(path: &str) -> String {
    let name = Path::new(path).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    if bare.is_empty() { name.to_owned() } else { bare.to_owned() }
}

#[cfg(test)]
mod tests;
