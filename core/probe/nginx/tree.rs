//! The files of a configuration as nginx sees them: its root, its includes.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::syntax::{Directive, parse};
use crate::probe::io::Root;

/// Limit of files of a configuration.
const MAX_FILES: usize = 5000;

/// Limit of a configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Limit of nested includes.
const MAX_INCLUDE_DEPTH: usize = 16;

/// A file and the time of its last change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFile {
    /// Path as nginx sees it.
    pub path: String,
    /// The later of the modification times of the file and of its link.
    pub modified: Option<Timestamp>,
}

/// Result of reading.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) directives: Vec<Directive>,
    pub(super) files: Vec<SeenFile>,
    /// Unreadable or invalid files.
    pub(super) problems: Vec<String>,
}

/// Reads the configuration with the main file `main`.
pub(super) fn read(root: &Root, main: &str) -> Tree {
    let mut tree = Tree::default();
    tree.directives = file(root, main, main, 0, &mut tree.files, &mut tree.problems);
    tree
}

fn file(
    root: &Root,
    path: &str,
    main: &str,
    depth: usize,
    files: &mut Vec<SeenFile>,
    problems: &mut Vec<String>,
) -> Vec<Directive> {
    if files.len() >= MAX_FILES || depth > MAX_INCLUDE_DEPTH {
        problems
            .push(format!("{path}: not read: more than {MAX_FILES} files or includes nested deeper than {MAX_INCLUDE_DEPTH}"));
        return Vec::new();
    }
    let bytes = match root.bytes(path, MAX_FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) => {
            problems.push(format!("{path}: {e}"));
            return Vec::new();
        }
    };
    if !files.iter().any(|f| f.path == path) {
        files.push(SeenFile { path: path.to_owned(), modified: root.modified(path) });
    }
    match parse(&String::from_utf8_lossy(&bytes), &Arc::from(path)) {
        Ok(directives) => included(root, directives, main, depth, files, problems),
        Err(why) => {
            problems.push(why);
            Vec::new()
        }
    }
}

fn included(
    root: &Root,
    directives: Vec<Directive>,
    main: &str,
    depth: usize,
    files: &mut Vec<SeenFile>,
    problems: &mut Vec<String>,
) -> Vec<Directive> {
    let mut all = Vec::new();
    for mut d in directives {
        match (d.name.as_str(), d.args.first()) {
            ("include", Some(pattern)) => {
                // relative to the directory of the main file (ngx_conf_full_name)
                let pattern = absolute(pattern, main);
                for path in root.glob(&pattern) {
                    all.extend(file(root, &path, main, depth + 1, files, problems));
                }
            }
            // tables of thousands of lines that no check uses
            ("types" | "map" | "geo", _) => all.push(d),
            _ => {
                d.block = included(root, d.block, main, depth, files, problems);
                all.push(d);
            }
        }
    }
    all
}

/// Resolves a path relative to the directory of the main file.
pub(super) fn absolute(path: &str, main: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let directory = main.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/{path}")
}

/// Main files of packages and images.
const MAIN_FILES: &[&str] = &[
    "/etc/nginx/nginx.conf",
    "/usr/local/nginx/conf/nginx.conf",
    "/usr/local/openresty/nginx/conf/nginx.conf",
    "/usr/local/etc/nginx/nginx.conf",
    "/opt/nginx/conf/nginx.conf",
];

/// Main file of an nginx without `-c`.
pub(super) fn usual_main(root: &Root) -> Option<&'static str> {
    MAIN_FILES.iter().copied().find(|p| root.exists(p))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use super::*;

    #[test]
    fn includes_are_followed_and_missing_files_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("nginx.conf"), "http { include conf.d/*.conf; include gone.conf; types { text/html html; } }").unwrap();
        fs::write(at("conf.d/b.conf"), "server { listen 2; }").unwrap();
        fs::write(at("conf.d/a.conf"), "server { listen 1; }").unwrap();
        fs::write(at("conf.d/.hidden.conf"), "x").unwrap();
        fs::write(at("conf.d/broken.conf"), "server {").unwrap();
        let root = Root::of(&crate::probe::Io::for_test(), i32::try_from(std::process::id()).unwrap()).unwrap();
        let tree = read(&root, &at("nginx.conf"));
        let http = &tree.directives[0];
        let listens: Vec<&str> = http
            .block
            .iter()
            .filter(|d| d.name == "server")
            .flat_map(|s| &s.block)
            .filter_map(|d| d.args.first())
            .map(String::as_str)
            .collect();
        assert_eq!(listens, ["1", "2"]);
        assert_eq!(tree.files.len(), 4);
        assert!(tree.files.iter().all(|f| f.modified.is_some()));
        let problems = tree.problems.join("\n");
        assert!(
            problems.contains("broken.conf:1: the file ends inside a block") && problems.contains("gone.conf: No such file"),
            "{problems}"
        );
    }

    #[test]
    fn self_include_terminates() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("nginx.conf").display().to_string();
        fs::write(&main, "include nginx.conf;").unwrap();
        let root = Root::of(&crate::probe::Io::for_test(), i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(read(&root, &main).problems[0].contains("nested deeper"));
    }
}
