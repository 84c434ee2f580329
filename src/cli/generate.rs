//! `opsctl generate`: man pages and completions, from the same definition as the parser.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use clap_complete::Shell;

use super::{command, exit};
use crate::catalog::Catalog;
use crate::output::{self, Access};

mod roff;

/// `opsctl generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of files
    #[arg(value_name = "WHAT")]
    what: FileKind,
    /// Directory to write to [default: man or completions]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Kinds of generated files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileKind {
    /// Man pages: section 1 for commands, section 7 for runbooks
    Man,
    /// Completions for bash, zsh and fish
    Completions,
}

/// Runs the subcommand.
pub fn exec(args: &Args) -> anyhow::Result<u8> {
    let dir = args.dir.clone().unwrap_or_else(|| match args.what {
        FileKind::Man => "man".into(),
        FileKind::Completions => "completions".into(),
    });
    output::create_directories(&dir, 0o755).with_context(|| format!("creating {}", dir.display()))?;
    let files = files(args.what)?;
    for (name, text) in &files {
        let path = dir.join(name);
        output::write(&path, text.clone(), Access::Public).with_context(|| format!("writing {}", path.display()))?;
    }
    writeln!(std::io::stdout().lock(), "wrote {} files to {}", files.len(), dir.display())?;
    Ok(exit::OK)
}

/// The generated files by name; the same input gives the same bytes.
pub fn files(kind: FileKind) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    match kind {
        FileKind::Man => man(),
        FileKind::Completions => Ok(completions()),
    }
}

fn man() -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut whole = command();
    whole.build();
    for sub in whole.get_subcommands() {
        let name = format!("opsctl-{}", sub.get_name());
        let sub = sub.clone().name(name.clone()).bin_name(name.replace('-', " "));
        files.insert(format!("{name}.1"), man_page(sub)?);
    }
    files.insert("opsctl.1".to_owned(), man_page(whole)?);
    for (runbook, doc) in Catalog::new().runbooks() {
        files.insert(format!("opsctl-{}.7", runbook.id), roff::manual(runbook.id, runbook.about, doc).into_bytes());
    }
    Ok(files)
}

fn man_page(command: clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    // no date: the pages are committed and must not change by themselves
    clap_mangen::Man::new(command).date("").source(concat!("opsctl ", env!("CARGO_PKG_VERSION"))).render(&mut text)?;
    Ok(text)
}

fn completions() -> BTreeMap<String, Vec<u8>> {
    [(Shell::Bash, "opsctl.bash"), (Shell::Zsh, "_opsctl"), (Shell::Fish, "opsctl.fish")]
        .into_iter()
        .map(|(shell, name)| {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "opsctl", &mut text);
            (name.to_owned(), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed files equal the generated ones. `OPSCTL_REGENERATE=1` rewrites them.
    #[test]
    fn committed_files_are_up_to_date() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for (kind, directory) in [(FileKind::Man, "man"), (FileKind::Completions, "completions")] {
            let directory = root.join(directory);
            let made = files(kind).unwrap_or_else(|e| panic!("{e}"));
            if std::env::var_os("OPSCTL_REGENERATE").is_some() {
                let _ = std::fs::remove_dir_all(&directory);
                std::fs::create_dir_all(&directory).unwrap_or_else(|e| panic!("{e}"));
                for (name, text) in &made {
                    std::fs::write(directory.join(name), text).unwrap_or_else(|e| panic!("{e}"));
                }
            }
            let mut committed: Vec<String> = std::fs::read_dir(&directory)
                .unwrap_or_else(|e| panic!("{e}"))
                .filter_map(|e| Some(e.ok()?.file_name().to_string_lossy().into_owned()))
                .collect();
            committed.sort();
            let how = "run: OPSCTL_REGENERATE=1 cargo test -p opsctl committed_files_are_up_to_date";
            assert_eq!(committed, made.keys().cloned().collect::<Vec<_>>(), "{how}");
            for (name, text) in made {
                let on_disk = std::fs::read(directory.join(&name)).unwrap_or_else(|e| panic!("{e}"));
                assert!(on_disk == text, "{} differs from the generated file; {how}", directory.join(name).display());
            }
        }
    }
}
