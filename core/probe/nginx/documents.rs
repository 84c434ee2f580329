//! Static files of the sites: the file that a request leads to, and whether the workers may read it.
//!
//! Only locations that serve files are read: a site that passes requests on, rewrites them or restricts access by rules or passwords
//! has other reasons for its statuses.

use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde::{Deserialize, Serialize};

use super::access::{describe, is_denied};
use super::config::{Listen, listen};
use super::syntax::Directive;
use crate::probe::io::{Io, Rights, Root};

/// Directives that decide about a request before or instead of a file (`nginx.org/en/docs/dirindex.html`).
const OTHER_REASONS: &[&str] = &[
    "proxy_pass",
    "grpc_pass",
    "fastcgi_pass",
    "uwsgi_pass",
    "scgi_pass",
    "memcached_pass",
    "return",
    "rewrite",
    "if",
    "auth_basic",
    "auth_request",
    "auth_jwt",
    "allow",
    "deny",
    "internal",
    "stub_status",
    "empty_gif",
    "secure_link",
    "random_index",
    "limit_except",
    "valid_referers",
    "content_by_lua_block",
    "content_by_lua_file",
    "access_by_lua_block",
    "access_by_lua_file",
    "js_content",
    "dav_methods",
];

/// The static files of one `server` block of `http`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// `server_name`, in lower case.
    pub names: Vec<String>,
    /// Listening sockets.
    pub listens: Vec<Listen>,
    /// Outside of all locations, then the locations.
    places: Vec<Place>,
    /// It has locations by regular expression, which take precedence.
    patterns: bool,
}

/// A location with files.
#[expect(clippy::struct_excessive_bools, reason = "independent settings of a location")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    prefix: String,
    exact: bool,
    /// `root`, or `alias` in place of the prefix.
    directory: Option<String>,
    is_alias: bool,
    index: Vec<String>,
    autoindex: bool,
    /// It may answer without a file.
    other: bool,
}

/// A file or directory that the workers cannot use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum DocumentFault {
    /// The workers have no permission.
    Denied {
        /// User of the workers.
        user: String,
        /// The path without permission: `/home/app has mode 0700, owner app, group app`.
        path: String,
        /// The missing permission: `search`, `read`.
        permission: String,
    },
    /// A path that does not exist.
    Missing {
        /// The requested file or directory.
        path: String,
    },
    /// A directory without any of its index files, and without a listing.
    NoIndex {
        /// The directory.
        path: String,
        /// `index.html index.htm`.
        index: String,
    },
}

impl fmt::Display for DocumentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied { user, path, permission } => write!(f, "{user} has no {permission} permission: {path}"),
            Self::Missing { path } => write!(f, "{path} does not exist"),
            Self::NoIndex { path, index } => write!(f, "{path} has no index file ({index})"),
        }
    }
}

/// Settings that blocks inherit.
#[derive(Debug, Clone)]
struct Inherited {
    root: Option<String>,
    index: Vec<String>,
    autoindex: bool,
    other: bool,
}

impl Inherited {
    fn within(&self, block: &[Directive], prefix: &str) -> Self {
        let last = |name: &str| block.iter().rev().find(|d| d.name == name);
        let path = |p: &String| if p.starts_with('/') { p.clone() } else { format!("{}/{p}", prefix.trim_end_matches('/')) };
        // a variable in a path is not evaluated
        let root = match last("root").and_then(|d| d.args.first()) {
            Some(root) if root.contains('$') => Some(String::new()),
            Some(root) => Some(path(root)),
            None => self.root.clone(),
        };
        let index = last("index").map_or_else(|| self.index.clone(), |d| d.args.clone());
        let autoindex = last("autoindex").map_or(self.autoindex, |d| d.args.first().is_some_and(|a| a == "on"));
        let other = self.other || block.iter().any(has_other_reasons);
        Self { root, index, autoindex, other }
    }
}

fn has_other_reasons(d: &Directive) -> bool {
    // a fallback to a status is the same as none, to a file or a named location it is another answer
    let fallback = || d.args.iter().any(|a| !a.starts_with("$uri") && !a.starts_with('='));
    let off = d.args.first().is_some_and(|a| a == "off");
    (OTHER_REASONS.contains(&d.name.as_str()) && !off) || (d.name == "try_files" && fallback())
}

/// The sites with static files. `prefix` is the base of relative paths.
pub(super) fn read(directives: &[Directive], prefix: &str) -> Vec<Documents> {
    let outer = Inherited { root: None, index: vec!["index.html".to_owned()], autoindex: false, other: false };
    let mut found = Vec::new();
    for http in directives.iter().filter(|d| d.name == "http") {
        let scope = outer.within(&http.block, prefix);
        found.extend(http.block.iter().filter(|d| d.name == "server").map(|server| site(server, &scope, prefix)));
    }
    found
}

fn site(server: &Directive, outer: &Inherited, prefix: &str) -> Documents {
    let scope = outer.within(&server.block, prefix);
    let names = server.block.iter().filter(|d| d.name == "server_name").flat_map(|d| &d.args);
    let mut listens: Vec<Listen> =
        server.block.iter().filter(|d| d.name == "listen").filter_map(|d| listen(&d.args, false)).collect();
    if listens.is_empty() {
        listens.extend(listen(&["80".to_owned()], false));
    }
    let mut documents =
        Documents { names: names.map(|n| n.to_ascii_lowercase()).collect(), listens, places: Vec::new(), patterns: false };
    documents.places.push(place("/", false, &server.block, &scope, prefix));
    for location in server.block.iter().filter(|d| d.name == "location") {
        let (modifier, uri) = match &location.args[..] {
            [uri] => ("", uri.as_str()),
            [modifier, uri] => (modifier.as_str(), uri.as_str()),
            _ => continue,
        };
        match modifier {
            "" | "^~" | "=" if uri.starts_with('/') => {
                let nested = location.block.iter().any(|d| d.name == "location");
                let mut place = place(uri, modifier == "=", &location.block, &scope.within(&location.block, prefix), prefix);
                place.other |= nested;
                documents.places.push(place);
            }
            "~" | "~*" => documents.patterns = true,
            _ => {}
        }
    }
    documents
}

fn place(uri: &str, exact: bool, block: &[Directive], scope: &Inherited, prefix: &str) -> Place {
    let alias = block.iter().find(|d| d.name == "alias").and_then(|d| d.args.first());
    let directory = match alias {
        Some(alias) if alias.contains('$') => None,
        Some(alias) if alias.starts_with('/') => Some(alias.clone()),
        Some(alias) => Some(format!("{}/{alias}", prefix.trim_end_matches('/'))),
        None => scope.root.clone().filter(|root| !root.is_empty()),
    };
    Place {
        prefix: uri.to_owned(),
        exact,
        directory,
        is_alias: alias.is_some(),
        index: scope.index.clone(),
        autoindex: scope.autoindex,
        other: scope.other,
    }
}

/// The file that a request leads to, with the index files if it is a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// File or directory as nginx sees it.
    pub path: String,
    index: Vec<String>,
}

impl Documents {
    /// The file of the path of a URL, without its query; `None` if something else than a file may answer, or if it is unknown.
    #[must_use]
    pub fn file(&self, uri: &str) -> Option<Document> {
        let uri = uri.split(['?', '#']).next().unwrap_or_default();
        let is_plain = uri.starts_with('/') && !uri.contains(['%', '$']) && !uri.split('/').any(|part| part == "..");
        // a pattern is mostly for file names with an extension
        let last = uri.rsplit('/').next().unwrap_or_default();
        if !is_plain || (self.patterns && last.contains('.')) {
            return None;
        }
        let exact = self.places.iter().find(|p| p.exact && p.prefix == uri);
        // at least the first one matches, and of equal prefixes the location is the last one
        let longest = self.places.iter().filter(|p| !p.exact && uri.starts_with(&p.prefix)).max_by_key(|p| p.prefix.len());
        let place = exact.or(longest)?;
        let directory = place.directory.as_deref().filter(|_| !place.other)?;
        let path = if place.is_alias {
            format!("{directory}{}", uri.strip_prefix(&place.prefix)?)
        } else {
            format!("{}{uri}", directory.trim_end_matches('/'))
        };
        // the index of a request that ends with / ; autoindex lists the others
        let index = if uri.ends_with('/') && !place.autoindex { place.index.clone() } else { Vec::new() };
        let is_known = index.iter().all(|name| !name.starts_with('/') && !name.contains('$'));
        is_known.then_some(Document { path, index })
    }
}

/// The reason why `worker` cannot serve a file; `None` if it can, or if that is unknown.
#[must_use]
pub fn document_fault(io: &Io, worker: i32, document: &Document) -> Option<DocumentFault> {
    let root = Root::of(io, worker).ok()?;
    let path = document.path.as_str();
    let file = match root.open_path(Path::new(path)) {
        Ok(file) => file,
        Err(e) if is_denied(&e) => return denied(io, &root, worker, path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(DocumentFault::Missing { path: path.to_owned() }),
        Err(_) => return None,
    };
    if !file.metadata().ok()?.is_dir() {
        return unreadable(io, &root, worker, path);
    }
    if document.index.is_empty() {
        return None;
    }
    let directory = path.trim_end_matches('/');
    for name in &document.index {
        let index = format!("{directory}/{name}");
        match root.open_path(Path::new(&index)) {
            Ok(_) => return unreadable(io, &root, worker, &index),
            Err(e) if is_denied(&e) => return denied(io, &root, worker, &index),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(DocumentFault::NoIndex { path: path.to_owned(), index: document.index.join(" ") })
}

/// The directory above a path that `worker` may not search.
fn denied(io: &Io, root: &Root, worker: i32, path: &str) -> Option<DocumentFault> {
    let directory = Path::new(path).ancestors().skip(1).find(|d| root.open_path(d).is_ok())?;
    let (user, path) = describe(io, root, worker, directory.to_str()?)?;
    Some(DocumentFault::Denied { user, path, permission: "search".to_owned() })
}

/// Whether `worker` may read a file that exists; only the permission is tested.
fn unreadable(io: &Io, root: &Root, worker: i32, path: &str) -> Option<DocumentFault> {
    let file = root.open_path(Path::new(path)).ok()?;
    if !file.metadata().is_ok_and(|meta| meta.mode() & 0o170_000 == 0o100_000) {
        return None;
    }
    let rights = Rights::parse(&io.read_lossy(format!("/proc/{worker}/status")).ok()?).ok()?;
    let at = format!("/proc/self/fd/{}", file.as_raw_fd());
    let tested = rights.assume(|| Ok(accessat(CWD, at.as_str(), Access::READ_OK, AtFlags::EACCESS)?));
    if !tested.is_err_and(|e| is_denied(&e)) {
        return None;
    }
    let (user, path) = describe(io, root, worker, path)?;
    Some(DocumentFault::Denied { user, path, permission: "read".to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::syntax::parse;
    use super::*;

    fn file(text: &str, uri: &str) -> Option<String> {
        let directives = parse(&format!("http {{ server {{ {text} }} }}"), &"nginx.conf".into()).unwrap();
        Some(read(&directives, "/etc/nginx")[0].file(uri)?.path)
    }

    #[test]
    fn root_and_alias() {
        assert_eq!(file("root /srv/www;", "/a/b.html?x=1").as_deref(), Some("/srv/www/a/b.html"));
        assert_eq!(file("root html;", "/").as_deref(), Some("/etc/nginx/html/"));
        assert_eq!(file("location /static/ { alias /srv/s/; }", "/static/x.css").as_deref(), Some("/srv/s/x.css"));
        assert_eq!(file("root /a; location /b/ { root /c; }", "/b/x").as_deref(), Some("/c/b/x"));
        assert_eq!(file("root /a; location / { }", "/x").as_deref(), Some("/a/x"));
        assert_eq!(file("root /a; location = /x { root /c; }", "/x").as_deref(), Some("/c/x"));
    }

    #[test]
    fn other_reasons_are_not_judged() {
        for text in [
            "root /a; location / { proxy_pass http://app; }",
            "root /a; location / { deny all; }",
            "root /a; auth_basic x;",
            "root /a; location / { try_files $uri /index.php; }",
            "root /a; return 403;",
            "root $dir;",
            "root /a; location / { location /x { } }",
            "",
        ] {
            assert_eq!(file(text, "/x"), None, "{text}");
        }
        assert_eq!(file("root /a; location ~ \\.php$ { }", "/x.php"), None);
        assert_eq!(file("root /a;", "/%41"), None);
        assert_eq!(file("root /a; try_files $uri $uri/ =404;", "/x").as_deref(), Some("/a/x"));
        assert_eq!(file("root /a; auth_basic off;", "/x").as_deref(), Some("/a/x"));
    }

    #[test]
    fn faults_of_files_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::create_dir(at("empty")).unwrap();
        std::fs::create_dir(at("full")).unwrap();
        std::fs::write(at("full/index.html"), "x").unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let fault = |path: &str| {
            let index = if path.ends_with('/') { vec!["index.html".to_owned()] } else { Vec::new() };
            document_fault(&Io::for_test(), own, &Document { path: at(path), index })
        };
        assert_eq!(fault("full/"), None);
        assert_eq!(fault("full/index.html"), None);
        assert!(matches!(fault("empty/"), Some(DocumentFault::NoIndex { .. })), "{:?}", fault("empty/"));
        assert!(matches!(fault("none.html"), Some(DocumentFault::Missing { .. })));
    }
}
