//! Health tests that send their request to a proxy instead of to the service.
//!
//! Clients read the proxy from the environment of the container, also for localhost: only `no_proxy` exempts it. The proxy then
//! connects to its own localhost. Which variables count depends on the client.

use std::net::IpAddr;

use opsctl_core::model::address::split_port;
use opsctl_core::probe::docker::image_files::ImageFiles;
use opsctl_core::probe::needs::ProxySettings;

use super::command::Command;

/// A client that a health test uses, and the variables that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// Lower case only for `http_proxy`: `HTTP_PROXY` can come from a request header (curl(1), ENVIRONMENT).
    Curl,
    /// GNU Wget: lower case only.
    Wget,
    /// Busybox: `http_proxy` for all URLs, without exceptions (networking/wget.c).
    Busybox,
    /// urllib: both cases, lower case first.
    Python,
}

impl Client {
    /// The client of a test, by its programs.
    fn of(command: &Command, files: Option<&ImageFiles>) -> Option<Self> {
        let names = command.text.split([' ', '\t', '\n', ';', '|', '&', '(', '\'', '"', '`']).filter(|w| !w.is_empty());
        let names: Vec<&str> = names.map(|word| word.rsplit('/').next().unwrap_or(word)).collect();
        let has = |name: &str| names.contains(&name);
        if has("curl") {
            Some(Self::Curl)
        } else if has("wget") {
            let is_applet = has("busybox") || files.is_some_and(|f| f.wget_is_busybox);
            Some(if is_applet { Self::Busybox } else { Self::Wget })
        } else if names.iter().any(|name| name.starts_with("python")) {
            Some(Self::Python)
        } else {
            None
        }
    }

    /// Variables with the proxy for a scheme; the first that is set counts.
    fn proxies(self, scheme: &str) -> &'static [&'static str] {
        match (self, scheme) {
            (Self::Curl, "https") => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            (Self::Curl, _) => &["http_proxy", "all_proxy", "ALL_PROXY"],
            (Self::Wget, "https") => &["https_proxy"],
            (Self::Wget | Self::Busybox, _) => &["http_proxy"],
            (Self::Python, "https") => &["https_proxy", "HTTPS_PROXY"],
            (Self::Python, _) => &["http_proxy", "HTTP_PROXY"],
        }
    }

    /// Variables with the hosts that are requested directly.
    fn exceptions(self) -> &'static [&'static str] {
        match self {
            Self::Curl | Self::Python => &["no_proxy", "NO_PROXY"],
            Self::Wget => &["no_proxy"],
            Self::Busybox => &[],
        }
    }

    /// The option that requests directly.
    fn bypass(self) -> &'static str {
        match self {
            Self::Curl => "`curl --noproxy '*'`",
            Self::Wget => "`wget --no-proxy`",
            Self::Busybox => "`wget -Y off`",
            Self::Python => "`urllib.request.build_opener(urllib.request.ProxyHandler({}))`",
        }
    }
}

/// A request that goes to a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxiedRequest {
    /// Host in the URL of the test.
    pub(super) host: String,
    /// Variable with the proxy.
    pub(super) variable: &'static str,
    /// `host:port` of the proxy, or empty.
    pub(super) proxy: String,
    client: Client,
}

impl ProxiedRequest {
    pub(super) fn hint(&self) -> String {
        let bypass = self.client.bypass();
        match self.client.exceptions().first() {
            Some(variable) => {
                format!("add {} to {variable} in the environment of the container, or use {bypass} in the test", self.host)
            }
            None => format!("use {bypass} in the test: busybox does not read no_proxy"),
        }
    }
}

/// The proxy to which a test for a service inside the container sends its request; `None` if it reaches the service.
pub(super) fn proxied(command: &Command, settings: &ProxySettings, files: Option<&ImageFiles>) -> Option<ProxiedRequest> {
    let (scheme, host) = command.url.as_ref()?;
    let text = command.text.to_ascii_lowercase();
    // the test sets or avoids the proxy itself: --noproxy, --no-proxy, -x '', -Y off, no_proxy=…, env -u http_proxy
    let decides_itself = text.contains("proxy") || command.text.split_whitespace().any(|w| w == "-x" || w.starts_with("-Y"));
    if decides_itself || !is_local(host) {
        return None;
    }
    let client = Client::of(command, files)?;
    let (variable, proxy) = client.proxies(scheme).iter().find_map(|name| Some((*name, settings.proxy(name)?)))?;
    let exceptions = client.exceptions().iter().find_map(|name| settings.exceptions(name)).unwrap_or_default();
    if exceptions.iter().any(|exception| covers(exception, host)) {
        return None;
    }
    Some(ProxiedRequest { host: host.clone(), variable, proxy: proxy.to_owned(), client })
}

fn is_local(host: &str) -> bool {
    let ip = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// Whether an entry of `no_proxy` exempts a host. Networks (`127.0.0.0/8`) count although not all clients know them.
fn covers(exception: &str, host: &str) -> bool {
    let name = split_port(exception).0.trim_start_matches("*.").trim_start_matches('.');
    let is_name = || !name.is_empty() && (host.eq_ignore_ascii_case(name) || ends_with_domain(host, name));
    exception == "*" || is_name() || in_network(exception, host)
}

fn ends_with_domain(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

fn in_network(network: &str, host: &str) -> bool {
    let Some((address, bits)) = network.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), host.parse::<IpAddr>(), bits.parse::<u32>()) {
        (Ok(IpAddr::V4(network)), Ok(IpAddr::V4(host)), Ok(bits)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            network.to_bits() & mask == host.to_bits() & mask
        }
        (Ok(IpAddr::V6(network)), Ok(IpAddr::V6(host)), Ok(bits)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            network.to_bits() & mask == host.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(proxies: &[&str], exceptions: &[(&str, &[&str])]) -> ProxySettings {
        let exception = |(name, hosts): &(&str, &[&str])| ((*name).to_owned(), hosts.iter().map(|h| (*h).to_owned()).collect());
        ProxySettings {
            proxies: proxies.iter().map(|name| ((*name).to_owned(), "proxy:3128".to_owned())).collect(),
            exceptions: exceptions.iter().map(exception).collect(),
        }
    }

    fn variable(test: &str, settings: &ProxySettings, busybox: bool) -> Option<&'static str> {
        let command = Command::parse(&["CMD-SHELL".to_owned(), test.to_owned()]);
        let files = ImageFiles { wget_is_busybox: busybox, ..ImageFiles::default() };
        proxied(&command, settings, Some(&files)).map(|p| p.variable)
    }

    #[test]
    fn clients_read_different_variables() {
        let (lower, upper) = (settings(&["http_proxy"], &[]), settings(&["HTTP_PROXY"], &[]));
        let curl = "curl -f http://localhost:8080/health || exit 1";
        let wget = "wget -qO- http://127.0.0.1:$PORT/";
        let python = "python3 -c \"import urllib.request as u; u.urlopen('http://localhost:80/')\"";
        assert_eq!((variable(curl, &lower, false), variable(curl, &upper, false)), (Some("http_proxy"), None));
        assert_eq!((variable(wget, &lower, false), variable(wget, &upper, true)), (Some("http_proxy"), None));
        assert_eq!((variable(python, &lower, false), variable(python, &upper, false)), (Some("http_proxy"), Some("HTTP_PROXY")));
        assert_eq!(variable("curl http://localhost/", &settings(&["ALL_PROXY"], &[]), false), Some("ALL_PROXY"));
    }

    #[test]
    fn exceptions_of_no_proxy() {
        let curl = "/usr/bin/curl -f http://localhost/";
        let by = |exceptions: &[(&str, &[&str])]| variable(curl, &settings(&["http_proxy"], exceptions), false);
        assert_eq!(by(&[("NO_PROXY", &["a.lan", "localhost"])]), None);
        assert_eq!(by(&[("no_proxy", &["127.0.0.1"]), ("NO_PROXY", &["localhost"])]), Some("http_proxy"));
        let wget = "wget -q http://localhost/";
        let of_wget = |busybox| variable(wget, &settings(&["http_proxy"], &[("no_proxy", &["localhost"])]), busybox);
        assert_eq!((of_wget(false), of_wget(true)), (None, Some("http_proxy")));
        for (exception, host, is_covered) in [
            ("*", "localhost", true),
            ("localhost:80", "localhost", true),
            (".lan", "db.lan", true),
            ("*.lan", "db.lan", true),
            ("an", "db.lan", false),
            ("127.0.0.0/8", "127.0.0.1", true),
            ("10.0.0.0/8", "127.0.0.1", false),
            ("0.0.0.0/0", "127.0.0.1", true),
            ("::1", "::1", true),
            ("127.0.0.1", "localhost", false),
        ] {
            assert_eq!(covers(exception, host), is_covered, "{exception} {host}");
        }
    }

    #[test]
    fn tests_that_reach_the_service() {
        let set = settings(&["http_proxy", "HTTP_PROXY", "all_proxy"], &[]);
        for test in [
            "curl --noproxy '*' http://localhost/",
            "wget -Y off -q http://localhost/",
            "no_proxy=localhost wget -q http://localhost/",
            "curl -f http://app:80/",
            "node check.js http://localhost/",
            "/app/health",
        ] {
            assert_eq!(variable(test, &set, true), None, "{test}");
        }
        assert_eq!(variable("curl http://localhost/", &ProxySettings::default(), false), None);
    }
}
