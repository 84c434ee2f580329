//! State of a name server, derived from its responses.

use opsctl_core::probe::names::{Answers, QueryResult, Question, Reply};

/// State of a name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerStatus {
    /// It responds; NXDOMAIN is a valid response.
    Good,
    /// No response.
    Silent,
    /// It returns only SERVFAIL.
    Failing,
    /// It returns only REFUSED, also for names it should know.
    Refusing,
}

/// Response codes of a successful lookup.
pub(super) const SUCCESS_CODES: &[&str] = &["NOERROR", "NXDOMAIN"];

/// State of this server.
pub(super) fn status_of(server: &Answers) -> ServerStatus {
    let codes: Vec<&str> = server.udp().filter_map(QueryResult::code).collect();
    if codes.is_empty() {
        return ServerStatus::Silent;
    }
    if codes.iter().any(|c| SUCCESS_CODES.contains(c)) {
        return ServerStatus::Good;
    }
    if codes.contains(&"SERVFAIL") {
        return ServerStatus::Failing;
    }
    // a server for internal names need not answer for the root
    let names = server.udp().any(|a| a.question != Question::Root);
    if names { ServerStatus::Refusing } else { ServerStatus::Good }
}

/// Description of its failure: `no answer in 2 s`.
pub(super) fn words(server: &Answers) -> String {
    match status_of(server) {
        ServerStatus::Good => "responds".to_owned(),
        ServerStatus::Silent => server.udp().next().map(QueryResult::words).unwrap_or_default(),
        ServerStatus::Failing => "SERVFAIL".to_owned(),
        ServerStatus::Refusing => server.udp().find_map(QueryResult::code).unwrap_or_default().to_owned(),
    }
}

/// Whether its clients wait for the timeout, rather than get an immediate error.
pub(super) fn keeps_waiting(server: &Answers) -> bool {
    status_of(server) == ServerStatus::Silent && server.udp().any(|a| matches!(a.reply, Reply::Silent | Reply::Garbage))
}

/// All its queries and responses, for the evidence.
pub(super) fn all(server: &Answers) -> String {
    let one = |a: &QueryResult| {
        let over = if a.transport == opsctl_core::probe::names::Transport::Tcp { " over TCP" } else { "" };
        let took = if a.code().is_some() { format!(" in {} ms", a.ms) } else { String::new() };
        format!("{}{over}: {}{took}", a.question, a.words())
    };
    server.asked.iter().map(one).collect::<Vec<_>>().join("; ")
}
