//! Listeners of a container, and the settings that define their addresses. Only addresses of environments and arguments leave
//! this module.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::address::split_port;
use crate::probe::docker::NAME_SERVER;
use crate::probe::network::listeners;
use crate::probe::network::listeners::Listener;
use crate::probe::{Io, ProbeCx, ProbeError, blocking};

/// Timeout of reading the listeners of one namespace.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A variable that may define the listening address of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Name of the variable.
    pub variable: String,
    /// Value, if it is nothing but an address.
    pub address: Option<String>,
}

/// A listening socket and its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// `node (pid 812): node server.js --host 127.0.0.1`: of the arguments only the program and addresses. Filled in on request.
    #[serde(default)]
    pub process: Option<String>,
}

impl Listening {
    /// `127.0.0.1:8080`.
    #[must_use]
    pub fn socket_address(&self) -> String {
        SocketAddr::new(self.address, self.port).to_string()
    }
}

/// Listeners in the network namespace of `pid`, without Docker's embedded name server. Processes are looked up on request only,
/// because every descriptor has to be read.
pub async fn listening(cx: &ProbeCx, pid: i32, with_processes: bool) -> Result<Vec<Listening>, ProbeError> {
    let from = format!("/proc/{pid}/net/tcp");
    let denied = || ProbeError::Denied {
        subject: "listening sockets".into(),
        from: from.clone(),
        needs: crate::probe::needed_right().into(),
    };
    let read = move |io: &Io| {
        let mut found: Vec<Listener> = listeners::listeners_of(io, i64::from(pid))?;
        found.retain(|l| l.address != NAME_SERVER);
        found.sort_by_key(|l| (l.port, l.address));
        found.dedup_by_key(|l| (l.port, l.address));
        Some(found)
    };
    let found = blocking::run("listening sockets", &from, READ_TIMEOUT, read).await?.ok_or_else(denied)?;
    let mut listening = Vec::with_capacity(found.len());
    for l in found {
        let process = if with_processes { holder(cx, l.inode).await? } else { None };
        listening.push(Listening { address: l.address, port: l.port, process });
    }
    Ok(listening)
}

/// A process that holds a socket.
async fn holder(cx: &ProbeCx, inode: u64) -> Result<Option<String>, ProbeError> {
    let table = cx.processes().await?;
    let holders = table.socket_holders().await?;
    let Some(process) = holders.get(&inode).and_then(|pid| table.get(*pid)) else { return Ok(None) };
    let shown = addresses_in(&table.command_line(process.pid).await.unwrap_or_default());
    let shown = if shown.is_empty() { String::new() } else { format!(": {shown}") };
    Ok(Some(format!("{} (pid {}){shown}", process.comm, process.pid)))
}

/// Program of a command line (separated by NUL), and those of its arguments that are addresses, with the preceding flag. Other
/// arguments may be secrets.
pub(super) fn addresses_in(arguments: &str) -> String {
    let words: Vec<&str> = arguments.split('\0').filter(|w| !w.is_empty()).collect();
    let Some(program) = words.first() else { return String::new() };
    let mut shown: Vec<&str> = vec![program.split(' ').next().unwrap_or_default()];
    for (i, word) in words.iter().enumerate().skip(1) {
        let value = word.rsplit_once('=').map_or(*word, |(_, value)| value);
        if !is_address(value) {
            continue;
        }
        // a preceding flag shows the purpose of the address
        if let Some(flag) = words.get(i - 1).filter(|f| i > 1 && f.starts_with('-') && !f.contains('=')) {
            shown.push(flag);
        }
        shown.push(word);
    }
    shown.join(" ").chars().take(300).collect()
}

/// Whether a text is like `127.0.0.1`, `127.0.0.1:8080`, `[::1]:80`, `localhost:80`, `:8080`.
fn is_address(text: &str) -> bool {
    let (host, port) = split_port(text);
    host == "localhost" || host.parse::<IpAddr>().is_ok() || (host.is_empty() && port.is_some())
}

/// Variables of a container's environment that may define its listening address.
pub async fn bindings(cx: &ProbeCx, container: &str) -> Vec<Binding> {
    let Some(docker) = &cx.docker else { return Vec::new() };
    binding_variables(&docker.environment(container).await.unwrap_or_default())
}

pub(super) fn binding_variables(environment: &[String]) -> Vec<Binding> {
    let is_listen_setting = |name: &str| {
        let upper = name.to_ascii_uppercase();
        let is_binding = ["BIND", "LISTEN"].iter().any(|w| upper.contains(w));
        // DB_HOST is the address of another service: only an unprefixed name, or that of a server, is its own
        is_binding
            || matches!(upper.as_str(), "HOST" | "ADDR" | "ADDRESS" | "HOSTNAME")
            || ["SERVER_HOST", "SERVER_ADDR", "SERVER_ADDRESS", "HTTP_HOST", "HTTP_ADDR", "APP_HOST", "API_HOST"]
                .contains(&upper.as_str())
    };
    let secret = |name: &str| ["PASS", "SECRET", "TOKEN", "KEY"].iter().any(|w| name.to_ascii_uppercase().contains(w));
    let mut found: Vec<Binding> = environment
        .iter()
        .filter_map(|e| e.split_once('='))
        .filter(|(name, _)| is_listen_setting(name) && !secret(name))
        .map(|(name, value)| Binding { variable: name.to_owned(), address: is_address(value).then(|| value.to_owned()) })
        .take(10)
        .collect();
    found.sort_by(|a, b| a.variable.cmp(&b.variable));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_an_ip_or_localhost() {
        for text in ["127.0.0.1", "127.0.0.1:80", "[::1]:80", "[::1]", "::1", "localhost", "localhost:80", ":8080"] {
            assert!(is_address(text), "{text}");
        }
    }

    #[test]
    fn other_text_is_no_address() {
        for text in ["", ":", ":canary", "127.0.0.1:canary", "[::1", "[::1]:canary", "db:5432", "8080"] {
            assert!(!is_address(text), "{text}");
        }
    }

    #[test]
    fn only_addresses_are_shown() {
        let shown = |words: &[&str]| addresses_in(&words.join("\0"));
        assert_eq!(
            shown(&["/app/server", "--bind", "127.0.0.1", "--port", "8080", "--token", "canary"]),
            "/app/server --bind 127.0.0.1"
        );
        assert_eq!(
            shown(&["gunicorn", "-b", "localhost:8000", "--key=canary", "--addr=[::1]:80"]),
            "gunicorn -b localhost:8000 --addr=[::1]:80"
        );
        assert_eq!(shown(&["postgres: canary canary"]), "postgres:");
        assert_eq!(shown(&[]), "");
        let environment = ["HOST=127.0.0.1", "DB_HOST=db", "LISTEN_ADDR=canary", "BIND_PASSWORD=x", "PORT=80", "HTTP_ADDR=:8080"];
        let environment: Vec<String> = environment.iter().map(|e| (*e).to_owned()).collect();
        let found: Vec<(String, Option<String>)> =
            binding_variables(&environment).into_iter().map(|b| (b.variable, b.address)).collect();
        let some = |v: &str| Some(v.to_owned());
        assert_eq!(
            found,
            [("HOST".to_owned(), some("127.0.0.1")), ("HTTP_ADDR".to_owned(), some(":8080")), ("LISTEN_ADDR".to_owned(), None)]
        );
    }
}
