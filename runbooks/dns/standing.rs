//! What a name server is good for, from its answers.

use opsctl_core::probe::names::{Answers, Asked, Question, Reply};

/// What a name server is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It answers; that there is no such name is an answer.
    Good,
    /// It answers nothing.
    Silent,
    /// It answers that it failed, and nothing else.
    Failing,
    /// It answers that it does not answer us, also about names it should know.
    Refusing,
}

/// The codes of answers that say something.
pub(super) const SAYS_SOMETHING: &[&str] = &["NOERROR", "NXDOMAIN"];

/// What this server is good for.
pub(super) fn standing(server: &Answers) -> Standing {
    let codes: Vec<&str> = server.udp().filter_map(Asked::code).collect();
    if codes.is_empty() {
        return Standing::Silent;
    }
    if codes.iter().any(|c| SAYS_SOMETHING.contains(c)) {
        return Standing::Good;
    }
    if codes.contains(&"SERVFAIL") {
        return Standing::Failing;
    }
    // a server for names inside need not talk about the root
    let names = server.udp().any(|a| a.question != Question::Root);
    if names { Standing::Refusing } else { Standing::Good }
}

/// What is wrong with it, in words: `no answer in 2 s`.
pub(super) fn words(server: &Answers) -> String {
    match standing(server) {
        Standing::Good => "answers".to_owned(),
        Standing::Silent => server.udp().next().map(Asked::words).unwrap_or_default(),
        Standing::Failing => "SERVFAIL".to_owned(),
        Standing::Refusing => server.udp().find_map(Asked::code).unwrap_or_default().to_owned(),
    }
}

/// Whether who asks it waits in vain, instead of hearing at once that there is nothing to wait for.
pub(super) fn keeps_waiting(server: &Answers) -> bool {
    standing(server) == Standing::Silent && server.udp().any(|a| matches!(a.reply, Reply::Silent | Reply::Garbage))
}

/// Everything it was asked and said, for the evidence.
pub(super) fn all(server: &Answers) -> String {
    let one = |a: &Asked| {
        let over = if a.transport == opsctl_core::probe::names::Transport::Tcp { " over TCP" } else { "" };
        let took = if a.code().is_some() { format!(" in {} ms", a.ms) } else { String::new() };
        format!("{}{over}: {}{took}", a.question, a.words())
    };
    server.asked.iter().map(one).collect::<Vec<_>>().join("; ")
}
