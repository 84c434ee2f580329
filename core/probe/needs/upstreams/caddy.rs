//! Upstreams of Caddy, in a Caddyfile or its JSON configuration
//! (<https://caddyserver.com/docs/caddyfile/directives/reverse_proxy>).

use serde_json::Value;

use super::{Files, Upstream, absolute, options};
use crate::model::address::{Address, split_port};

/// The file of the packages and of the official image.
const DEFAULT_FILE: &str = "/etc/caddy/Caddyfile";

pub(super) fn upstreams(files: &mut Files<'_>, words: &[String], directory: &str) -> Vec<Upstream> {
    let named = options(words, &["--config", "-c"]).first().map(|path| absolute(path, directory));
    let path = named.unwrap_or_else(|| DEFAULT_FILE.to_owned());
    let Some(text) = files.text(&path) else { return Vec::new() };
    // a Caddyfile may begin with a block of options, which is no JSON
    let parsed = json(&text, &path);
    if !parsed.is_empty() {
        return parsed;
    }
    let mut found = caddyfile(&text, &path);
    let base = path.rsplit_once('/').map_or("/", |(base, _)| base).to_owned();
    for pattern in imports(&text) {
        for file in files.matching(&absolute(&pattern, &base)) {
            let text = files.text(&file).unwrap_or_default();
            found.extend(caddyfile(&text, &file));
        }
    }
    found
}

/// Files that are imported. A name without a path is a snippet.
fn imports(text: &str) -> Vec<String> {
    let imported = text.lines().filter_map(|line| line.trim().strip_prefix("import "));
    imported.map(str::trim).filter(|path| path.contains(['/', '*', '.'])).map(str::to_owned).collect()
}

/// `reverse_proxy [MATCHER] UPSTREAM… [{ to UPSTREAM… }]` and `php_fastcgi UPSTREAM…`.
pub(super) fn caddyfile(text: &str, path: &str) -> Vec<Upstream> {
    let mut found = Vec::new();
    // the line of the directive, and the depth of its block
    let mut open: Option<(String, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let code = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or_default() };
        let words: Vec<&str> = code.split_whitespace().collect();
        let place = format!("{path}:{}", number + 1);
        match (words.as_slice(), &mut open) {
            (["reverse_proxy" | "php_fastcgi", rest @ ..], _) => {
                let group = format!("{} in line {}", words[0], number + 1);
                found.extend(rest.iter().filter_map(|word| upstream(word, &place, &group)));
                open = rest.last().filter(|last| **last == "{").map(|_| (group, 1));
            }
            (["to", rest @ ..], Some((group, 1))) => found.extend(rest.iter().filter_map(|word| upstream(word, &place, group))),
            (_, Some((_, depth))) => {
                *depth = (*depth + words.iter().filter(|w| **w == "{").count()).saturating_sub(usize::from(code == "}"));
                if *depth == 0 {
                    open = None;
                }
            }
            _ => {}
        }
    }
    found
}

/// `app:8080`, `:8080`, `http://app`, `h2c://app:80`. Matchers, placeholders, sockets and port ranges have no address.
fn upstream(word: &str, place: &str, group: &str) -> Option<Upstream> {
    if word.starts_with(['/', '@', '*', '{', '}']) || word.contains('{') || word.starts_with("unix") || word.starts_with("srv+") {
        return None;
    }
    if word.contains("://") {
        let address = Address::parse(word);
        let port = address.port_or_known_default().or_else(|| (address.scheme == Some("h2c")).then_some(80));
        return Upstream::new(address.host(), port, place.to_owned(), group);
    }
    let (host, port) = split_port(word);
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    // without a port it is that of HTTP
    let port = port.or_else(|| (!word.contains(':')).then_some(80));
    Upstream::new(host, port, place.to_owned(), group)
}

/// `"upstreams": [{ "dial": "app:8080" }]`, at any depth.
pub(super) fn json(text: &str, path: &str) -> Vec<Upstream> {
    let Ok(all) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let mut found = Vec::new();
    let mut pending = vec![&all];
    let mut groups = 0_usize;
    while let Some(value) = pending.pop() {
        match value {
            Value::Object(fields) => {
                if let Some(Value::Array(upstreams)) = fields.get("upstreams") {
                    groups += 1;
                    let group = format!("reverse_proxy {groups}");
                    let dials = upstreams.iter().filter_map(|u| u.get("dial")?.as_str());
                    found.extend(dials.filter_map(|dial| upstream(dial, path, &group)));
                }
                pending.extend(fields.values());
            }
            Value::Array(items) => pending.extend(items),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: Vec<Upstream>) -> Vec<String> {
        found.into_iter().map(|u| format!("{} {}:{} {}", u.place, u.host, u.port, u.group)).collect()
    }

    #[test]
    fn upstreams_of_a_caddyfile() {
        let text = "shop.example.org {\n  reverse_proxy app:8080\n  reverse_proxy /api/* http://api https://tls:8443\n  \
                    # reverse_proxy old:80\n  reverse_proxy @ws unix//run/app.sock {env.APP}\n  reverse_proxy {\n    to a:80 b:80\n    \
                    transport http {\n      to_be ignored:80\n    }\n    health_uri /x\n  }\n  php_fastcgi php:9000\n  \
                    reverse_proxy :3000 localhost:8001-8006\n}\n";
        assert_eq!(
            shown(caddyfile(text, "/C")),
            [
                "/C:2 app:8080 reverse_proxy in line 2",
                "/C:3 api:80 reverse_proxy in line 3",
                "/C:3 tls:8443 reverse_proxy in line 3",
                "/C:7 a:80 reverse_proxy in line 6",
                "/C:7 b:80 reverse_proxy in line 6",
                "/C:13 php:9000 php_fastcgi in line 13",
                "/C:14 127.0.0.1:3000 reverse_proxy in line 14",
            ]
        );
        assert_eq!(imports("import sites/*.caddy\n  import snippet\nimport /etc/x.conf"), ["sites/*.caddy", "/etc/x.conf"]);
    }

    #[test]
    fn dials_of_the_json_configuration() {
        let text =
            r#"{"apps": {"http": {"routes": [{"handle": [{"upstreams": [{"dial": "app:8080"}, {"dial": "{http.x}"}]}]}]}}}"#;
        assert_eq!(shown(json(text, "/c.json")), ["/c.json app:8080 reverse_proxy 1"]);
        assert!(json("[", "/c.json").is_empty());
    }
}
