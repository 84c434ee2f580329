//! The way of a connection through the host: its first packet, the reply, and later packets.

use std::net::IpAddr;

use super::Ruleset;
use super::evaluate::{Course, Outcome};
use super::fate::{ConnectionFate, End, Leg, Verdict};
use super::host::{AddressType, HostView, Routed};
use super::packet::{ACK, Flow, Hook, ICMP, ICMPV6, Original, Packet, SYN, State, TCP};
use super::traversal::Rewrite;

/// Limit of courses of a connection.
const MAX_COURSES: usize = 32;

/// The end of one course of a packet.
#[derive(Debug, Clone)]
struct Arrival {
    course: Course,
    end: End,
    outcome: Outcome,
    hook: Hook,
}

impl Arrival {
    fn passes(&self) -> bool {
        self.outcome == Outcome::Accept && matches!(self.end, End::Local | End::Sent(_))
    }
}

/// A packet on its way, with the translation that connection tracking applies to it.
struct Journey<'a> {
    ruleset: &'a Ruleset,
    host: &'a HostView,
    rewrite: Rewrite,
    arrivals: Vec<Arrival>,
}

impl Ruleset {
    /// The fate of a connection: its first packet, the reply to it, and later packets of the client.
    ///
    /// `Accept` does not mean that a process listens. A destination without a route is `Unknown`: the routes may be those of another
    /// host. A connection that stays on a bridge is `Accept` if the host does not filter bridges.
    #[must_use]
    pub fn connection(&self, flow: &Flow, host: &HostView) -> ConnectionFate {
        let first = self.travel(Course::new(Packet::first(flow)), Rewrite::default(), host);
        let mut last: Vec<(Leg, Arrival, Packet)> = Vec::new();
        for arrival in first {
            let packet = arrival.course.packet.clone();
            if !arrival.passes() {
                last.push((Leg::First, arrival, packet));
                continue;
            }
            for reply in self.reply(&arrival, host) {
                if !reply.passes() {
                    last.push((Leg::Reply, reply, packet.clone()));
                    continue;
                }
                let following = self.following(flow, &packet, &reply, host);
                last.extend(following.into_iter().map(|f| (Leg::Following, f, packet.clone())));
            }
        }
        self.joined(flow, host, &last)
    }

    fn joined(&self, flow: &Flow, host: &HostView, last: &[(Leg, Arrival, Packet)]) -> ConnectionFate {
        let passed: Vec<Course> = last.iter().filter(|(_, a, _)| a.passes()).map(|(_, a, _)| a.course.clone()).collect();
        let stopped: Vec<&(Leg, Arrival, Packet)> = last.iter().filter(|(_, a, _)| !a.passes()).collect();
        let filtered: Vec<&(Leg, Arrival, Packet)> =
            stopped.iter().filter(|(_, a, _)| a.outcome != Outcome::Accept).copied().collect();
        let ended: Vec<(Course, Outcome)> = filtered.iter().map(|(_, a, _)| (a.course.clone(), a.outcome)).collect();
        let hook_of = |at: usize| filtered.get(at).map_or(Hook::Forward, |(_, a, _)| a.hook);
        let (mut verdict, decision, mut reasons) = self.verdict(&passed, &ended, hook_of);
        let unrouted = stopped.iter().find(|(_, a, _)| a.outcome == Outcome::Accept);
        if let Some((_, arrival, _)) = unrouted {
            let text = match arrival.end {
                End::NotForwarded => "this host does not forward packets",
                End::Untranslated => "the reply does not have the addresses of the connection",
                End::Martian => "a loopback address is not reachable from another host",
                _ => "there is no route to the destination",
            };
            let certain = filtered.is_empty() && passed.is_empty() && arrival.end != End::NoRoute;
            verdict = if certain { Verdict::Drop } else { Verdict::Unknown };
            reasons.push(text.to_owned());
        }
        // the reported part: the one that discards, else any that is not certain
        let discarding = decision
            .as_ref()
            .and_then(|_| filtered.iter().find(|(_, a, _)| matches!(a.outcome, Outcome::Drop(_) | Outcome::Reject(_))).copied());
        let shown = discarding.or(filtered.first().copied()).or(unrouted.copied()).or(last.first());
        let packet = shown.map_or_else(|| Packet::first(flow), |(_, _, packet)| packet.clone());
        let end = match shown {
            Some((Leg::First, arrival, _)) if !arrival.passes() && arrival.outcome != Outcome::Accept => End::Filtered,
            Some((Leg::First, arrival, _)) => arrival.end.clone(),
            _ if host.address_type(packet.destination) == AddressType::Local => End::Local,
            _ => End::Sent(packet.output.clone().unwrap_or_default()),
        };
        ConnectionFate {
            verdict,
            leg: shown.map_or(Leg::First, |(leg, _, _)| *leg),
            decision,
            reasons,
            end,
            destination: (packet.destination, packet.destination_port),
            source: (packet.source, packet.source_port),
            has_alternatives: last.iter().any(|(_, _, other)| {
                (other.destination, other.destination_port) != (packet.destination, packet.destination_port)
                    || (other.source, other.source_port) != (packet.source, packet.source_port)
            }),
        }
    }

    fn reply(&self, first: &Arrival, host: &HostView) -> Vec<Arrival> {
        let sent = &first.course.packet;
        let mut packet = sent.clone();
        (packet.source, packet.source_port) = (sent.destination, sent.destination_port);
        (packet.destination, packet.destination_port) = (sent.source, sent.source_port);
        (packet.is_reply, packet.mark, packet.output) = (true, Some(0), None);
        packet.icmp = match packet.protocol {
            ICMP => Some((0, 0)),
            ICMPV6 => Some((129, 0)),
            _ => None,
        };
        packet.tcp_flags = if packet.protocol == TCP { SYN | ACK } else { 0 };
        packet.input = match &first.end {
            End::Sent(interface) => Some(interface.clone()),
            _ => None,
        };
        packet.state = match (sent.state, packet.protocol) {
            // a SYN+ACK without its SYN fits no connection (nf_conntrack_proto_tcp.c)
            (State::Untracked, TCP) => State::Invalid,
            (State::Untracked, _) => State::New,
            _ => State::Established,
        };
        let original = sent.original;
        if packet.state != State::Established {
            // a connection of its own
            packet.original = Original {
                source: packet.source,
                destination: packet.destination,
                source_port: packet.source_port,
                destination_port: packet.destination_port,
            };
            (packet.is_reply, packet.dnat, packet.snat, packet.ct_mark) = (false, false, false, Some(0));
        }
        let rewrite = Rewrite {
            source: sent.dnat.then_some((original.destination, original.destination_port)),
            destination: sent.snat.then_some((original.source, original.source_port)),
        };
        let mut course = Course::new(packet);
        course.trail.clone_from(&first.course.trail);
        let mut arrivals = self.travel(course, rewrite, host);
        for arrival in arrivals.iter_mut().filter(|a| a.passes()) {
            if !is_reply_to(&arrival.course.packet, &original) {
                arrival.end = End::Untranslated;
            }
        }
        arrivals
    }

    fn following(&self, flow: &Flow, first: &Packet, reply: &Arrival, host: &HostView) -> Vec<Arrival> {
        let mut packet = Packet::first(flow);
        packet.tcp_flags = if packet.protocol == TCP { ACK } else { 0 };
        (packet.dnat, packet.snat, packet.ct_mark) = (first.dnat, first.snat, reply.course.packet.ct_mark);
        packet.state = match (first.state, reply.course.packet.state) {
            // a later segment is taken for the start of a connection (nf_conntrack_tcp_loose)
            (State::Untracked, _) => State::New,
            // connection tracking has seen no reply
            (_, State::Untracked) if packet.protocol == TCP => State::Invalid,
            (_, State::Untracked) => State::New,
            _ => State::Established,
        };
        let is_translated = first.state != State::Untracked;
        let rewrite = Rewrite {
            source: first.snat.then_some((first.source, first.source_port)),
            destination: first.dnat.then_some((first.destination, first.destination_port)),
        };
        let mut course = Course::new(packet);
        course.trail.clone_from(&reply.course.trail);
        (course.destination_done, course.source_done) = (is_translated, is_translated);
        self.travel(course, rewrite, host)
    }

    fn travel(&self, course: Course, rewrite: Rewrite, host: &HostView) -> Vec<Arrival> {
        let mut journey = Journey { ruleset: self, host, rewrite, arrivals: Vec::new() };
        if course.packet.input.is_some() {
            journey.received(course);
        } else {
            journey.sent(&course);
        }
        journey.arrivals
    }
}

/// Whether the client takes a packet for the reply; unknown ports fit.
fn is_reply_to(packet: &Packet, original: &Original) -> bool {
    let fits = |own: Option<u16>, wanted: Option<u16>| own.is_none() || wanted.is_none() || own == wanted;
    (packet.source, packet.destination) == (original.destination, original.source)
        && fits(packet.source_port, original.destination_port)
        && fits(packet.destination_port, original.source_port)
}

impl Journey<'_> {
    fn hook(&mut self, hook: Hook, courses: Vec<Course>) -> Vec<Course> {
        let result = self.ruleset.hook(hook, courses, &self.rewrite, self.host);
        let ended = result.ended.into_iter();
        self.arrivals.extend(ended.map(|(course, outcome)| Arrival { course, end: End::Filtered, outcome, hook }));
        result.passed
    }

    fn end(&mut self, course: Course, end: End, hook: Hook) {
        self.arrivals.push(Arrival { course, end, outcome: Outcome::Accept, hook });
    }

    /// A packet that arrives on an interface.
    fn received(&mut self, course: Course) {
        let input = course.packet.input.clone().unwrap_or_default();
        let to = course.packet.destination;
        let bridged = self.host.is_bridged(&input, course.packet.source, to);
        if bridged && !self.host.filters_bridges {
            return self.end(course, End::Sent(input), Hook::Forward);
        }
        let passed = self.hook(Hook::Ingress, vec![course]);
        for course in self.hook(Hook::Prerouting, passed) {
            if bridged && course.packet.destination == to {
                self.forwarded(course, &input);
            } else {
                self.routed(course, &input);
            }
        }
    }

    fn routed(&mut self, course: Course, input: &str) {
        let to = course.packet.destination;
        let kind = self.host.address_type(to);
        if self.is_martian(to, input) {
            return self.end(course, End::Martian, Hook::Input);
        }
        if kind != AddressType::Unicast {
            for course in self.hook(Hook::Input, vec![course]) {
                self.end(course, End::Local, Hook::Input);
            }
            return;
        }
        let forwards = if to.is_ipv6() { self.host.forwards_ipv6 } else { self.host.forwards };
        match self.host.route(to) {
            _ if !forwards => self.end(course, End::NotForwarded, Hook::Forward),
            Routed::Via(interfaces) => {
                let interfaces: Vec<String> = interfaces.into_iter().map(str::to_owned).collect();
                for interface in interfaces {
                    if self.arrivals.len() < MAX_COURSES {
                        self.forwarded(course.clone(), &interface);
                    }
                }
            }
            Routed::Local | Routed::None => self.end(course, End::NoRoute, Hook::Forward),
        }
    }

    /// Whether a packet from or to this address does not pass the interface.
    fn is_martian(&self, address: IpAddr, interface: &str) -> bool {
        let routes = || self.host.routes_loopback.iter().any(|name| name == interface || name == "all");
        address.is_loopback() && interface != "lo" && !routes()
    }

    fn forwarded(&mut self, mut course: Course, output: &str) {
        course.packet.output = Some(output.to_owned());
        let passed = self.hook(Hook::Forward, vec![course]);
        for course in self.hook(Hook::Postrouting, passed) {
            self.end(course, End::Sent(output.to_owned()), Hook::Postrouting);
        }
    }

    /// A packet of this host.
    fn sent(&mut self, course: &Course) {
        for output in self.outputs(course.packet.destination) {
            let Some(output) = output else {
                self.end(course.clone(), End::NoRoute, Hook::Output);
                continue;
            };
            let mut one = course.clone();
            let to = one.packet.destination;
            one.packet.output = Some(output.clone());
            for course in self.hook(Hook::Output, vec![one]) {
                if course.packet.destination == to {
                    self.leave(course, &output);
                    continue;
                }
                for output in self.outputs(course.packet.destination) {
                    match output {
                        // `__mkroute_output`, net/ipv4/route.c
                        Some(output) if self.is_martian(course.packet.source, &output) => {
                            self.end(course.clone(), End::Martian, Hook::Output);
                        }
                        Some(output) => self.leave(course.clone(), &output),
                        None => self.end(course.clone(), End::NoRoute, Hook::Output),
                    }
                }
            }
        }
    }

    /// The interfaces over which an address may be reached; `None` without a route.
    fn outputs(&self, to: IpAddr) -> Vec<Option<String>> {
        match self.host.route(to) {
            Routed::Local if self.host.address_type(to) == AddressType::Local => vec![Some("lo".to_owned())],
            Routed::Via(interfaces) => interfaces.into_iter().map(|name| Some(name.to_owned())).collect(),
            Routed::Local | Routed::None => vec![None],
        }
    }

    fn leave(&mut self, mut course: Course, output: &str) {
        course.packet.output = Some(output.to_owned());
        let passed = self.hook(Hook::Postrouting, vec![course]);
        if output != "lo" {
            for course in passed {
                // the next host discards packets from a loopback address
                let end = if course.packet.source.is_loopback() { End::Martian } else { End::Sent(output.to_owned()) };
                self.end(course, end, Hook::Postrouting);
            }
            return;
        }
        // a loopback packet keeps its entry in connection tracking
        let arrived = passed.into_iter().map(|mut course| {
            (course.packet.input, course.packet.output) = (Some("lo".to_owned()), None);
            course
        });
        let arrived = arrived.collect();
        let passed = self.hook(Hook::Prerouting, arrived);
        for course in self.hook(Hook::Input, passed) {
            self.end(course, End::Local, Hook::Input);
        }
    }
}
