//! Generated rules of iptables, as input of `iptables-restore`.
#![allow(clippy::format_push_string, clippy::format_collect, reason = "short texts that read like the rules")]

use super::random::Random;

const NETWORKS: &[&str] = &[
    "10.1.0.2",
    "10.1.0.3",
    "10.1.0.4",
    "10.1.0.0/24",
    "10.1.0.2/31",
    "10.2.0.0/24",
    "10.2.0.2",
    "10.2.0.3",
    "10.1.0.1",
    "10.2.0.1",
    "127.0.0.0/8",
    "10.0.0.0/8",
    "192.0.2.0/24",
    "10.0.0.2/255.0.0.255",
];
const RANGES: &[&str] = &["10.1.0.1-10.1.0.3", "10.2.0.2-10.2.0.9", "10.1.0.4-10.2.0.2"];
const PORTS: &[&str] = &["53", "80", "443", "5432", "8080", "9000", "1:100", "80:443", "8000:9000", "1024:65535", ":80", "9000:"];
const LISTS: &[&str] = &["53,80", "80,443,8080", "5432,8000:9000", "22"];
const STATES: &[&str] =
    &["NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "INVALID", "NEW,ESTABLISHED", "DNAT", "INVALID,UNTRACKED", "SNAT,NEW"];
const INTERFACES: &[&str] = &["ca", "br0", "lo", "c+", "br+", "eth0"];
const TYPES: &[&str] = &["LOCAL", "UNICAST", "BROADCAST,MULTICAST", "LOCAL,BROADCAST"];

/// Chains of a table; user chains `u0` to `u3` call only later ones.
struct Chains<'a> {
    table: &'a str,
    hook: &'a str,
    depth: usize,
}

pub(super) fn ruleset(random: &mut Random) -> String {
    match random.below(8) {
        0 => ufw(random),
        1 => docker(random),
        _ => any(random),
    }
}

fn any(random: &mut Random) -> String {
    let mut text = String::new();
    if random.one_in(4) {
        text += "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n";
        text += &lines(random, "raw", "PREROUTING", 0, 2);
        text += &lines(random, "raw", "OUTPUT", 0, 2);
        text += "COMMIT\n";
    }
    if random.one_in(2) {
        text += "*mangle\n";
        let hooks = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
        for hook in hooks {
            text += &format!(":{hook} ACCEPT [0:0]\n");
        }
        for hook in hooks {
            text += &lines(random, "mangle", hook, 0, 2);
        }
        text += "COMMIT\n";
    }
    if random.below(4) > 0 {
        let hooks = ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"];
        text += "*nat\n";
        for hook in hooks {
            text += &format!(":{hook} ACCEPT [0:0]\n");
        }
        text += ":n0 - [0:0]\n";
        for hook in ["PREROUTING", "OUTPUT", "POSTROUTING"] {
            text += &lines(random, "nat", hook, 0, 4);
        }
        text += &lines(random, "nat", "n0", 9, 3);
        text += "COMMIT\n";
    }
    text += "*filter\n";
    for hook in ["INPUT", "FORWARD", "OUTPUT"] {
        let policy = if random.one_in(if hook == "OUTPUT" { 5 } else { 2 }) { "DROP" } else { "ACCEPT" };
        text += &format!(":{hook} {policy} [0:0]\n");
    }
    text += ":u0 - [0:0]\n:u1 - [0:0]\n:u2 - [0:0]\n:u3 - [0:0]\n";
    for hook in ["INPUT", "FORWARD", "OUTPUT"] {
        if random.below(3) > 0 {
            text += &format!("-A {hook} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
        }
        text += &lines(random, "filter", hook, 0, 6);
    }
    for (depth, chain) in ["u0", "u1", "u2", "u3"].into_iter().enumerate() {
        text += &lines(random, "filter", chain, depth + 1, 4);
    }
    text + "COMMIT\n"
}

fn lines(random: &mut Random, table: &str, chain: &str, depth: usize, most: usize) -> String {
    let chains = Chains { table, hook: chain, depth };
    (0..random.below(most + 1)).map(|_| format!("-A {chain} {}\n", rule(random, &chains))).collect()
}

fn rule(random: &mut Random, chains: &Chains<'_>) -> String {
    let mut parts = Vec::new();
    let count = random.below(4);
    let mut protocol = if random.one_in(2) { Some(random.of(&["tcp", "udp", "udp"])) } else { None };
    let target = target(random, chains, &mut protocol);
    if let Some(protocol) = protocol {
        parts.push(format!("-p {protocol}"));
    } else if random.one_in(8) {
        parts.push(format!("{}-p {}", not(random), random.of(&["tcp", "udp", "icmp", "17"])));
    }
    let mut used = Vec::new();
    for _ in 0..count {
        let kind = random.below(13);
        if !used.contains(&kind) {
            used.push(kind);
            parts.extend(condition(random, chains, protocol, kind));
        }
    }
    parts.push(target);
    parts.join(" ")
}

fn not(random: &mut Random) -> &'static str {
    if random.one_in(4) { "! " } else { "" }
}

fn condition(random: &mut Random, chains: &Chains<'_>, protocol: Option<&str>, kind: usize) -> Option<String> {
    let (has_input, has_output) = match chains.hook {
        "PREROUTING" | "INPUT" => (true, false),
        "OUTPUT" | "POSTROUTING" => (false, true),
        "n0" => (false, false),
        _ => (true, true),
    };
    let tracked = chains.table != "raw";
    Some(match kind {
        0 if has_input => format!("{}-i {}", not(random), random.of(INTERFACES)),
        1 if has_output => format!("{}-o {}", not(random), random.of(INTERFACES)),
        2 => format!("{}-s {}", not(random), random.of(NETWORKS)),
        3 => format!("{}-d {}", not(random), random.of(NETWORKS)),
        4 if protocol.is_some() => format!("-m {} {}--dport {}", protocol?, not(random), random.of(PORTS)),
        5 if protocol.is_some() => {
            let option = random.of(&["--dports", "--dports", "--ports", "--sports"]);
            format!("-m multiport {}{option} {}", not(random), random.of(LISTS))
        }
        6 => format!("-m conntrack {}--ctstate {}", not(random), random.of(STATES)),
        7 => format!("-m addrtype {}--{}-type {}", not(random), random.of(&["src", "dst"]), random.of(TYPES)),
        8 => format!("-m iprange {}--{}-range {}", not(random), random.of(&["src", "dst"]), random.of(RANGES)),
        9 => format!("-m mark {}--mark {}", not(random), random.of(&["0x1", "0x1/0x1", "0x0/0x2", "0x4000/0x4000"])),
        10 if tracked => match random.below(4) {
            0 => format!("-m conntrack {}--ctorigdst {}", not(random), random.of(NETWORKS)),
            1 => format!("-m conntrack --ctdir {}", random.of(&["ORIGINAL", "REPLY"])),
            2 => format!("-m conntrack {}--ctorigdstport {}", not(random), random.of(&["80", "8000:9000", "53"])),
            _ => format!("-m connmark {}--mark {}", not(random), random.of(&["0x1", "0x2/0x2"])),
        },
        11 if protocol == Some("tcp") => {
            format!("-m tcp {}--tcp-flags {}", not(random), random.of(&["FIN,SYN,RST,ACK SYN", "SYN,ACK SYN,ACK", "ALL ACK"]))
        }
        12 if protocol.is_some() => format!("-m {} {}--sport {}", protocol?, not(random), random.of(PORTS)),
        _ => return None,
    })
}

fn target(random: &mut Random, chains: &Chains<'_>, protocol: &mut Option<&str>) -> String {
    let verdict = |random: &mut Random| random.of(&["-j ACCEPT", "-j ACCEPT", "-j DROP", "-j DROP", "-j RETURN", ""]).to_owned();
    match chains.table {
        "raw" => random.of(&["-j CT --notrack", "-j NOTRACK", "-j ACCEPT", "-j DROP", "-j RETURN"]).to_owned(),
        "mangle" if random.below(4) > 0 => random
            .of(&[
                "-j MARK --set-xmark 0x1/0xffffffff",
                "-j MARK --or-mark 0x4000",
                "-j MARK --set-xmark 0x2/0x3",
                "-j CONNMARK --set-xmark 0x3/0xffffffff",
                "-j CONNMARK --save-mark",
                "-j CONNMARK --restore-mark",
                "-j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x1",
            ])
            .to_owned(),
        "nat" => {
            let mut ported = |random: &mut Random| {
                *protocol = Some(random.of(&["tcp", "udp", "udp"]));
            };
            match chains.hook {
                "POSTROUTING" => random
                    .of(&[
                        "-j MASQUERADE",
                        "-j MASQUERADE",
                        "-j SNAT --to-source 10.2.0.1",
                        "-j SNAT --to-source 10.1.0.1",
                        "-j ACCEPT",
                        "-j RETURN",
                    ])
                    .to_owned(),
                _ => match random.below(8) {
                    0 => {
                        ported(random);
                        format!("-j REDIRECT --to-ports {}", random.of(&["80", "8080", "443"]))
                    }
                    1 => {
                        ported(random);
                        format!("-j DNAT --to-destination 10.2.0.2:{}", random.of(&["80", "8080", "9000"]))
                    }
                    2 => "-j DNAT --to-destination 10.2.0.3".to_owned(),
                    3 => {
                        ported(random);
                        "-j DNAT --to-destination :80".to_owned()
                    }
                    4 => random.of(&["-j DNAT --to-destination 10.1.0.4", "-j DNAT --to-destination 10.2.0.1"]).to_owned(),
                    5 if chains.hook != "n0" => "-j n0".to_owned(),
                    6 => "-j REDIRECT".to_owned(),
                    _ => random.of(&["-j ACCEPT", "-j RETURN", ""]).to_owned(),
                },
            }
        }
        "filter" => match random.below(10) {
            0..=2 if chains.depth < 4 => {
                let later = &["u0", "u1", "u2", "u3"][chains.depth..];
                format!("{} {}", random.of(&["-j", "-j", "-g"]), random.of(later))
            }
            3 => random.of(&["-j REJECT", "-j REJECT --reject-with icmp-host-prohibited"]).to_owned(),
            _ => verdict(random),
        },
        _ => verdict(random),
    }
}

/// Rules in the layout of ufw.
fn ufw(random: &mut Random) -> String {
    let user: String = (0..=random.below(4))
        .map(|_| {
            let protocol = random.of(&["tcp", "udp"]);
            let from = if random.one_in(2) { format!(" -s {}", random.of(NETWORKS)) } else { String::new() };
            let verdict = random.of(&["ACCEPT", "ACCEPT", "ACCEPT", "DROP"]);
            format!("-A ufw-user-input{from} -p {protocol} -m {protocol} --dport {} -j {verdict}\n", random.of(PORTS))
        })
        .collect();
    let forward = random.of(&["DROP", "ACCEPT"]);
    let output = random.of(&["ACCEPT", "ACCEPT", "DROP"]);
    let route = if random.one_in(2) { "-A ufw-user-forward -i ca -o br0 -p udp -m udp --dport 80 -j ACCEPT\n" } else { "" };
    format!(
        "*filter
:INPUT DROP [0:0]\n:FORWARD {forward} [0:0]\n:OUTPUT {output} [0:0]
:ufw-before-input - [0:0]\n:ufw-user-input - [0:0]\n:ufw-not-local - [0:0]\n:ufw-after-input - [0:0]
:ufw-before-forward - [0:0]\n:ufw-user-forward - [0:0]\n:ufw-before-output - [0:0]\n:ufw-track-output - [0:0]
:ufw-skip-to-policy-input - [0:0]
-A INPUT -j ufw-before-input\n-A INPUT -j ufw-after-input
-A FORWARD -j ufw-before-forward\n-A OUTPUT -j ufw-before-output\n-A OUTPUT -j ufw-track-output
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
-A ufw-not-local -j DROP
-A ufw-after-input -p udp -m udp --dport 137 -j ufw-skip-to-policy-input
-A ufw-after-input -m addrtype --dst-type BROADCAST -j ufw-skip-to-policy-input
-A ufw-skip-to-policy-input -j DROP
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
-A ufw-before-output -o lo -j ACCEPT
-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-track-output -p tcp -m conntrack --ctstate NEW -j ACCEPT
-A ufw-track-output -p udp -m conntrack --ctstate NEW -j ACCEPT
{user}{route}COMMIT\n"
    )
}

/// Rules in the layout of Docker 28, with rules of the administrator in DOCKER-USER.
fn docker(random: &mut Random) -> String {
    let chains = Chains { table: "filter", hook: "DOCKER-USER", depth: 4 };
    let mut user = String::new();
    if random.one_in(2) {
        user += "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    }
    if random.one_in(2) {
        user += &format!("-A DOCKER-USER -i ca ! -s {} -j DROP\n", random.of(NETWORKS));
    }
    for _ in 0..random.below(3) {
        user += &format!("-A DOCKER-USER {}\n", rule(random, &chains));
    }
    let published = random.of(&["80", "8080", "9000"]);
    let protocol = random.of(&["tcp", "udp"]);
    let port = random.of(&["80", "443"]);
    let input = random.of(&["ACCEPT", "DROP"]);
    format!(
        "*nat
:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 10.2.0.0/24 ! -o br0 -j MASQUERADE
-A DOCKER ! -i br0 -p {protocol} -m {protocol} --dport {published} -j DNAT --to-destination 10.2.0.2:{port}
COMMIT
*filter
:INPUT {input} [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n:DOCKER-FORWARD - [0:0]\n:DOCKER-CT - [0:0]\n:DOCKER-BRIDGE - [0:0]
-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -j DOCKER-CT\n-A DOCKER-FORWARD -j DOCKER-BRIDGE\n-A DOCKER-FORWARD -i br0 -j ACCEPT
-A DOCKER-CT -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-BRIDGE -o br0 -j DOCKER
-A DOCKER -d 10.2.0.2/32 ! -i br0 -o br0 -p {protocol} -m {protocol} --dport {port} -j ACCEPT
-A DOCKER ! -i br0 -o br0 -j DROP
{user}COMMIT\n"
    )
}
