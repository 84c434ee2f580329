//! The `hosts` line of nsswitch.conf(5): the order of the sources of host names in glibc.

use serde::{Deserialize, Serialize};

use crate::probe::Io;
use crate::probe::io::Root;
use crate::probe::io::resolve::name_sources;

/// Path of the file.
pub const NSSWITCH: &str = "/etc/nsswitch.conf";

/// Size limit of the file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Sources that know the names of this machine only, and return `NOTFOUND` for all others.
const LOCAL: &[&str] = &["files", "compat", "db", "myhostname", "mymachines"];

/// Modules of glibc itself: `files` and `dns` are part of libc.so since 2.34, the others come with it.
const BUILT_IN: &[&str] = &["files", "dns", "compat", "db", "nis", "nisplus", "hesiod"];

/// Directories of the modules in distributions with the standard file hierarchy, as patterns.
const MODULE_DIRECTORIES: &[&str] = &["/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/lib64", "/usr/lib64", "/lib", "/usr/lib"];

/// The reason why no program that uses glibc queries DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum DeadEnd {
    /// Neither `dns` nor `resolve` is listed.
    NoDns,
    /// An action ends the search before them: `files [NOTFOUND=return]`.
    Action(String),
}

impl DeadEnd {
    /// For messages: `it lists neither dns nor resolve`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::NoDns => "it lists neither dns nor resolve".to_owned(),
            Self::Action(action) => format!("`{action}` ends the search before dns"),
        }
    }
}

/// One source with its actions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source<'a> {
    name: &'a str,
    /// `[NOTFOUND=return]`, with blanks between several actions.
    actions: String,
}

/// The sources of a `hosts` line. A `[` begins the actions of the preceding source.
fn sources(line: &str) -> Vec<Source<'_>> {
    let mut found: Vec<Source<'_>> = Vec::new();
    let mut is_action = false;
    for word in line.split_whitespace() {
        // `files[NOTFOUND=return]` without a blank is valid
        let (name, action) = if is_action { ("", word) } else { word.find('[').map_or((word, ""), |at| word.split_at(at)) };
        if !name.is_empty() {
            found.push(Source { name, actions: String::new() });
        }
        if !action.is_empty() {
            is_action = !action.ends_with(']');
            if let Some(last) = found.last_mut() {
                let blank = if last.actions.is_empty() { "" } else { " " };
                last.actions = format!("{}{blank}{action}", last.actions);
            }
        }
    }
    found
}

/// Whether the search ends after a source that returns this status. By default only `SUCCESS` ends it.
fn ends(actions: &str, status: &str) -> bool {
    let mut ends = status == "SUCCESS";
    for criterion in actions.split(['[', ']', ' ']).filter(|c| !c.is_empty()) {
        let Some((condition, action)) = criterion.split_once('=') else { continue };
        let (named, not) = condition.strip_prefix('!').map_or((condition, false), |rest| (rest, true));
        if named.eq_ignore_ascii_case(status) != not {
            ends = action.eq_ignore_ascii_case("return");
        }
    }
    ends
}

/// The reason why a `hosts` line never queries DNS; `None` if it does, or if another source may know the names of the network.
#[must_use]
pub fn dead_end(line: &str) -> Option<DeadEnd> {
    let sources = sources(line);
    if sources.is_empty() {
        return None;
    }
    for source in &sources {
        // multicast DNS has the names of .local only, and is unavailable for all others
        let multicast = source.name.starts_with("mdns");
        if !LOCAL.contains(&source.name) && !multicast {
            return None;
        }
        if !multicast && ends(&source.actions, "NOTFOUND") {
            return Some(DeadEnd::Action(format!("{} {}", source.name, source.actions)));
        }
    }
    Some(DeadEnd::NoDns)
}

/// The source before `dns` or `resolve` that ends the search for a name of .local: `mdns4_minimal [NOTFOUND=return]`.
#[must_use]
pub fn multicast_only(line: &str) -> Option<String> {
    let sources = sources(line);
    let before = sources.iter().take_while(|s| !matches!(s.name, "dns" | "resolve"));
    let mut multicast = before.filter(|s| s.name.starts_with("mdns") && ends(&s.actions, "NOTFOUND"));
    multicast.next().map(|s| format!("{} {}", s.name, s.actions))
}

/// Whether names of the network come from systemd-resolved alone: `resolve` without `dns`, or `dns` only if `resolve` is unavailable
/// and its module is installed.
#[must_use]
pub fn resolved_only(line: &str) -> bool {
    let sources = sources(line);
    sources.iter().any(|s| s.name == "resolve") && !sources.iter().any(|s| s.name == "dns")
}

/// The modules of a `hosts` line that are not part of glibc.
pub(super) fn modules(line: &str) -> Vec<&str> {
    sources(line).into_iter().map(|s| s.name).filter(|name| !BUILT_IN.contains(name)).collect()
}

/// `hosts` in the file of a process or of this host, with its modules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostSources {
    /// The line, or `None` if the file or the line does not exist: glibc then uses `dns [!UNAVAIL=return] files`.
    pub line: Option<String>,
    /// The C library is musl, which ignores the file; only read if the line needs it.
    pub musl: bool,
    /// Modules in the line that are not installed; empty if their directory is unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl HostSources {
    /// [`dead_end`] of the line, unless the C library ignores it.
    #[must_use]
    pub fn dead_end(&self) -> Option<DeadEnd> {
        if self.musl { None } else { dead_end(self.line.as_deref()?) }
    }
}

/// Reads the file as process `pid` or this process sees it.
pub(in crate::probe) fn read(io: &Io, pid: Option<i32>) -> std::io::Result<HostSources> {
    Ok(read_in(&Root::of_or_own(io, pid)?))
}

fn read_in(root: &Root) -> HostSources {
    let text = root.bytes(NSSWITCH, MAX_BYTES).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let Some(line) = text.ok().as_deref().and_then(name_sources) else { return HostSources::default() };
    if dead_end(&line).is_none() && modules(&line).is_empty() {
        return HostSources { line: Some(line), ..HostSources::default() };
    }
    let directories: Vec<String> = MODULE_DIRECTORIES.iter().flat_map(|pattern| root.glob(pattern)).collect();
    let is_installed = |file: &str| directories.iter().any(|directory| root.exists(&format!("{directory}/{file}")));
    let glibc = is_installed("libc.so.6");
    let musl = !glibc && !root.glob("/lib/ld-musl-*").is_empty();
    // distributions with another hierarchy have no libc in these directories either
    let missing = modules(&line).into_iter().filter(|name| glibc && !is_installed(&format!("libnss_{name}.so.2")));
    let missing = missing.map(str::to_owned).collect();
    HostSources { line: Some(line), musl, missing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_lines_reach_dns() {
        for line in [
            "files dns",
            "dns [!UNAVAIL=return] files",
            "files mdns4_minimal [NOTFOUND=return] dns",
            "mymachines resolve [!UNAVAIL=return] files myhostname dns",
            "files myhostname resolve [!UNAVAIL=return] dns",
            "files resolve",
            "files sss",
            "files wins",
            "files [SUCCESS=merge] dns",
            "files [UNAVAIL=return] dns",
            "files [NOTFOUND=continue] dns",
            "",
        ] {
            assert_eq!(dead_end(line), None, "{line}");
        }
    }

    #[test]
    fn line_without_dns_is_a_dead_end() {
        for line in ["files", "files myhostname", "compat", "files mdns4_minimal [NOTFOUND=return]"] {
            assert_eq!(dead_end(line), Some(DeadEnd::NoDns), "{line}");
        }
    }

    #[test]
    fn action_that_ends_the_search_is_a_dead_end() {
        let action = |line: &str| dead_end(line).map(|end| end.words());
        let words = |text: &str| Some(format!("`{text}` ends the search before dns"));
        assert_eq!(action("files [NOTFOUND=return] dns"), words("files [NOTFOUND=return]"));
        assert_eq!(action("files[notfound=RETURN] dns"), words("files [notfound=RETURN]"));
        assert_eq!(action("files [!SUCCESS=return] dns"), words("files [!SUCCESS=return]"));
        assert_eq!(action("files [ NOTFOUND=return ] dns"), words("files [ NOTFOUND=return ]"));
    }

    #[test]
    fn multicast_source_before_dns() {
        let before = "mdns4_minimal [NOTFOUND=return]";
        assert_eq!(multicast_only("files mdns4_minimal [NOTFOUND=return] dns").as_deref(), Some(before));
        assert_eq!(multicast_only("files dns mdns4_minimal [NOTFOUND=return]"), None);
        assert_eq!(multicast_only("files mdns4_minimal dns"), None);
    }

    #[test]
    fn modules_of_other_packages() {
        assert_eq!(modules("files mymachines mdns4_minimal [NOTFOUND=return] dns"), ["mymachines", "mdns4_minimal"]);
        assert!(resolved_only("files resolve") && !resolved_only("files resolve [!UNAVAIL=return] dns"));
    }

    #[test]
    fn file_of_this_system_is_readable() {
        let own = read(&Io::for_test(), None).unwrap_or_default();
        assert_eq!(own.dead_end(), None, "{own:?}");
    }

    #[test]
    fn lines_of_distributions_are_no_dead_end() {
        for item in crate::corpus::items("nsswitch.conf") {
            let line = name_sources(&item.text).unwrap_or_default();
            assert_eq!(dead_end(&line), None, "{}: {line}", item.name);
        }
    }
}
