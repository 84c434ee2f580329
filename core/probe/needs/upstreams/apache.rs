//! Upstreams of `mod_proxy` (<https://httpd.apache.org/docs/2.4/mod/mod_proxy.html>).

use super::{Files, Upstream, absolute, options};
use crate::model::address::Address;

/// The files of the packages and of the official image, each with its `ServerRoot`.
const DEFAULT_FILES: &[(&str, &str)] = &[
    ("/etc/apache2/apache2.conf", "/etc/apache2"),
    ("/etc/httpd/conf/httpd.conf", "/etc/httpd"),
    ("/usr/local/apache2/conf/httpd.conf", "/usr/local/apache2"),
    ("/etc/apache2/httpd.conf", "/usr"),
];

/// Limit of nested includes.
const MAX_DEPTH: usize = 8;

pub(super) fn upstreams(files: &mut Files<'_>, words: &[String]) -> Vec<Upstream> {
    let named: Vec<&str> = options(words, &["-f"]);
    let mut reader = Reader { files, root: options(words, &["-d"]).first().map(|d| (*d).to_owned()), found: Vec::new() };
    if let Some(path) = named.first() {
        let root = reader.root.clone().unwrap_or_else(|| "/".to_owned());
        reader.file(&absolute(path, &root), 0);
    } else {
        for (path, root) in DEFAULT_FILES {
            if reader.files.root.exists(path) {
                reader.root.get_or_insert_with(|| (*root).to_owned());
                reader.file(path, 0);
                break;
            }
        }
    }
    reader.found
}

struct Reader<'f, 'r> {
    files: &'f mut Files<'r>,
    /// `ServerRoot`, to which the paths of includes are relative.
    root: Option<String>,
    found: Vec<Upstream>,
}

impl Reader<'_, '_> {
    fn file(&mut self, path: &str, depth: usize) {
        let Some(text) = self.files.text(path).filter(|_| depth < MAX_DEPTH) else { return };
        for directive in directives(&text, path) {
            match directive {
                Directive::Upstream(upstream) => self.found.push(upstream),
                Directive::ServerRoot(root) => self.root = Some(root),
                Directive::Include(pattern) => {
                    let pattern = absolute(&pattern, self.root.as_deref().unwrap_or("/"));
                    for file in self.files.matching(&pattern) {
                        self.file(&file, depth + 1);
                    }
                }
            }
        }
    }
}

/// A directive that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directive {
    Upstream(Upstream),
    ServerRoot(String),
    Include(String),
}

pub(super) fn directives(text: &str, path: &str) -> Vec<Directive> {
    let mut found = Vec::new();
    // open `<IfDefine>`, of which the condition is not known, and negated `<IfModule !…>`
    let mut skipped = 0_usize;
    let mut group = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let lower = line.to_ascii_lowercase();
        let negated = lower.starts_with("<ifmodule") && lower.contains('!');
        if lower.starts_with("<ifdefine") || negated || (skipped > 0 && lower.starts_with("<ifmodule")) {
            skipped += 1;
        } else if skipped > 0 && (lower.starts_with("</ifdefine") || lower.starts_with("</ifmodule")) {
            skipped -= 1;
        }
        if skipped > 0 {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().map(|w| w.trim_matches(['"', '\''])).collect();
        let name = words.first().map(|w| w.to_ascii_lowercase()).unwrap_or_default();
        let place = || format!("{path}:{}", number + 1);
        match name.as_str() {
            "serverroot" => found.extend(words.get(1).map(|root| Directive::ServerRoot((*root).to_owned()))),
            "include" | "includeoptional" => found.extend(words.get(1).map(|p| Directive::Include((*p).to_owned()))),
            "<proxy" => {
                let target = words.get(1).map(|w| w.trim_end_matches('>').trim_matches('"')).unwrap_or_default();
                group = if target.starts_with("balancer://") { target.to_owned() } else { String::new() };
            }
            "</proxy>" => group.clear(),
            "proxypass" | "proxypassmatch" => {
                // in a `<Location>` the path is that of the section
                let url = words.iter().skip(1).take(2).find(|w| w.contains("://"));
                let of = words.get(1).filter(|w| !w.contains("://")).copied().unwrap_or("proxy");
                found.extend(url.and_then(|url| upstream(url, place(), &format!("ProxyPass {of}"))).map(Directive::Upstream));
            }
            "balancermember" => {
                let url = words.iter().skip(1).take(2).find(|w| w.contains("://") && !w.starts_with("balancer:"));
                let balancer = words.get(1).filter(|w| w.starts_with("balancer:")).copied().unwrap_or(&group);
                let spare = lower.contains("status=+h") || lower.contains("status=h");
                let off = lower.contains("status=+d") || lower.contains("status=d");
                let member = url.filter(|_| !off).and_then(|url| upstream(url, place(), balancer));
                found.extend(member.map(|u| Directive::Upstream(Upstream { spare, ..u })));
            }
            _ => {}
        }
    }
    found
}

/// `http://app:8080/`, `ajp://app`, `fcgi://127.0.0.1:9000`; not `unix:/run/app.sock|http://localhost/` and `balancer://name`.
fn upstream(url: &str, place: String, group: &str) -> Option<Upstream> {
    let address = Address::parse(url);
    let scheme = address.scheme?.to_ascii_lowercase();
    if url.starts_with("unix:") || scheme == "balancer" {
        return None;
    }
    let port = address.port_or_known_default().or(match scheme.as_str() {
        "ajp" => Some(8009),
        "fcgi" => Some(8000),
        "scgi" => Some(4000),
        "h2c" => Some(80),
        _ => None,
    });
    Upstream::new(address.host(), port, place, group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_proxy_directives() {
        let text = "ServerRoot \"/etc/httpd\"\nIncludeOptional sites-enabled/*.conf\n<VirtualHost *:80>\n  ProxyPass /static !\n  \
                    ProxyPass \"/\" \"http://app:8080/\"\n  #ProxyPass /old http://old/\n  ProxyPass /b balancer://cluster/\n  \
                    <Location /api>\n    ProxyPass http://api/\n  </Location>\n  ProxyPassMatch ^/php fcgi://127.0.0.1:9000/var/www\n  \
                    ProxyPass /s unix:/run/app.sock|http://localhost/\n  ProxyPass /e http://${HOST}/\n  ProxyPass /j ajp://tomcat/\n\
                    </VirtualHost>\n<Proxy balancer://cluster>\n  BalancerMember http://b1:80\n  BalancerMember http://b2:80 status=+H\n\
                    </Proxy>\n<IfDefine STAGING>\n ProxyPass / http://staging/\n</IfDefine>\n<IfModule !mod_x.c>\nProxyPass / http://n/\n</IfModule>\n";
        let shown: Vec<String> = directives(text, "/c")
            .into_iter()
            .map(|d| match d {
                Directive::Upstream(u) => format!("{}:{} {}{}", u.host, u.port, u.group, if u.spare { " spare" } else { "" }),
                Directive::ServerRoot(root) => format!("root {root}"),
                Directive::Include(pattern) => format!("include {pattern}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "root /etc/httpd",
                "include sites-enabled/*.conf",
                "app:8080 ProxyPass /",
                "api:80 ProxyPass proxy",
                "127.0.0.1:9000 ProxyPass ^/php",
                "tomcat:8009 ProxyPass /j",
                "b1:80 balancer://cluster",
                "b2:80 balancer://cluster spare",
            ]
        );
    }
}
