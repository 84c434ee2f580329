//! Parser of `iptables-save` and `ip6tables-save` for the evaluation of their rules.

mod matches;
mod targets;

use super::ipset::IpSets;
use super::packet::Hook;
use super::rule::{Base, Builder, Families, FilterRule, Kind, Names, Step};
use crate::probe::network::firewall::Backend;

pub(super) use matches::{protocol_number, range};

/// Parses the words of a rule.
struct Words<'a> {
    words: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    fn peek(&mut self) -> Option<&'a str> {
        self.words.peek().copied()
    }
}

/// Adds the tables in `text`.
pub(super) fn add(rules: &mut Builder, backend: Backend, text: &str, sets: &IpSets, ipv6: bool) {
    let mut table = "";
    let mut names = Names::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
            names.clear();
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            let index = rules.add_chain(backend, table, name, ipv6);
            names.insert(name.to_owned(), index);
            // a chain with a policy is built-in and named like its hook
            if let Some(hook) = Hook::named(name).filter(|_| policy != "-") {
                let kind = if table == "nat" { Kind::Nat } else { Kind::Filter };
                let families = Families { ipv4: !ipv6, ipv6 };
                let (priority, accepts, devices) = (priority(table, hook), policy != "DROP", Vec::new());
                rules.bases.push(Base { families, hook, priority, kind, accepts, chain: index, devices });
            }
        } else {
            let text = match line.strip_prefix('[') {
                Some(rest) => rest.split_once("] ").map_or("", |(_, text)| text),
                None => line,
            };
            let Some(rest) = text.strip_prefix("-A ") else { continue };
            let words = words(rest);
            let mut words = Words { words: words.into_iter().peekable() };
            let Some(chain) = words.next().and_then(|name| names.get(name)).copied() else { continue };
            let steps = steps(&mut words, &names, sets, ipv6);
            let of_chain = &mut rules.chains[chain].rules;
            let position = u64::try_from(of_chain.len()).unwrap_or(u64::MAX) + 1;
            of_chain.push(FilterRule { steps, position, text: text.trim().to_owned() });
        }
    }
}

/// Priority of a table (`enum nf_ip_hook_priorities`, `linux/netfilter_ipv4.h`).
fn priority(table: &str, hook: Hook) -> i32 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting | Hook::Output) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    }
}

fn steps(words: &mut Words<'_>, names: &Names, sets: &IpSets, ipv6: bool) -> Vec<Step> {
    let (conditions, target) = matches::parse(words, sets, ipv6);
    let mut steps: Vec<Step> = conditions.into_iter().map(Step::Test).collect();
    if let Some((target, is_goto)) = target {
        steps.extend(targets::parse(target, is_goto, words, names).into_iter().map(Step::Do));
    }
    steps
}

/// Words of a rule: iptables-save quotes arguments that contain blanks. A quoted word that contains a quote is a comment or prefix,
/// and its value is not used.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::with_capacity(16);
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let is_quoted = bytes[at] == b'"';
        let start = at + usize::from(is_quoted);
        at = start;
        while at < bytes.len() && !(if is_quoted { bytes[at] == b'"' } else { bytes[at].is_ascii_whitespace() }) {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        let end = at.min(bytes.len());
        words.push(text.get(start..end).unwrap_or_default());
        at += 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_arguments_are_one_word() {
        assert_eq!(
            words(r#"INPUT -m comment --comment "a \"b\" c" -j DROP"#),
            ["INPUT", "-m", "comment", "--comment", r#"a \"b\" c"#, "-j", "DROP"]
        );
        assert_eq!(words("  "), Vec::<&str>::new());
        assert_eq!(words("\"open"), ["open"]);
    }
}
