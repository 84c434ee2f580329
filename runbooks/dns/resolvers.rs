//! Every name server of this host, asked directly; and whether libc finds what they know.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, KeyKind, Severity, Subject, Target};
use opsctl_core::probe::command::{self, Argv};
use opsctl_core::probe::names::{Answers, Asked, HostAnswers, Question, hosts_line};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::standing::{self, SAYS_SOMETHING, Standing, standing as standing_of};
use crate::processes::of_host;

const RESOLVE: Code = Code {
    id: "dns.resolve",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "no name server of this host answers (crit); one of them does not, fails, refuses everything or knows a name that another does not, or libc does not find what they know (warn); a name of the configuration that none knows, or answers over UDP and none over TCP (info)",
    hint: "correct the nameserver lines of /etc/resolv.conf where whoever writes it is told (netplan, NetworkManager, resolved, DHCP), or bring the server back",
};
const LATENCY: Code = Code {
    id: "dns.latency",
    severities: &[Severity::Warn],
    when: "a name server takes over 500 ms for the faster of two answers",
    hint: "every new connection waits for it: see whether it or the way to it is overloaded, or put a faster one first",
};

static SPEC: CheckSpec = CheckSpec {
    id: "dns.resolvers",
    title: "the name servers answer, in time and the same",
    codes: &[RESOLVE, LATENCY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

/// How long libc may take to find a name that the first server has just found.
const LIBC: Duration = Duration::from_secs(2);
/// How long libc waits for a server unless `options timeout:` says otherwise, in seconds (`RES_TIMEOUT` of resolv.h).
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

/// What libc makes of a name that the first server knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Libc {
    name: String,
    /// It finds it; none when it could not be asked.
    found: Option<bool>,
    /// Why not.
    gap: Option<String>,
    /// The `hosts` line of nsswitch.conf.
    hosts: Option<String>,
}

impl Check for Resolvers {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Target) -> Result<Evidence, ProbeError> {
        let host = (*cx.resolvers.host(&self.settings.names, self.settings.patience()).await?).clone();
        let known = host.servers.first().and_then(known_name).map(str::to_owned);
        let libc = match known {
            Some(name) => ask_libc(name).await,
            None => None,
        };
        Ok(Evidence { host, libc })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let servers = &e.host.servers;
        let mut j = Judgement::default();
        j.findings.extend(standing_of_all(e).map(of_host));
        j.findings.extend(names_that_fail(servers));
        j.findings.extend(names(servers));
        j.findings.extend(no_tcp(servers));
        if let Some(libc) = &e.libc {
            j.findings.extend(libc_differs(libc).map(of_host));
            j.gaps.extend(libc.gap.iter().map(|why| format!("whether libc finds {}: {why}", libc.name)));
        }
        j.findings.extend(self.slow(servers));
        j
    }
}

/// The first name of the configuration that this server has an address for.
fn known_name(server: &Answers) -> Option<&str> {
    server.udp().find_map(|a| match &a.question {
        Question::Address(name) if !a.addresses().is_empty() => Some(name.as_str()),
        _ => None,
    })
}

/// Asks this machine's own libc, as its programs do; none where that is not possible. Ours is another one.
async fn ask_libc(name: String) -> Option<Libc> {
    let ended = match Argv::new("getent", &["ahosts"]).operand(&name) {
        Ok(argv) => command::run(&argv, LIBC).await,
        Err(why) => Err(why),
    };
    let (found, gap) = match ended.map(|e| e.status.code()) {
        Ok(Some(0)) => (Some(true), None),
        // getent(1): a key that could not be found
        Ok(Some(2)) => (Some(false), None),
        Ok(code) => (None, Some(format!("getent ended with {code:?}"))),
        Err(why) if why.ends_with("not installed") => return None,
        Err(why) => (None, Some(why)),
    };
    let hosts = if found == Some(false) { hosts_line().await } else { None };
    Some(Libc { name, found, gap, hosts })
}

fn found(severity: Severity, message: String) -> Finding {
    Finding::new(&RESOLVE, severity, Subject::host(), message).key(KeyKind::Names, "host")
}

fn list(servers: &[&Answers]) -> String {
    servers.iter().map(|s| format!("{} ({})", s.server, standing::words(s))).collect::<Vec<_>>().join(", ")
}

/// Which servers can be used at all.
fn standing_of_all(e: &Evidence) -> Option<Finding> {
    let servers: Vec<&Answers> = e.host.servers.iter().collect();
    let bad: Vec<&Answers> = servers.iter().copied().filter(|s| standing_of(s) != Standing::Good).collect();
    let first = bad.first()?;
    let asked_names = first.udp().any(|a| a.question != Question::Root);
    let all = |wanted: Standing| bad.iter().all(|s| standing_of(s) == wanted);
    let does = |s: &Answers| match standing_of(s) {
        Standing::Failing => "only fails",
        Standing::Refusing => "refuses every question",
        Standing::Good | Standing::Silent => "does not answer",
    };
    let finding = if bad.len() == servers.len() {
        let severity =
            if all(Standing::Silent) || (asked_names && !all(Standing::Refusing)) { Severity::Crit } else { Severity::Warn };
        let message = match &bad[..] {
            [only] if e.host.file.conf.servers.is_empty() => {
                format!(
                    "no name server is configured, and {}, which is asked then, {}: {}",
                    only.server,
                    does(only),
                    standing::words(only)
                )
            }
            [only] => format!("the only name server, {}, {}: {}", only.server, does(only), standing::words(only)),
            _ => format!("none of the {} name servers gives an answer: {}", bad.len(), list(&bad)),
        };
        found(severity, message)
    } else {
        let next = servers.iter().find(|s| standing_of(s) == Standing::Good).map(|s| s.server.to_string()).unwrap_or_default();
        let is_first = std::ptr::eq::<Answers>(*first, servers[0]);
        let wait = e.host.file.conf.number("timeout").unwrap_or(RES_TIMEOUT);
        let message = if is_first && standing::keeps_waiting(first) {
            format!(
                "the first name server, {}, does not answer ({}): every lookup waits {wait} s for it before {next} is asked",
                first.server,
                standing::words(first)
            )
        } else if is_first {
            let how = standing::words(first);
            format!("the first name server, {}, {} ({how}): every lookup has to ask {next} too", first.server, does(first))
        } else {
            format!(
                "{} of {} name servers gives no answer: {}; it matters when those before it fail",
                bad.len(),
                servers.len(),
                list(&bad)
            )
        };
        let message = match &bad[1..] {
            others @ [_, ..] if is_first => format!("{message}; nor does {}", list(others)),
            _ => message,
        };
        found(Severity::Warn, message)
    };
    Some(servers.iter().fold(finding, |f, s| f.cite(s.server.to_string(), standing::all(s))))
}

/// Names of the configuration that a server, good otherwise, cannot look up.
fn names_that_fail(servers: &[Answers]) -> Option<Finding> {
    let good = servers.iter().filter(|s| standing_of(s) == Standing::Good);
    let fails = |a: &&Asked| a.question != Question::Root && !a.code().is_some_and(|c| SAYS_SOMETHING.contains(&c));
    let failed: Vec<String> = good
        .flat_map(|s| s.udp().filter(fails).map(move |a| format!("{} from {} ({})", a.question, s.server, a.words())))
        .collect();
    let message = format!("a name of the configuration is not looked up: {}", failed.join(", "));
    (!failed.is_empty()).then(|| found(Severity::Warn, message))
}

/// Names of the configuration that not all servers know, or none.
fn names(servers: &[Answers]) -> Vec<Finding> {
    let questions = servers.first().into_iter().flat_map(Answers::udp).map(|a| &a.question).filter(|q| **q != Question::Root);
    let one = |question: &Question| {
        let said = |s: &Answers| s.udp().find(|a| a.question == *question).cloned();
        let who = |wanted: &dyn Fn(&Asked) -> bool| -> Vec<String> {
            servers.iter().filter(|s| said(s).is_some_and(|a| wanted(&a))).map(|s| s.server.to_string()).collect()
        };
        let know = who(&|a| !a.addresses().is_empty());
        let deny = who(&|a| a.code() == Some("NXDOMAIN"));
        if !know.is_empty() && !deny.is_empty() {
            let message = format!(
                "{} is known to {} and unknown to {}: what is found depends on which one answers",
                question,
                know.join(", "),
                deny.join(", ")
            );
            return Some(
                found(Severity::Warn, message).hint("name servers of one resolv.conf must know the same: take the odd one out"),
            );
        }
        (know.is_empty() && !deny.is_empty())
            .then(|| found(Severity::Info, format!("{question}, a name of the configuration, is unknown to {}", deny.join(", "))))
    };
    questions.filter_map(one).collect()
}

fn no_tcp(servers: &[Answers]) -> Option<Finding> {
    let over_udp_only = |s: &&Answers| {
        let root = s.udp().any(|a| a.question == Question::Root && a.code().is_some());
        root && s.tcp().is_some_and(|a| a.code().is_none())
    };
    let deaf: Vec<String> = servers
        .iter()
        .filter(over_udp_only)
        .map(|s| format!("{} ({})", s.server, s.tcp().map(Asked::words).unwrap_or_default()))
        .collect();
    let message = format!("answers over UDP and none over TCP: {}", deaf.join(", "));
    (!deaf.is_empty()).then(|| {
        found(Severity::Info, message)
            .hint("answers too large for UDP fail: let TCP port 53 through, or have the server listen there")
    })
}

fn libc_differs(libc: &Libc) -> Option<Finding> {
    let hosts = libc.hosts.as_deref().unwrap_or("files dns");
    (libc.found == Some(false)).then(|| {
        let message = format!(
            "the name servers know {} and this machine's libc does not find it: nsswitch.conf says `hosts: {hosts}`",
            libc.name
        );
        found(Severity::Warn, message).hint(
            "the hosts line of /etc/nsswitch.conf needs `dns` (or `resolve`), and what stands before it must not end the search",
        )
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
        let message = format!("name server {} to answer, limit {} ms", slow.join(", "), self.settings.latency_ms);
        (!slow.is_empty()).then(|| of_host(Finding::new(&LATENCY, Severity::Warn, Subject::host(), message)))
    }
}
