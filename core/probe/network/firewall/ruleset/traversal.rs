//! A packet at one hook: base chains by priority, connection tracking, and address translation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Ruleset;
use super::condition::{Answer, Scene, Value, fit};
use super::evaluate::{By, Course, Outcome, Walk};
use super::fate::{Decision, Fate, Verdict};
use super::host::HostView;
use super::packet::{Hook, ICMP, ICMPV6, Packet, State};
use super::rule::{Base, Kind, NamedSet, NatAddress, NatPorts, Translation};
use super::writer::Writer;

/// Priority of connection tracking (`NF_IP_PRI_CONNTRACK`): earlier chains see no state.
const CONNTRACK: i32 = -200;

/// Priorities of address translation (`NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`), whatever the priority of a nat chain is.
const NAT_DESTINATION: i32 = -100;
const NAT_SOURCE: i32 = 100;

/// Limit of addresses of a range that are evaluated.
const MAX_ADDRESSES: u128 = 4;

/// Limit of reasons in a result.
const MAX_REASONS: usize = 4;

/// Translation of later packets of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rewrite {
    pub(super) source: Option<(IpAddr, Option<u16>)>,
    pub(super) destination: Option<(IpAddr, Option<u16>)>,
}

/// Courses at a hook: those that pass, and those that end.
#[derive(Debug, Default)]
pub(super) struct Courses {
    pub(super) passed: Vec<Course>,
    pub(super) ended: Vec<(Course, Outcome)>,
}

impl Courses {
    /// Adds the courses of another result that this one does not have.
    fn add(&mut self, other: Self) {
        for course in other.passed {
            if !self.passed.iter().any(|own| own.is_like(&course)) {
                self.passed.push(course);
            }
        }
        for (course, outcome) in other.ended {
            if !self.ended.iter().any(|(own, end)| *end == outcome && own.is_like(&course)) {
                self.ended.push((course, outcome));
            }
        }
    }
}

impl Ruleset {
    /// The fate of a packet at one hook, in all tables of all backends.
    #[must_use]
    pub fn fate(&self, packet: &Packet, hook: Hook, host: &HostView) -> Fate {
        let mut course = Course::new(packet.clone());
        course.tracked = !matches!(hook, Hook::Ingress | Hook::Prerouting | Hook::Output);
        let courses = self.hook(hook, vec![course], &Rewrite::default(), host);
        let (verdict, decision, reasons) = self.verdict(&courses.passed, &courses.ended, |_| hook);
        Fate { verdict, packets: courses.passed.into_iter().map(|c| c.packet).collect(), decision, reasons }
    }

    /// The courses through all base chains of a hook.
    pub(super) fn hook(&self, hook: Hook, courses: Vec<Course>, rewrite: &Rewrite, host: &HostView) -> Courses {
        let mut result = Courses { passed: courses, ended: Vec::new() };
        let nat_at = match hook {
            Hook::Prerouting | Hook::Output => Some(NAT_DESTINATION),
            Hook::Input | Hook::Postrouting => Some(NAT_SOURCE),
            Hook::Ingress | Hook::Forward => None,
        };
        let (mut tracks, mut nat) = (matches!(hook, Hook::Prerouting | Hook::Output), nat_at.is_some());
        let device = result.passed.first().and_then(|c| c.packet.input.clone());
        for (index, base) in self.rules.bases.iter().enumerate() {
            if base.hook != hook || base.kind == Kind::Nat {
                continue;
            }
            if hook == Hook::Ingress && !device.as_ref().is_some_and(|device| base.devices.contains(device)) {
                continue;
            }
            if tracks && base.priority >= CONNTRACK {
                track(&mut result.passed);
                tracks = false;
            }
            if nat && nat_at.is_some_and(|at| base.priority >= at) {
                self.translate(hook, &mut result, rewrite, host);
                nat = false;
            }
            self.through(index, base, hook, &mut result, host);
        }
        if tracks {
            track(&mut result.passed);
        }
        if nat {
            self.translate(hook, &mut result, rewrite, host);
        }
        result
    }

    fn through(&self, index: usize, base: &Base, hook: Hook, result: &mut Courses, host: &HostView) {
        let applies = |c: &Course| if c.packet.is_ipv6() { base.families.ipv6 } else { base.families.ipv4 };
        let (courses, others): (Vec<Course>, Vec<Course>) = std::mem::take(&mut result.passed).into_iter().partition(applies);
        result.passed = others;
        for (course, outcome) in Walk::new(&self.rules, host, hook).base(index, courses) {
            match outcome {
                Outcome::Accept => result.passed.push(course),
                _ => result.ended.push((course, outcome)),
            }
        }
    }

    /// Address translation: the rules decide for the first packet, and connection tracking remembers it for the others.
    fn translate(&self, hook: Hook, result: &mut Courses, rewrite: &Rewrite, host: &HostView) {
        let of_source = matches!(hook, Hook::Input | Hook::Postrouting);
        let is_first = |c: &Course| c.tracked && matches!(c.packet.state, State::New | State::Related);
        let is_done = |c: &Course| if of_source { c.source_done } else { c.destination_done };
        let (mut open, mut done): (Vec<Course>, Vec<Course>) =
            std::mem::take(&mut result.passed).into_iter().partition(|c| is_first(c) && !is_done(c));
        for course in &mut done {
            if course.tracked && matches!(course.packet.state, State::Established | State::New) {
                let packet = &mut course.packet;
                if let Some((address, port)) = rewrite.source.filter(|_| of_source) {
                    (packet.source, packet.source_port) = (address, port);
                }
                if let Some((address, port)) = rewrite.destination.filter(|_| !of_source) {
                    (packet.destination, packet.destination_port) = (address, port);
                }
            }
        }
        let bases: Vec<usize> = self.nat_bases(hook);
        let priority = |at: &usize| self.rules.bases[*at].priority;
        for group in bases.chunk_by(|one, other| priority(one) == priority(other)) {
            // equal priorities: in the order of registration, which no listing shows
            let mut orders = vec![group.to_vec()];
            if group.len() > 1 && !open.is_empty() {
                orders.push(group.iter().rev().copied().collect());
            }
            let mut results = orders.iter().map(|order| self.nat_order(hook, order, open.clone(), host));
            let mut first = results.next().unwrap_or_default();
            for other in results {
                first.add(other);
            }
            result.ended.append(&mut first.ended);
            let (translated, others): (Vec<Course>, Vec<Course>) = first.passed.into_iter().partition(is_done);
            done.extend(translated);
            open = others;
        }
        done.append(&mut open);
        for course in &mut done {
            if is_first(course) {
                *(if of_source { &mut course.source_done } else { &mut course.destination_done }) = true;
            }
        }
        result.passed = done;
    }

    /// The indices of the nat chains of a hook, by priority.
    fn nat_bases(&self, hook: Hook) -> Vec<usize> {
        let all = self.rules.bases.iter().enumerate();
        all.filter(|(_, base)| base.hook == hook && base.kind == Kind::Nat).map(|(at, _)| at).collect()
    }

    /// Courses through nat chains in this order, each until it is translated.
    fn nat_order(&self, hook: Hook, order: &[usize], courses: Vec<Course>, host: &HostView) -> Courses {
        let is_done =
            |c: &Course| if matches!(hook, Hook::Input | Hook::Postrouting) { c.source_done } else { c.destination_done };
        let mut result = Courses::default();
        let mut open = courses;
        for index in order {
            let mut through = Courses { passed: open, ended: Vec::new() };
            self.through(*index, &self.rules.bases[*index], hook, &mut through, host);
            result.ended.append(&mut through.ended);
            let (translated, others): (Vec<Course>, Vec<Course>) = through.passed.into_iter().partition(is_done);
            result.passed.extend(translated);
            open = others;
        }
        result.passed.append(&mut open);
        result
    }

    /// The verdict on courses, the rule that discards the packet, and the reasons of an unknown one.
    pub(super) fn verdict(
        &self,
        passed: &[Course],
        ended: &[(Course, Outcome)],
        hook_of: impl Fn(usize) -> Hook,
    ) -> (Verdict, Option<Decision>, Vec<String>) {
        let discards = |outcome: &Outcome| match outcome {
            Outcome::Drop(by) | Outcome::Reject(by) => Some(*by),
            Outcome::Accept | Outcome::Open(_) => None,
        };
        let decision = ended.iter().enumerate().find_map(|(at, (_, outcome))| {
            let by = discards(outcome)?;
            Some(self.decision(by, hook_of(at)))
        });
        let all_discarded = passed.is_empty() && !ended.is_empty() && ended.iter().all(|(_, o)| discards(o).is_some());
        let verdict = match (ended.is_empty(), all_discarded) {
            (true, _) => Verdict::Accept,
            (_, true) if ended.iter().all(|(_, o)| matches!(o, Outcome::Reject(_))) => Verdict::Reject,
            (_, true) => Verdict::Drop,
            _ => Verdict::Unknown,
        };
        let mut reasons = Vec::new();
        if verdict == Verdict::Unknown {
            let assumed = passed.iter().chain(ended.iter().map(|(c, _)| c)).flat_map(|c| c.trail.iter().map(|(rule, _)| *rule));
            let outside = ended.iter().filter_map(|(_, o)| if let Outcome::Open(rule) = o { *rule } else { None });
            for rule in outside.chain(assumed) {
                let text = self.decision(By::Rule(rule), Hook::Forward).to_string();
                if !reasons.contains(&text) && reasons.len() < MAX_REASONS {
                    reasons.push(text);
                }
            }
            if reasons.is_empty() {
                reasons.push("the order of chains with equal priority is not known, or the rules are too complex".to_owned());
            }
        }
        (verdict, decision, reasons)
    }

    pub(super) fn decision(&self, by: By, hook: Hook) -> Decision {
        let (chain, rule) = match by {
            By::Rule((chain, rule)) => (chain, Some(rule)),
            By::Policy(base) => (self.rules.bases[base].chain, None),
        };
        let chain = &self.rules.chains[chain];
        let (backend, table, name, ipv6) = (chain.backend, chain.table.clone(), chain.name.clone(), chain.ipv6);
        let (position, text, writer) = match rule.and_then(|at| chain.rules.get(at)) {
            Some(rule) => (Some(rule.position), rule.text.clone(), Writer::of_rule(&chain.table, &chain.name, &rule.text)),
            None => (None, "policy DROP".to_owned(), self.writer_of_policy(&chain.table, &chain.rules)),
        };
        Decision { backend, table, chain: name, position, text, writer, hook, ipv6 }
    }

    /// The program that sets the policy of a built-in chain: the one with the called chains.
    fn writer_of_policy(&self, table: &str, rules: &[super::rule::FilterRule]) -> Writer {
        use super::rule::{Action, Step};
        let called = rules.iter().flat_map(|r| &r.steps).filter_map(|step| match step {
            Step::Do(Action::Jump(chain) | Action::Goto(chain)) => Writer::of_chain(&self.rules.chains[*chain].name),
            _ => None,
        });
        let called: Vec<Writer> = called.filter(|w| matches!(w, Writer::Ufw | Writer::Firewalld | Writer::Docker)).collect();
        // ufw sets all policies; Docker that of FORWARD, if it enables forwarding
        let first = called.iter().find(|w| **w != Writer::Docker).or(called.first()).copied();
        Writer::of_table(table).or(first).unwrap_or(Writer::Manual)
    }
}

fn track(courses: &mut [Course]) {
    for course in courses {
        course.tracked = true;
    }
}

/// The courses after a translation: several for several addresses, none if its map has no element. `None` if the result is not
/// known.
pub(super) fn translated(
    course: &Course,
    translation: &Translation,
    host: &HostView,
    hook: Hook,
    sets: &[NamedSet],
) -> Option<Vec<Course>> {
    let packet = &course.packet;
    // NETMAP translates the source or the destination, by its hook
    let is_mapped = matches!(translation.to, NatAddress::Network(..)) && matches!(hook, Hook::Postrouting | Hook::Input);
    let is_source = translation.is_source || is_mapped;
    let own = if is_source { packet.source } else { packet.destination };
    let mut mapped_port = None;
    let addresses: Vec<IpAddr> = match &translation.to {
        NatAddress::Same => vec![own],
        NatAddress::Range(first, last) if last.saturating_sub(*first) < MAX_ADDRESSES => {
            (*first..=*last).map(|n| address(n, own)).collect()
        }
        NatAddress::Range(first, last) => vec![address(*first, own), address(*last, own)],
        NatAddress::Network(network, mask) => vec![address(super::condition::number(own) & !mask | network & mask, own)],
        NatAddress::Interface if is_source => {
            vec![host.source_for(packet.output.as_deref()?, packet.destination)?]
        }
        // nf_nat_redirect.c
        NatAddress::Interface if hook == Hook::Output || packet.input.as_deref() == Some("lo") => vec![match own {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }],
        NatAddress::Interface => {
            let interface = host.interface(packet.input.as_deref()?)?;
            vec![interface.addresses.iter().map(|(a, _)| *a).find(|a| a.is_ipv4() == own.is_ipv4())?]
        }
        NatAddress::Mapped { keys, set } => {
            let scene = Scene { packet, tracked: course.tracked, host, sets };
            let values: Vec<Value<'_>> = keys.iter().map(|key| scene.value(key)).collect();
            if values.contains(&Value::Absent) {
                return Some(Vec::new());
            }
            let set = sets.get(*set).filter(|set| set.is_complete)?;
            let mut found = Vec::new();
            for element in &set.elements {
                match (fit(&values, &element.spans), element.data.as_slice()) {
                    (Answer::No, _) => {}
                    (_, [ip, port, ..]) => found.push((*ip, Some(u16::try_from(*port).ok()?))),
                    (_, [ip]) => found.push((*ip, None)),
                    (_, []) => return None,
                }
            }
            let certain = !values.contains(&Value::Unknown) || set.is_exhaustive;
            if found.len() > MAX_COURSES_OF_MAP || !certain {
                return None;
            }
            let first = found.first().map(|(_, port)| *port);
            if found.iter().any(|(_, port)| Some(*port) != first) {
                return None;
            }
            mapped_port = first.flatten();
            found.into_iter().map(|(n, _)| address(n, own)).collect()
        }
        NatAddress::Open => return None,
    };
    let port = |packet: &Packet, current: Option<u16>| match (translation.ports, mapped_port) {
        _ if matches!(packet.protocol, ICMP | ICMPV6) => None,
        (_, Some(port)) => Some(port),
        (NatPorts::Same, None) => current,
        (NatPorts::Range(first, last), None) if first == last => Some(first),
        (NatPorts::Range(first, last), None) => current.filter(|port| (first..=last).contains(port)),
        (NatPorts::Shift(first, of), None) => current.map(|port| first.wrapping_add(port.wrapping_sub(of))),
        (NatPorts::Open, None) => None,
    };
    let one = |address: IpAddr| {
        let mut new = course.clone();
        if is_source {
            let to = (address, port(packet, packet.source_port));
            new.packet.snat |= to != (packet.source, packet.source_port);
            (new.packet.source, new.packet.source_port) = to;
            new.source_done = true;
        } else {
            let to = (address, port(packet, packet.destination_port));
            new.packet.dnat |= to != (packet.destination, packet.destination_port);
            (new.packet.destination, new.packet.destination_port) = to;
            new.destination_done = true;
        }
        new
    };
    Some(addresses.into_iter().map(one).collect())
}

/// Limit of targets of a load balancer that are evaluated.
const MAX_COURSES_OF_MAP: usize = 8;

fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number & u128::from(u32::MAX)).unwrap_or(0))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}
