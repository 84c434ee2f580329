//! Settings of an HTTP proxy in the environment of a container. Of the values only hosts and ports leave this module: a proxy
//! often has credentials.

use serde::{Deserialize, Serialize};

use crate::model::address::{Address, is_host, join};
use crate::probe::ProbeCx;

/// Variables with a proxy, in lower case. Which case a client reads depends on the client.
const PROXIES: &[&str] = &["http_proxy", "https_proxy", "all_proxy"];

/// Limit of the hosts of one `no_proxy`.
const MAX_EXCEPTIONS: usize = 100;

/// The variables of an environment that name a proxy, and those that name exceptions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxySettings {
    /// Names of variables, each with the `host:port` of its proxy; empty if the value has no valid host.
    pub proxies: Vec<(String, String)>,
    /// Names of variables (`no_proxy`, `NO_PROXY`), each with the hosts that are requested without a proxy.
    pub exceptions: Vec<(String, Vec<String>)>,
}

impl ProxySettings {
    /// Whether no variable names a proxy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }

    /// The proxy in a variable.
    #[must_use]
    pub fn proxy(&self, variable: &str) -> Option<&str> {
        self.proxies.iter().find(|(name, _)| name == variable).map(|(_, proxy)| proxy.as_str())
    }

    /// The hosts in a variable that are requested without a proxy.
    #[must_use]
    pub fn exceptions(&self, variable: &str) -> Option<&[String]> {
        self.exceptions.iter().find(|(name, _)| name == variable).map(|(_, hosts)| hosts.as_slice())
    }
}

/// Proxy settings in the environment of a container.
pub async fn proxy_settings(cx: &ProbeCx, container: &str) -> ProxySettings {
    let Some(docker) = &cx.docker else { return ProxySettings::default() };
    settings_in(&docker.environment(container).await.unwrap_or_default())
}

pub(super) fn settings_in(environment: &[String]) -> ProxySettings {
    let mut settings = ProxySettings::default();
    // an empty variable is the same as none
    for (name, value) in environment.iter().filter_map(|e| e.split_once('=')).filter(|(_, value)| !value.trim().is_empty()) {
        let lower = name.to_ascii_lowercase();
        if PROXIES.contains(&lower.as_str()) {
            settings.proxies.push((name.to_owned(), shown(value.trim())));
        } else if lower == "no_proxy" {
            let hosts = value.split([',', ' ']).map(str::trim).filter(|host| !host.is_empty());
            settings.exceptions.push((name.to_owned(), hosts.map(str::to_owned).take(MAX_EXCEPTIONS).collect()));
        }
    }
    settings
}

/// `host:port` of a proxy without its credentials.
fn shown(value: &str) -> String {
    let address = Address::parse(value);
    let host = address.host();
    if !is_host(host) {
        return String::new();
    }
    address.port().map_or_else(|| host.to_owned(), |port| join(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_proxy_are_not_kept() {
        let environment = [
            "HTTP_PROXY=http://me:canary@proxy.lan:3128",
            "http_proxy=me:canary@10.0.0.1:3128/",
            "https_proxy=http://[fd00::1]:3128",
            "ALL_PROXY=canary canary",
            "no_proxy=localhost, .lan",
            "HTTPS_PROXY=",
            "PROXY=http://canary:1",
        ];
        let settings = settings_in(&environment.map(str::to_owned));
        assert_eq!(settings.proxy("HTTP_PROXY"), Some("proxy.lan:3128"));
        assert_eq!(settings.proxy("http_proxy"), Some("10.0.0.1:3128"));
        assert_eq!(settings.proxy("https_proxy"), Some("[fd00::1]:3128"));
        assert_eq!((settings.proxy("ALL_PROXY"), settings.proxy("HTTPS_PROXY")), (Some(""), None));
        assert_eq!(settings.exceptions("no_proxy"), Some(&["localhost".to_owned(), ".lan".to_owned()][..]));
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
