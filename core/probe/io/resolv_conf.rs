//! resolv.conf(5): the name servers and options of the resolver.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Io, Root, resolve};

/// Path of the file.
pub const PATH: &str = "/etc/resolv.conf";

/// Limit of name servers in libc (`MAXNS` of resolv.h), which Docker observes too.
pub const MAXNS: usize = 3;

/// Limit of the file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A name server as written in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NameServer {
    /// Address.
    pub address: IpAddr,
    /// The interface of a link-local address: `eth0` of `fe80::1%eth0`.
    pub interface: Option<String>,
}

impl NameServer {
    /// Whether the server is at a loopback address of the client: of this machine, or of the container.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.is_loopback()
    }

    /// Socket address for queries. Interface indexes are those of this machine: a link-local address in a container has none.
    pub(in crate::probe) fn socket(&self, io: &Io) -> SocketAddr {
        resolve::literal(io, &self.to_string(), 53).unwrap_or_else(|| SocketAddr::new(self.address, 53))
    }
}

impl std::fmt::Display for NameServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl std::str::FromStr for NameServer {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, interface) = text.split_once('%').map_or((text, None), |(a, i)| (a, Some(i)));
        let interface = interface.filter(|i| !i.is_empty()).map(str::to_owned);
        Ok(Self { address: address.parse()?, interface })
    }
}

impl TryFrom<String> for NameServer {
    type Error = std::net::AddrParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NameServer> for String {
    fn from(server: NameServer) -> Self {
        server.to_string()
    }
}

/// An upstream of Docker's embedded name server, from the comment that Docker writes into a container's file since version 26.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExtServer {
    /// The server.
    pub server: NameServer,
    /// Queried from the network of the host (`host(127.0.0.53)`) rather than from that of the container.
    pub from_host: bool,
}

/// Content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolvConf {
    /// All `nameserver` lines with an address, in order; only the first [`MAXNS`] are used.
    pub servers: Vec<NameServer>,
    /// Search list for short names.
    pub search: Vec<String>,
    /// `options`, in order.
    pub options: Vec<String>,
    /// Upstreams of Docker's embedded name server, or `None` without Docker's comment.
    pub ext_servers: Option<Vec<ExtServer>>,
}

impl ResolvConf {
    /// Parses the file. Lines that libc does not support are ignored, as in libc (glibc `res_init.c`, musl `resolvconf.c`): a
    /// keyword begins its line, and an address ends at a blank or a comment.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            if let Some(note) = line.trim().strip_prefix("# ExtServers:") {
                conf.ext_servers = Some(ext_servers(note));
            }
            let Some((keyword, rest)) = line.split_once([' ', '\t']) else { continue };
            // only glibc's search list has no comments; `#` in it is a domain that does not exist
            let mut words = rest.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match keyword {
                "nameserver" => conf.servers.extend(words.next().and_then(|w| w.parse().ok())),
                // the last line with a domain applies; `domain` has one only
                "search" | "domain" => {
                    let most = if keyword == "domain" { 1 } else { usize::MAX };
                    let domains: Vec<&str> = words.take(most).collect();
                    if !domains.is_empty() {
                        conf.search = domains.into_iter().filter(|d| *d != ".").map(str::to_owned).collect();
                    }
                }
                "options" => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// The servers that libc queries: the first three, or this machine (resolv.conf(5)).
    #[must_use]
    pub fn used(&self) -> Vec<NameServer> {
        if self.servers.is_empty() {
            return vec![NameServer { address: Ipv4Addr::LOCALHOST.into(), interface: None }];
        }
        self.servers.iter().take(MAXNS).cloned().collect()
    }

    /// Value of an option: `ndots:5`.
    #[must_use]
    pub fn number(&self, option: &str) -> Option<u32> {
        self.options.iter().rev().find_map(|o| o.strip_prefix(option)?.strip_prefix(':')?.parse().ok())
    }

    /// Whether an option without a value is set: `rotate`.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }
}

/// Parses `[10.0.0.2 host(127.0.0.53)]`.
fn ext_servers(note: &str) -> Vec<ExtServer> {
    let words = note.trim().trim_start_matches('[').trim_end_matches(']').split_whitespace();
    let one = |word: &str| {
        let inside = word.strip_prefix("host(").and_then(|w| w.strip_suffix(')'));
        Some(ExtServer { server: inside.unwrap_or(word).parse().ok()?, from_host: inside.is_some() })
    };
    words.filter_map(one).collect()
}

/// Result of reading the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum FileState {
    /// The file was read.
    #[default]
    Read,
    /// The file does not exist.
    Missing,
    /// A symbolic link to a missing file.
    Dangling(String),
    /// Permission denied.
    Denied,
    /// Another error.
    Failed(String),
}

/// The file of a host or of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResolvFile {
    /// Result of reading.
    pub state: FileState,
    /// Target of the symbolic link.
    pub link: Option<String>,
    /// Its mode, unless all users may read it.
    pub hidden_mode: Option<u32>,
    /// The file is empty, without even a comment.
    pub empty: bool,
    /// Time of the last change.
    pub modified: Option<Timestamp>,
    /// Content.
    pub conf: ResolvConf,
}

/// The file as process `pid` or this process sees it.
pub(in crate::probe) fn read(io: &Io, pid: Option<i32>) -> std::io::Result<ResolvFile> {
    Ok(read_in(&Root::of_or_own(io, pid)?, PATH))
}

fn read_in(root: &Root, path: &str) -> ResolvFile {
    let link = root.link(path);
    let mut file =
        ResolvFile { link, modified: root.modified(path), hidden_mode: root.hidden_mode(path), ..ResolvFile::default() };
    match root.bytes(path, MAX_FILE_BYTES) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            file.empty = text.trim().is_empty();
            file.conf = ResolvConf::parse(&text);
        }
        Err(e) if e.kind() == ErrorKind::PermissionDenied => file.state = FileState::Denied,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            file.state = file.link.clone().map_or(FileState::Missing, FileState::Dangling);
        }
        Err(e) => file.state = FileState::Failed(e.to_string()),
    }
    file
}

/// Name servers for containers of this host: those of this host's file, or of the file behind the stub of systemd-resolved if it
/// is the only server (moby `resolvconf.Path`).
pub(in crate::probe) fn for_containers(io: &Io, host: &ResolvConf) -> ResolvConf {
    let stub = matches!(&host.servers[..], [only] if only.address == IpAddr::from([127, 0, 0, 53]));
    let behind =
        || Some(read_in(&Root::own(io).ok()?, "/run/systemd/resolve/resolv.conf")).filter(|f| f.state == FileState::Read);
    stub.then(behind).flatten().map_or_else(|| host.clone(), |f| f.conf)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn file_is_parsed_like_libc() {
        let conf = ResolvConf::parse(
            "# nameserver 9.9.9.9\n;nameserver 8.8.8.8\ndomain x\nsearch a.lan b.lan .\nnameserver 10.0.0.2 # why\n\
             nameserver fe80::1%eth0\nnameserver not.an.address\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n\
             options ndots:2 timeout:1\noptions ndots:5 rotate\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2", "fe80::1%eth0", "10.0.0.3", "10.0.0.4"]);
        assert_eq!((conf.used().len(), &conf.search[..]), (3, &["a.lan".to_owned(), "b.lan".to_owned()][..]));
        assert_eq!((conf.number("ndots"), conf.number("attempts"), conf.has("rotate")), (Some(5), None, true));
        assert_eq!(conf.ext_servers, None);
        assert_eq!(ResolvConf::parse("").used()[0].to_string(), "127.0.0.1");
    }

    #[test]
    fn comment_directly_after_the_address_ends_it() {
        let conf = ResolvConf::parse("nameserver 10.0.0.2#office\nnameserver\t10.0.0.3;x\r\nnameserver 10.0.0.4\r\n");
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    }

    #[test]
    fn indented_line_and_empty_search_are_ignored() {
        let conf = ResolvConf::parse("  nameserver 10.0.0.2\ndomain a.lan b.lan\nsearch \n");
        assert_eq!((conf.servers.len(), &conf.search[..]), (0, &["a.lan".to_owned()][..]));
    }

    #[test]
    fn corpus_of_resolv_conf() {
        crate::corpus::check("resolv.conf", 12, |text| {
            let conf = ResolvConf::parse(text);
            let shown = |all: &[NameServer]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let option = |name: &str| conf.number(name).map(|n| n.to_string()).unwrap_or_default();
            vec![
                ("servers", shown(&conf.servers)),
                ("used", shown(&conf.used())),
                ("search", conf.search.join(" ")),
                ("options", conf.options.join(" ")),
                ("ndots", option("ndots")),
                ("timeout", option("timeout")),
            ]
        });
    }

    #[test]
    fn upstreams_of_the_embedded_server_are_parsed() {
        let text = "nameserver 127.0.0.11\noptions ndots:0\n# ExtServers: [host(127.0.0.53) 10.0.0.2]\n";
        let servers = ResolvConf::parse(text).ext_servers.unwrap();
        let shown: Vec<_> = servers.iter().map(|s| (s.server.to_string(), s.from_host)).collect();
        assert_eq!(shown, [("127.0.0.53".to_owned(), true), ("10.0.0.2".to_owned(), false)]);
        assert_eq!(ResolvConf::parse("# ExtServers: []").ext_servers, Some(vec![]));
    }

    #[test]
    fn unreadable_file_states_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::os::unix::fs::symlink("/nowhere/stub.conf", dir.path().join("dangling")).unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let state = |name: &str| read_in(&Root::own(&Io::for_test()).unwrap(), &path(name));
        assert_eq!(state("dangling").state, FileState::Dangling("/nowhere/stub.conf".into()));
        assert_eq!(state("missing").state, FileState::Missing);
        assert!(matches!(state("folder").state, FileState::Failed(_)));
        assert!(state("empty").empty && state("empty").state == FileState::Read);
    }
}
