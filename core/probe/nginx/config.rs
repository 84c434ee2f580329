//! Parsed configuration, as far as the checks use it: sites, sockets, upstreams, certificates, logs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::documents::{self, Documents};
use super::syntax::Directive;
use super::tree::absolute;
use crate::model::address::{Address, is_host, join, split_port, split_scheme, usual_port};

/// A `server` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Site {
    /// `server_name` without patterns: `example.org`, `*.example.org`.
    pub names: Vec<String>,
    /// Listening sockets.
    pub listens: Vec<Listen>,
    /// Certificate and key files; two pairs for a site with RSA and ECDSA.
    pub certificates: Vec<(String, String)>,
    /// `ssl_protocols`, if set.
    pub protocols: Vec<String>,
}

/// One `listen`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listen {
    /// Address, or `None` for a host name or a unix socket.
    pub address: Option<IpAddr>,
    /// Port; 0 for a unix socket.
    pub port: u16,
    /// Path of a unix socket.
    pub unix: Option<String>,
    /// With TLS.
    pub ssl: bool,
    /// UDP (QUIC, or `udp` of a stream).
    pub udp: bool,
}

/// An upstream: one server of an `upstream` block, or a direct argument of a `*_pass` directive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// The `upstream` block, or `None` if named directly.
    pub group: Option<String>,
    /// Name or address; empty for a unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of a unix socket.
    pub unix: Option<String>,
    /// A backup server, used only when the others are unavailable.
    pub backup: bool,
    /// nginx re-resolves the host name at run time (`resolve`).
    pub resolves: bool,
}

impl Backend {
    /// For display.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.unix {
            Some(path) => format!("unix:{path}"),
            None => join(&self.host, self.port),
        }
    }
}

/// An access log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccessLog {
    /// Path as nginx sees it.
    pub path: String,
    /// The text of its `log_format`.
    pub format: String,
    /// Logging is conditional (`if=`).
    pub conditional: bool,
}

/// The parts of a configuration that the checks use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `server` blocks of `http`.
    pub sites: Vec<Site>,
    /// All sockets, also of `stream`.
    pub listens: Vec<Listen>,
    /// All upstreams in use that are not computed at run time.
    pub backends: Vec<Backend>,
    /// Access logs in readable files.
    pub access_logs: Vec<AccessLog>,
    /// Whether the built-in access log is written because no `access_log` is given.
    pub default_access_log: bool,
    /// Error logs.
    pub error_logs: Vec<String>,
    /// `worker_connections`, 512 when not set.
    pub worker_connections: u64,
    /// Certificate and key files, everywhere.
    pub certificates: Vec<(String, String)>,
    /// Directories of temporary files and caches.
    pub own_directories: Vec<String>,
    /// Host names in variables, which nginx resolves at run time.
    pub names: Vec<String>,
    /// Static files of the sites.
    #[serde(skip)]
    pub documents: Vec<Documents>,
}

/// The built-in format (`ngx_http_log_module`).
pub const COMBINED: &str =
    r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

/// Interprets `directives`; `main` is the path of the main file, `prefix` the base of relative log paths.
pub(super) fn read(directives: &[Directive], main: &str, prefix: &str) -> Config {
    let mut config = Config { worker_connections: 512, ..Config::default() };
    let formats = formats(directives);
    let mut context = Context { config: &mut config, formats: &formats, main, prefix, saw_access_log: false };
    context.walk(directives, &Scope::default(), "");
    let saw = context.saw_access_log;
    config.default_access_log = !saw && directives.iter().any(|d| d.name == "http");
    config.error_logs.sort();
    config.error_logs.dedup();
    config.listens.sort();
    config.listens.dedup();
    config.access_logs.sort();
    config.access_logs.dedup();
    config.certificates.sort();
    config.certificates.dedup();
    config.own_directories.sort();
    config.own_directories.dedup();
    config.names.sort();
    config.names.dedup();
    config.backends = backends(directives);
    config.documents = documents::read(directives, prefix);
    config
}

/// Inherited settings of blocks.
#[derive(Debug, Clone, Default)]
struct Scope {
    certificates: Vec<(String, String)>,
    protocols: Vec<String>,
}

struct Context<'a> {
    config: &'a mut Config,
    formats: &'a [(String, String)],
    main: &'a str,
    prefix: &'a str,
    saw_access_log: bool,
}

impl Context<'_> {
    fn walk(&mut self, directives: &[Directive], outer: &Scope, block: &str) {
        let mut scope = outer.clone();
        let own = self.certificates(directives);
        if !own.is_empty() {
            scope.certificates = own;
        }
        if let Some(d) = directives.iter().find(|d| d.name == "ssl_protocols") {
            scope.protocols.clone_from(&d.args);
        }
        for d in directives {
            match d.name.as_str() {
                "access_log" => self.access_log(d),
                "error_log" => self.config.error_logs.extend(
                    d.args.first().filter(|p| !p.starts_with("memory:") && !p.starts_with("syslog:")).map(|p| self.log_path(p)),
                ),
                name if OWN_DIRECTORIES.contains(&name) => {
                    let path = d.args.first().filter(|p| *p != "off").map(|p| self.log_path(p));
                    self.config.own_directories.extend(path);
                }
                "set" => self.config.names.extend(d.args.get(1).and_then(|value| host_in(value))),
                "map" => {
                    let values = d.block.iter().filter_map(|entry| entry.args.first());
                    self.config.names.extend(values.filter_map(|value| host_in(value)));
                }
                "worker_connections" => {
                    self.config.worker_connections = d.args.first().and_then(|n| n.parse().ok()).unwrap_or(512);
                }
                "server" if !d.block.is_empty() || d.args.is_empty() => {
                    // inside `upstream`, `server` is a simple directive
                    self.site(d, &scope, block);
                }
                _ => {}
            }
            if !d.block.is_empty() && d.name != "upstream" {
                self.walk(&d.block, &scope, &d.name);
            }
        }
    }

    fn site(&mut self, server: &Directive, outer: &Scope, block: &str) {
        let stream = block == "stream";
        let mut listens: Vec<Listen> =
            server.block.iter().filter(|d| d.name == "listen").filter_map(|d| listen(&d.args, stream)).collect();
        if listens.is_empty() && !stream {
            listens.push(Listen { address: Some(Ipv4Addr::UNSPECIFIED.into()), port: 80, unix: None, ssl: false, udp: false });
        }
        let on = |name: &str| server.block.iter().any(|d| d.name == name && d.args.first().is_some_and(|a| a == "on"));
        for l in &mut listens {
            l.ssl |= on("ssl");
            // it intentionally rejects every handshake
            l.ssl &= !on("ssl_reject_handshake");
        }
        self.config.listens.extend(listens.iter().cloned());
        if stream {
            return;
        }
        let own = self.certificates(&server.block);
        let protocols = server.block.iter().find(|d| d.name == "ssl_protocols").map_or(&outer.protocols, |d| &d.args);
        let names = server.block.iter().filter(|d| d.name == "server_name").flat_map(|d| &d.args);
        let names = names.map(|n| n.strip_prefix('.').unwrap_or(n).to_ascii_lowercase());
        let real = |n: &String| {
            !n.is_empty()
                && n != "_"
                && !n.starts_with('~')
                && !n.contains('$')
                && !n.ends_with(".*")
                && n.contains(|c: char| c.is_alphanumeric())
        };
        self.config.sites.push(Site {
            names: names.filter(real).collect(),
            listens,
            certificates: if own.is_empty() { outer.certificates.clone() } else { own },
            protocols: protocols.clone(),
        });
    }

    /// Pairs of `ssl_certificate` and `ssl_certificate_key`, in order.
    fn certificates(&mut self, directives: &[Directive]) -> Vec<(String, String)> {
        let paths = |name: &str| -> Vec<String> {
            let values = directives.iter().filter(|d| d.name == name).filter_map(|d| d.args.first());
            values
                .filter(|p| !p.contains('$') && !p.starts_with("data:") && !p.starts_with("engine:"))
                .map(|p| absolute(p, self.main))
                .collect()
        };
        let keys = paths("ssl_certificate_key");
        let pairs: Vec<(String, String)> = paths("ssl_certificate")
            .into_iter()
            .enumerate()
            .map(|(i, c)| (c, keys.get(i).cloned().unwrap_or_default()))
            .collect();
        self.config.certificates.extend(pairs.iter().cloned());
        pairs
    }

    fn access_log(&mut self, d: &Directive) {
        self.saw_access_log = true;
        let Some(path) = d.args.first().filter(|p| *p != "off" && !p.starts_with("syslog:") && !p.contains('$')) else { return };
        let name = d.args.get(1).filter(|a| !a.contains('=')).map_or("combined", String::as_str);
        let format = self.formats.iter().find(|(n, _)| n == name).map_or(COMBINED, |(_, f)| f);
        let conditional = d.args.iter().any(|a| a.starts_with("if="));
        self.config.access_logs.push(AccessLog { path: self.log_path(path), format: format.to_owned(), conditional });
    }

    fn log_path(&self, path: &str) -> String {
        match path {
            "stderr" => "/dev/stderr".to_owned(),
            p if p.starts_with('/') => p.to_owned(),
            p => format!("{}/{p}", self.prefix.trim_end_matches('/')),
        }
    }
}

/// Directives with a directory that workers write to.
const OWN_DIRECTORIES: &[&str] = &[
    "client_body_temp_path",
    "proxy_temp_path",
    "fastcgi_temp_path",
    "uwsgi_temp_path",
    "scgi_temp_path",
    "proxy_cache_path",
    "fastcgi_cache_path",
    "uwsgi_cache_path",
    "scgi_cache_path",
];

/// The host name in the value of a variable: `http://app.internal:8080/x`, `app.internal`.
fn host_in(value: &str) -> Option<String> {
    let host = Address::parse(value).host();
    (is_host(host) && host.parse::<IpAddr>().is_err()).then(|| host.to_ascii_lowercase())
}

/// Every `log_format`, by name.
fn formats(directives: &[Directive]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for d in directives {
        if d.name == "log_format" && d.args.len() >= 2 {
            let text: String = d.args[1..].iter().filter(|a| !a.starts_with("escape=")).map(String::as_str).collect();
            found.push((d.args[0].clone(), text));
        }
        found.extend(formats(&d.block));
    }
    found
}

/// `[::]:443`, `127.0.0.1:80`, `8080`, `unix:/run/x`, `localhost:80`.
pub(super) fn listen(args: &[String], stream: bool) -> Option<Listen> {
    let address = args.first()?;
    let has = |word: &str| args.iter().skip(1).any(|a| a == word);
    // with the PROXY protocol the clients are load balancers: others receive no certificate there
    let ssl = has("ssl") && !has("proxy_protocol");
    let mut listen = Listen { address: None, port: 0, unix: None, ssl, udp: has("udp") || has("quic") };
    if let Some(path) = address.strip_prefix("unix:") {
        listen.unix = Some(path.to_owned());
        return Some(listen);
    }
    if let Ok(port) = address.parse() {
        listen.address = Some(Ipv4Addr::UNSPECIFIED.into());
        listen.port = port;
        return Some(listen);
    }
    let (host, port) = split_port(address);
    listen.port = port.or(if stream { None } else { Some(80) })?;
    listen.address = match host {
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        host => host.parse().ok(),
    };
    Some(listen)
}

const PASS_DIRECTIVES: &[&str] = &["proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "memcached_pass"];

/// All upstreams in use.
fn backends(directives: &[Directive]) -> Vec<Backend> {
    let mut groups: Vec<(&str, &Directive)> = Vec::new();
    let mut passes: Vec<&Directive> = Vec::new();
    collect(directives, &mut groups, &mut passes);
    let mut found = BTreeSet::new();
    for pass in passes {
        let Some(target) = pass.args.first().filter(|t| !t.contains('$')) else { continue };
        let (scheme, rest) = split_scheme(target);
        if let Some(unix) = rest.strip_prefix("unix:") {
            // `unix:/run/app.sock:/path`
            let path = unix.split(':').next().unwrap_or_default();
            found.insert(Backend {
                group: None,
                host: String::new(),
                port: 0,
                unix: Some(path.to_owned()),
                backup: false,
                resolves: false,
            });
            continue;
        }
        let authority = Address::parse(rest).authority;
        if let Some((name, group)) = groups.iter().find(|(name, _)| *name == authority) {
            found.extend(servers(name, group));
            continue;
        }
        let (host, port) = split_port(authority);
        found.insert(Backend {
            group: None,
            host: host.to_ascii_lowercase(),
            port: port.or_else(|| usual_port(scheme?)).unwrap_or(80),
            unix: None,
            backup: false,
            resolves: false,
        });
    }
    found.into_iter().collect()
}

fn collect<'a>(directives: &'a [Directive], groups: &mut Vec<(&'a str, &'a Directive)>, passes: &mut Vec<&'a Directive>) {
    for d in directives {
        if d.name == "upstream" {
            groups.extend(d.args.first().map(|name| (name.as_str(), d)));
        } else if PASS_DIRECTIVES.contains(&d.name.as_str()) {
            passes.push(d);
        }
        collect(&d.block, groups, passes);
    }
}

/// Servers of an `upstream` block, except those marked `down`.
fn servers<'a>(name: &'a str, group: &'a Directive) -> impl Iterator<Item = Backend> + 'a {
    // a balancer in Lua selects the peer at run time
    let fixed = !group.block.iter().any(|d| d.name.starts_with("balancer_by_lua"));
    group.block.iter().filter(move |d| fixed && d.name == "server" && !d.args.iter().any(|a| a == "down")).filter_map(move |d| {
        let address = d.args.first()?;
        let unix = address.strip_prefix("unix:").map(str::to_owned);
        let (host, port) = if unix.is_some() { ("", None) } else { split_port(address) };
        Some(Backend {
            group: Some(name.to_owned()),
            host: host.to_ascii_lowercase(),
            port: if unix.is_some() { 0 } else { port.unwrap_or(80) },
            unix,
            backup: d.args.iter().any(|a| a == "backup"),
            resolves: d.args.iter().any(|a| a == "resolve"),
        })
    })
}

/// Whether a listener at `listener` serves a `listen` address of the configuration.
#[must_use]
pub fn serves(listener: IpAddr, configured: IpAddr) -> bool {
    let any6 = listener == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    listener == configured || any6 || (configured.is_ipv4() && listener == IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::syntax::parse;
    use super::*;

    fn config(text: &str) -> Config {
        read(&parse(text, &"/etc/nginx/nginx.conf".into()).unwrap(), "/etc/nginx/nginx.conf", "/usr/share/nginx")
    }

    #[test]
    fn sites_sockets_and_certificates_are_found() {
        let c = config(
            "events { worker_connections 64; } error_log /var/log/nginx/error.log warn; http { ssl_certificate a.pem; ssl_certificate_key a.key; ssl_protocols TLSv1 TLSv1.2;
             server { listen 443 ssl http2; listen [::]:443 ssl; listen 443 quic; server_name Example.org *.example.org _ ~^x; }
             server { server_name .b.org; ssl_certificate /b-rsa.pem; ssl_certificate_key /b-rsa.key; ssl_certificate /b-ec.pem; ssl_certificate_key /b-ec.key; listen unix:/run/b.sock; listen 127.0.0.1:8443 ssl; }
             server { listen 444 ssl; ssl_reject_handshake on; } server { } }
             stream { server { listen 5432; proxy_pass db:5432; } }",
        );
        assert_eq!(c.worker_connections, 64);
        assert_eq!(c.error_logs, ["/var/log/nginx/error.log"]);
        assert!(c.default_access_log);
        assert_eq!(c.sites.len(), 4);
        assert!(!c.sites[2].listens[0].ssl);
        assert_eq!(c.sites[0].names, ["example.org", "*.example.org"]);
        assert_eq!(c.sites[0].certificates, [("/etc/nginx/a.pem".to_owned(), "/etc/nginx/a.key".to_owned())]);
        assert_eq!(c.sites[0].protocols, ["TLSv1", "TLSv1.2"]);
        assert_eq!(
            c.sites[0].listens.iter().map(|l| (l.port, l.ssl, l.udp)).collect::<Vec<_>>(),
            [(443, true, false), (443, true, false), (443, false, true)]
        );
        assert_eq!(c.sites[1].names, ["b.org"]);
        assert_eq!(c.sites[1].certificates.len(), 2);
        assert_eq!(c.sites[1].listens[0].unix.as_deref(), Some("/run/b.sock"));
        assert_eq!(c.sites[3].listens[0].port, 80);
        assert!(c.listens.iter().any(|l| l.port == 5432));
        assert_eq!(c.backends.iter().map(Backend::label).collect::<Vec<_>>(), ["db:5432"]);
        assert_eq!(c.certificates.len(), 3);
    }

    #[test]
    fn unused_and_computed_upstreams_are_ignored() {
        let c = config(
            "http { upstream app { zone a 64k; server Web1:8000 weight=2; server web2:8000 backup; server old:1 down; server unix:/run/app.sock; server c:9 resolve; }
             upstream unused { server nowhere:1; }
             server { location / { proxy_pass http://app; } location /a { proxy_pass https://api.example.com/v1/; } location /b { proxy_pass http://$x; }
             location /c { fastcgi_pass unix:/run/php.sock; } location /d { proxy_pass http://[::1]:81/; } location /e { proxy_pass http://unix:/run/e.sock:/; } } }",
        );
        let mut labels: Vec<String> =
            c.backends.iter().map(|b| format!("{}{}", b.label(), if b.backup { " backup" } else { "" })).collect();
        labels.sort();
        assert_eq!(
            labels,
            [
                "[::1]:81",
                "api.example.com:443",
                "c:9",
                "unix:/run/app.sock",
                "unix:/run/e.sock",
                "unix:/run/php.sock",
                "web1:8000",
                "web2:8000 backup"
            ]
        );
    }

    #[test]
    fn upstreams_with_ipv6_addresses_and_default_ports() {
        let c = config(
            "http { upstream app { server [::1]:8000; server [fd00::2]; }
             server { location / { proxy_pass http://app?x=1; } location /a { grpc_pass grpcs://rpc; } location /b { proxy_pass https://[fd00::3]/x; }
             location /c { memcached_pass cache:11211; } location /d { fastcgi_pass php; } } }",
        );
        let mut labels: Vec<String> = c.backends.iter().map(Backend::label).collect();
        labels.sort();
        assert_eq!(labels, ["[::1]:8000", "[fd00::2]:80", "[fd00::3]:443", "cache:11211", "php:80", "rpc:443"]);
    }

    #[test]
    fn access_logs_have_their_formats() {
        let c = config(
            "http { log_format j escape=json '{\"status\":' '\"$status\"}'; access_log logs/a.log j buffer=32k; server { access_log off; } server { access_log /b.log combined if=$bad; access_log syslog:server=x; } }",
        );
        assert!(!c.default_access_log);
        let logs: Vec<_> = c.access_logs.iter().map(|l| (l.path.as_str(), l.format.as_str(), l.conditional)).collect();
        assert_eq!(logs, [("/b.log", COMBINED, true), ("/usr/share/nginx/logs/a.log", "{\"status\":\"$status\"}", false)]);
    }

    #[test]
    fn own_directories_and_names_in_variables() {
        let c = config(
            "http { client_body_temp_path /data/body 1 2; proxy_cache_path cache levels=1:2 keys_zone=z:1m; proxy_temp_path off;
             map $host $app { default http://Blue.internal:8080; a.org 10.0.0.1; }
             server { set $b app.internal; set $c $host; location / { proxy_pass http://$b; } } }",
        );
        assert_eq!(c.own_directories, ["/data/body", "/usr/share/nginx/cache"]);
        assert_eq!(c.names, ["app.internal", "blue.internal"]);
    }

    #[test]
    fn wildcard_listener_serves_covered_addresses() {
        let ip = |s: &str| s.parse().unwrap();
        assert!(
            serves(ip("0.0.0.0"), ip("10.0.0.1")) && serves(ip("::"), ip("10.0.0.1")) && serves(ip("10.0.0.1"), ip("10.0.0.1"))
        );
        assert!(!serves(ip("0.0.0.0"), ip("::1")) && !serves(ip("127.0.0.1"), ip("0.0.0.0")));
    }
}
