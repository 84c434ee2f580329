//! Upstreams of Traefik: the file provider (<https://doc.traefik.io/traefik/providers/file/>), and the ports in labels of containers.

use super::{Files, Upstream, options};
use crate::model::address::{Address, split_port};
use crate::probe::docker::Container;
use crate::probe::needs::neighbours::Neighbours;

/// Static configuration, in the order in which Traefik searches for it.
const STATIC_FILES: &[&str] = &["/etc/traefik/traefik.yml", "/etc/traefik/traefik.yaml", "/etc/traefik/traefik.toml"];

/// Ends of the names of dynamic configuration files.
const ENDINGS: &[&str] = &[".yml", ".yaml", ".toml"];

/// Part of the label with the port of a service.
const PORT_LABEL: &str = ".loadbalancer.server.port";

pub(super) fn upstreams(files: &mut Files<'_>, words: &[String]) -> Vec<Upstream> {
    let mut paths: Vec<String> = Vec::new();
    let lower: Vec<String> = words
        .iter()
        .map(|w| w.split_once('=').map_or_else(|| w.to_ascii_lowercase(), |(k, v)| format!("{}={v}", k.to_ascii_lowercase())))
        .collect();
    let own = |path: &&str| !path.starts_with('-');
    paths.extend(options(&lower, &["--providers.file.filename"]).into_iter().filter(own).map(str::to_owned));
    let mut directories: Vec<String> =
        options(&lower, &["--providers.file.directory"]).into_iter().filter(own).map(str::to_owned).collect();
    let named = options(&lower, &["--configfile"]).first().map(|path| (*path).to_owned());
    for path in named.into_iter().chain(STATIC_FILES.iter().map(|p| (*p).to_owned())) {
        let Some(text) = files.text(&path) else { continue };
        let (filenames, listed) = file_provider(&text);
        paths.extend(filenames);
        directories.extend(listed);
        break;
    }
    for directory in directories {
        paths.extend(files.of_directory(&directory, ENDINGS));
    }
    let mut found = Vec::new();
    for path in paths {
        let text = files.text(&path).unwrap_or_default();
        found.extend(parse(&text, &path));
    }
    found
}

/// A key with its value in a line of YAML or TOML.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.trim().trim_start_matches("- ").trim();
    if line.starts_with('#') {
        return None;
    }
    let at = line.find([':', '='])?;
    let value = line[at + 1..].split(" #").next().unwrap_or_default().trim();
    Some((line[..at].trim().trim_matches('"'), value.trim_matches(['"', '\''])))
}

/// `providers.file.filename` and `.directory`. No other setting of the static configuration has these names.
fn file_provider(text: &str) -> (Vec<String>, Vec<String>) {
    let of = |name: &str| {
        let named = text.lines().filter_map(setting).filter(|(key, value)| *key == name && value.starts_with('/'));
        named.map(|(_, value)| value.to_owned()).collect()
    };
    (of("filename"), of("directory"))
}

/// `url: "http://app:8080"` of HTTP services and `address: "db:5432"` of TCP services. `address` of an entry point has no host, and that
/// of the middleware `forwardAuth` is a URL.
pub(super) fn parse(text: &str, path: &str) -> Vec<Upstream> {
    let mut found = Vec::new();
    // servers of one service follow each other
    let mut service = 0_usize;
    let mut previous = 0_usize;
    for (number, line) in text.lines().enumerate() {
        let Some((key, value)) = setting(line) else { continue };
        let place = format!("{path}:{}", number + 1);
        if number > previous + 3 {
            service = number + 1;
        }
        let group = format!("servers from line {service}");
        let upstream = match key {
            "url" | "address" if value.contains("://") => {
                let address = Address::parse(value);
                let port = address.port_or_known_default().or_else(|| (address.scheme == Some("h2c")).then_some(80));
                Upstream::new(address.host(), port, place, &group)
            }
            "address" => {
                let (host, port) = split_port(value);
                Upstream::new(host, port, place, &group)
            }
            _ => None,
        };
        if let Some(upstream) = upstream {
            previous = number;
            found.push(upstream);
        }
    }
    found
}

/// The ports that labels of running containers name, for a Traefik in `from` or on this host. Traefik connects to the address of
/// the container.
pub(super) fn of_labels(neighbours: &Neighbours, from: Option<&Container>) -> Vec<Upstream> {
    let mut found = Vec::new();
    for c in neighbours.all().iter().filter(|c| c.is_up() && c.labels.get("traefik.enable").is_none_or(|on| on != "false")) {
        let Some(address) = neighbours.address(from, c) else { continue };
        for (label, value) in c.labels.iter().filter(|(label, _)| is_port_label(label)) {
            let place = format!("label {label} of {}", c.name);
            found.extend(Upstream::new(&address.to_string(), value.trim().parse().ok(), place, label));
        }
    }
    found
}

/// Whether a label names the port of an HTTP or TCP service.
fn is_port_label(label: &str) -> bool {
    let kind = ["traefik.http.services.", "traefik.tcp.services."].iter().any(|prefix| label.starts_with(prefix));
    kind && label.to_ascii_lowercase().ends_with(PORT_LABEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_the_file_provider() {
        let yaml = "http:\n  services:\n    app:\n      loadBalancer:\n        servers:\n          - url: \"http://app:8080\"\n          - url: 'https://b'\n    \
                    \n    api:\n      loadBalancer:\n        healthCheck:\n          path: /x\n        servers:\n          # - url: http://old\n          - url: http://api:81/\n\
                    tcp:\n  services:\n    db:\n      loadBalancer:\n        servers:\n          - address: \"db:5432\"\nentryPoints:\n  web:\n    address: \":80\"\n";
        let shown = |text: &str| -> Vec<String> {
            parse(text, "/d").into_iter().map(|u| format!("{} {}:{}", u.place, u.host, u.port)).collect()
        };
        assert_eq!(shown(yaml), ["/d:6 app:8080", "/d:7 b:443", "/d:15 api:81", "/d:21 db:5432"]);
        let toml = "[[http.services.app.loadBalancer.servers]]\n  url = \"http://10.0.0.1:80\" # one\n";
        assert_eq!(shown(toml), ["/d:2 10.0.0.1:80"]);
        let groups: Vec<String> = parse(yaml, "/d").into_iter().map(|u| u.group).collect();
        assert_eq!((&groups[0], groups[0] == groups[2]), (&groups[1], false));
    }

    #[test]
    fn files_of_the_static_configuration() {
        let text = "providers:\n  docker: {}\n  file:\n    directory: /etc/traefik/dynamic\n    watch: true\n";
        assert_eq!(file_provider(text), (vec![], vec!["/etc/traefik/dynamic".to_owned()]));
        assert_eq!(file_provider("[providers.file]\nfilename = \"/d.toml\"").0, ["/d.toml"]);
    }

    #[test]
    fn label_with_a_port() {
        assert!(is_port_label("traefik.http.services.app.loadbalancer.server.port"));
        assert!(is_port_label("traefik.tcp.services.db.loadBalancer.server.port"));
        assert!(
            !is_port_label("traefik.http.routers.app.rule") && !is_port_label("traefik.udp.services.x.loadbalancer.server.port")
        );
    }
}
