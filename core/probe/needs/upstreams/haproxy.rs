//! Servers of `HAProxy` (configuration manual, sections 2 and 5).

use super::{Files, Upstream, absolute, options};
use crate::model::address::split_port;

/// The file of the packages and of the official image.
const DEFAULT_FILES: &[&str] = &["/etc/haproxy/haproxy.cfg", "/usr/local/etc/haproxy/haproxy.cfg"];

pub(super) fn upstreams(files: &mut Files<'_>, words: &[String], directory: &str) -> Vec<Upstream> {
    let mut paths: Vec<String> = options(words, &["-f"]).into_iter().map(|path| absolute(path, directory)).collect();
    if paths.is_empty() {
        paths = DEFAULT_FILES.iter().map(|path| (*path).to_owned()).collect();
    }
    let mut found = Vec::new();
    for path in paths {
        // a directory is read in the order of its names
        match files.text(&path) {
            Some(text) => found.extend(parse(&text, &path)),
            None => {
                for file in files.of_directory(&path, &[".cfg"]) {
                    let text = files.text(&file).unwrap_or_default();
                    found.extend(parse(&text, &file));
                }
            }
        }
    }
    found
}

/// Sections of the configuration.
const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "mailers",
    "userlist",
    "program",
    "http-errors",
    "ring",
    "cache",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
];

/// `server NAME ADDRESS[:PORT] [OPTION…]` in the sections `backend` and `listen`.
pub(super) fn parse(text: &str, path: &str) -> Vec<Upstream> {
    let mut group = String::new();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [section, rest @ ..] if SECTIONS.contains(section) => {
                let proxied = matches!(*section, "backend" | "listen");
                group = if proxied { format!("{section} {}", rest.first().unwrap_or(&"")) } else { String::new() };
            }
            ["server", _, address, options @ ..] if !group.is_empty() => {
                let off = options.contains(&"disabled");
                found.extend(upstream(address, path, number, &group, options).filter(|_| !off));
            }
            // one name of DNS for several servers
            ["server-template", _, _, address, options @ ..] if !group.is_empty() => {
                found.extend(upstream(address, path, number, &group, options));
            }
            _ => {}
        }
    }
    found
}

fn upstream(address: &str, path: &str, number: usize, group: &str, options: &[&str]) -> Option<Upstream> {
    let address = address.trim_matches('"');
    let address = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"].iter().find_map(|p| address.strip_prefix(p)).unwrap_or(address);
    // `unix@`, `abns@`, `fd@`, `quic4@`, and `_http._tcp.name`
    if address.contains('@') || address.starts_with(['/', '_']) {
        return None;
    }
    let (host, port) = split_port(address);
    let upstream = Upstream::new(host, port, format!("{path}:{}", number + 1), group)?;
    Some(Upstream { spare: options.contains(&"backup"), ..upstream })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_backends() {
        let text = "global\n  log /dev/log local0\ndefaults\n  mode http\nfrontend www\n  bind :80\n  default_backend web\n\
                    backend web\n  balance roundrobin\n  server w1 10.0.0.1:8080 check\n  server w2 web2:8080 check backup # note\n  \
                    # server old old:80\n  server off down:80 disabled\n  server sock unix@/run/app.sock\n  server same 10.0.0.9\n  \
                    server v6 [fd00::2]:81\n  server env \"${HOST}:80\"\n  server-template t 1-5 _http._tcp.app:80\n\
                    listen db\n  bind :3306\n  server d1 ipv4@db:3306\npeers p\n  server x peer:1024\n";
        let shown: Vec<String> = parse(text, "/h.cfg")
            .into_iter()
            .map(|u| format!("{} {}:{} {}{}", u.place, u.host, u.port, u.group, if u.spare { " spare" } else { "" }))
            .collect();
        assert_eq!(
            shown,
            [
                "/h.cfg:10 10.0.0.1:8080 backend web",
                "/h.cfg:11 web2:8080 backend web spare",
                "/h.cfg:16 fd00::2:81 backend web",
                "/h.cfg:21 db:3306 listen db",
            ]
        );
    }
}
