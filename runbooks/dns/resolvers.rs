//! Direct queries to every name server of this host, and a comparison with libc.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Object, Role, Severity};
use opsctl_core::probe::io::command;
use opsctl_core::probe::io::command::Argv;
use opsctl_core::probe::names::{Answers, HostAnswers, QueryResult, Question, dead_end, hosts_line, multicast_only};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::nsswitch::is_local;
use super::status::{self, SUCCESS_CODES, ServerStatus, status_of};
use crate::shared::processes::of_host;

const RESOLVE: Code = Code {
    id: "dns.resolve",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "no name server of this host responds (crit); one of them does not, fails, refuses all queries or knows a name that another does not, or libc does not resolve a name that they know (warn); none knows a name of the configuration, or one responds over UDP but not over TCP (info)",
    hint: "correct the nameserver lines of /etc/resolv.conf in the configuration of its generator (netplan, NetworkManager, resolved, DHCP), or restore the server",
    impacts: &[Impact::likely(Role::NamesBroken, KeyKind::Names, "names cannot be resolved")],
    ..Code::BASE
};
const LATENCY: Code = Code {
    id: "dns.latency",
    severities: &[Severity::Warn],
    when: "a name server takes over {latency_ms} for the faster of two responses",
    hint: "every new connection waits for it: check the load of the server and of the network path, or list a faster server first",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "dns.resolvers",
    title: "name servers respond in time and consistently",
    codes: &[RESOLVE, LATENCY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// Time limit of `getent` for a name that the first server has just resolved.
const GETENT_TIMEOUT: Duration = Duration::from_secs(2);
/// Default of `options timeout:` in resolv.conf, in seconds (`RES_TIMEOUT` of resolv.h).
const RES_TIMEOUT: u32 = 5;

pub(super) struct Resolvers {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    host: HostAnswers,
    libc: Option<Libc>,
}

/// Result of libc for a name that the first server knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Libc {
    name: String,
    /// libc resolves the name; `None` if unknown.
    found: Option<bool>,
    /// The reason why it is unknown.
    gap: Option<String>,
    /// The `hosts` line of nsswitch.conf.
    hosts: Option<String>,
}

impl Check for Resolvers {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let host = (*cx.resolvers().host(&self.settings.names, self.settings.query_limits()).await?).clone();
        let name = host.servers.first().and_then(known_name).map(str::to_owned);
        let libc = match name {
            Some(name) => resolve_with_libc(name).await,
            None => None,
        };
        Ok(Evidence { host, libc })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let servers = &e.host.servers;
        let mut j = Judgement::default();
        j.findings.extend(unusable_servers(e).map(of_host));
        j.findings.extend(names_that_fail(servers));
        j.findings.extend(names(servers));
        j.findings.extend(no_tcp(servers));
        if let Some(libc) = &e.libc {
            j.findings.extend(libc_differs(libc).map(of_host));
            j.gaps.extend(libc.gap.iter().map(|why| format!("whether libc resolves {}: {why}", libc.name)));
        }
        j.findings.extend(self.slow(servers));
        j
    }
}

/// The first name of the configuration with an address from this server.
fn known_name(server: &Answers) -> Option<&str> {
    server.udp().find_map(|a| match &a.question {
        Question::Address(name) if !a.addresses().is_empty() => Some(name.as_str()),
        _ => None,
    })
}

/// Resolves a name with `getent`, so with the libc of this machine; opsctl is linked with another libc. `None` without `getent`.
async fn resolve_with_libc(name: String) -> Option<Libc> {
    let ended = match Argv::new("getent", &["ahosts"]).operand(&name) {
        Ok(argv) => command::run(&argv, GETENT_TIMEOUT).await,
        Err(why) => Err(why),
    };
    let (found, gap) = match ended.map(|e| e.status.code()) {
        Ok(Some(0)) => (Some(true), None),
        // getent(1): a key that could not be found
        Ok(Some(2)) => (Some(false), None),
        Ok(code) => (None, Some(format!("getent exited with {code:?}"))),
        Err(why) if why.ends_with("not installed") => return None,
        Err(why) => (None, Some(why)),
    };
    let hosts = if found == Some(false) { hosts_line().await } else { None };
    Some(Libc { name, found, gap, hosts })
}

fn found(severity: Severity, message: String) -> Finding {
    Finding::new(&RESOLVE, severity, Object::host(), message).key(KeyKind::Names, "host")
}

fn list(servers: &[&Answers]) -> String {
    servers.iter().map(|s| format!("{} ({})", s.server, status::words(s))).collect::<Vec<_>>().join(", ")
}

/// Servers that cannot be used.
fn unusable_servers(e: &Evidence) -> Option<Finding> {
    let servers: Vec<&Answers> = e.host.servers.iter().collect();
    let bad: Vec<&Answers> = servers.iter().copied().filter(|s| status_of(s) != ServerStatus::Good).collect();
    let first = bad.first()?;
    let queried_names = first.udp().any(|a| a.question != Question::Root);
    let all = |status: ServerStatus| bad.iter().all(|s| status_of(s) == status);
    let does = |s: &Answers| match status_of(s) {
        ServerStatus::Failing => "only fails",
        ServerStatus::Refusing => "refuses every query",
        ServerStatus::Good | ServerStatus::Silent => "does not respond",
    };
    let finding = if bad.len() == servers.len() {
        let severity = if all(ServerStatus::Silent) || (queried_names && !all(ServerStatus::Refusing)) {
            Severity::Crit
        } else {
            Severity::Warn
        };
        let message = match &bad[..] {
            [only] if e.host.file.conf.servers.is_empty() => {
                format!("no name server is configured, and the default {} {}: {}", only.server, does(only), status::words(only))
            }
            [only] => format!("the only name server, {}, {}: {}", only.server, does(only), status::words(only)),
            _ => format!("none of the {} name servers resolves names: {}", bad.len(), list(&bad)),
        };
        found(severity, message)
    } else {
        let next = servers.iter().find(|s| status_of(s) == ServerStatus::Good).map(|s| s.server.to_string()).unwrap_or_default();
        let is_first = std::ptr::eq::<Answers>(*first, servers[0]);
        let wait = e.host.file.conf.number("timeout").unwrap_or(RES_TIMEOUT);
        let message = if is_first && status::keeps_waiting(first) {
            format!(
                "the first name server, {}, does not respond ({}): every lookup waits {wait} s for it before {next} is queried",
                first.server,
                status::words(first)
            )
        } else if is_first {
            let how = status::words(first);
            format!("the first name server, {}, {} ({how}): every lookup also queries {next}", first.server, does(first))
        } else {
            format!(
                "{} of {} name servers failed: {}; relevant if the servers listed before fail",
                bad.len(),
                servers.len(),
                list(&bad)
            )
        };
        let message = match &bad[1..] {
            others @ [_, ..] if is_first => format!("{message}; also failing: {}", list(others)),
            _ => message,
        };
        found(Severity::Warn, message)
    };
    Some(servers.iter().fold(finding, |f, s| f.cite(s.server.to_string(), status::all(s))))
}

/// Names of the configuration that an otherwise working server cannot resolve.
fn names_that_fail(servers: &[Answers]) -> Option<Finding> {
    let good = servers.iter().filter(|s| status_of(s) == ServerStatus::Good);
    let fails = |a: &&QueryResult| a.question != Question::Root && !a.code().is_some_and(|c| SUCCESS_CODES.contains(&c));
    let failed: Vec<String> = good
        .flat_map(|s| s.udp().filter(fails).map(move |a| format!("{} from {} ({})", a.question, s.server, a.words())))
        .collect();
    let message = format!("a name of the configuration does not resolve: {}", failed.join(", "));
    (!failed.is_empty()).then(|| found(Severity::Warn, message))
}

/// Names of the configuration that are unknown to some or all servers.
fn names(servers: &[Answers]) -> Vec<Finding> {
    let questions = servers.first().into_iter().flat_map(Answers::udp).map(|a| &a.question).filter(|q| **q != Question::Root);
    let one = |question: &Question| {
        let reply = |s: &Answers| s.udp().find(|a| a.question == *question).cloned();
        let servers_with = |matches: &dyn Fn(&QueryResult) -> bool| -> Vec<String> {
            servers.iter().filter(|s| reply(s).is_some_and(|a| matches(&a))).map(|s| s.server.to_string()).collect()
        };
        let known_to = servers_with(&|a| !a.addresses().is_empty());
        let unknown_to = servers_with(&|a| a.code() == Some("NXDOMAIN"));
        if !known_to.is_empty() && !unknown_to.is_empty() {
            let message = format!(
                "{} is known to {} and unknown to {}: the result depends on the server that responds",
                question,
                known_to.join(", "),
                unknown_to.join(", ")
            );
            return Some(
                found(Severity::Warn, message)
                    .hint("all name servers of a resolv.conf must know the same names: remove the inconsistent one"),
            );
        }
        (known_to.is_empty() && !unknown_to.is_empty()).then(|| {
            found(Severity::Info, format!("{question}, a name of the configuration, is unknown to {}", unknown_to.join(", ")))
        })
    };
    questions.filter_map(one).collect()
}

fn no_tcp(servers: &[Answers]) -> Option<Finding> {
    let over_udp_only = |s: &&Answers| {
        let root = s.udp().any(|a| a.question == Question::Root && a.code().is_some());
        root && s.tcp().is_some_and(|a| a.code().is_none())
    };
    let without_tcp: Vec<String> = servers
        .iter()
        .filter(over_udp_only)
        .map(|s| format!("{} ({})", s.server, s.tcp().map(QueryResult::words).unwrap_or_default()))
        .collect();
    let message = format!("responses over UDP but not over TCP: {}", without_tcp.join(", "));
    (!without_tcp.is_empty()).then(|| {
        found(Severity::Info, message)
            .hint("responses too large for UDP fail: allow TCP port 53, or configure the server to listen on it")
    })
}

fn libc_differs(libc: &Libc) -> Option<Finding> {
    let hosts = libc.hosts.as_deref().unwrap_or("files dns");
    // reported by dns.nsswitch
    if dead_end(hosts).is_some() || (is_local(&libc.name) && multicast_only(hosts).is_some()) {
        return None;
    }
    (libc.found == Some(false)).then(|| {
        let message = format!(
            "the name servers know {} but this machine's libc does not resolve it: nsswitch.conf has `hosts: {hosts}`",
            libc.name
        );
        found(Severity::Warn, message)
            .hint("the hosts line of /etc/nsswitch.conf needs `dns` (or `resolve`), and no entry before it may end the search")
    })
}

impl Resolvers {
    fn slow(&self, servers: &[Answers]) -> Option<Finding> {
        let fastest = |s: &Answers| s.udp().filter(|a| a.code().is_some()).map(|a| a.ms).min();
        let slow: Vec<String> = servers
            .iter()
            .filter_map(|s| Some((s, fastest(s).filter(|ms| *ms > self.settings.latency_ms)?)))
            .map(|(s, ms)| format!("{} takes {ms} ms", s.server))
            .collect();
        let message = format!("name server {} to respond, limit {} ms", slow.join(", "), self.settings.latency_ms);
        (!slow.is_empty()).then(|| of_host(Finding::new(&LATENCY, Severity::Warn, Object::host(), message)))
    }
}
