//! Generated rules of nftables, as input of `nft -f`.
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
    "10.1.0.1-10.1.0.3",
    "@hosts",
    "@nets",
    "{ 10.1.0.2, 10.2.0.2 }",
    "{ 10.1.0.0/24, 10.2.0.3 }",
];
const PORTS: &[&str] = &["53", "80", "443", "8080", "1-100", "80-443", "8000-9000", "{ 53, 80 }", "{ 22, 8000-9999 }", "@ports"];
const STATES: &[&str] =
    &["new", "established", "established,related", "invalid", "new,established", "{ new, established }", "invalid,untracked"];
const INTERFACES: &[&str] = &["\"ca\"", "\"br0\"", "\"lo\"", "\"c*\"", "\"br*\"", "{ \"ca\", \"lo\" }", "@ifs", "\"eth0\""];

pub(super) fn ruleset(random: &mut Random) -> String {
    match random.below(6) {
        0 => firewalld(random),
        1 => netavark(random),
        _ => any(random),
    }
}

fn any(random: &mut Random) -> String {
    let mut text = table(random, "inet", "one", 0);
    if random.one_in(3) {
        text += &table(random, "ip", "two", 10);
    }
    if random.below(3) > 0 {
        text += &nat(random);
    }
    text
}

const SETS: &str = "
    set hosts { type ipv4_addr; elements = { 10.1.0.3, 10.2.0.3 }; }
    set nets { type ipv4_addr; flags interval; elements = { 10.1.0.2/31, 10.2.0.0/25, 127.0.0.0/8 }; }
    set ports { type inet_service; flags interval; elements = { 53, 8000-8100 }; }
    set ifs { type ifname; flags interval; elements = { \"ca\", \"eth*\" }; }
    set services { type ipv4_addr . inet_proto . inet_service; elements = { 10.1.0.1 . udp . 80, 10.2.0.2 . tcp . 443, 10.2.0.2 . udp . 53 }; }
    set wide { type ipv4_addr . inet_service; flags interval; elements = { 10.1.0.0/24 . 80-443, 10.2.0.2 . 8080 }; }
    set none { type ipv4_addr; }
";

fn table(random: &mut Random, family: &str, name: &str, priority: i32) -> String {
    let mut text = format!("table {family} {name} {{{SETS}");
    text += "    chain u0 { }\n    chain u1 { }\n    chain u2 { }\n    chain u3 { }\n";
    text += "    map verdicts { type inet_service : verdict; elements = { 53 : accept, 80 : jump u2, 443 : drop, 8080 : goto u3 }; }\n";
    let mut hooks = vec!["input", "forward", "output"];
    if random.one_in(3) {
        hooks.push("prerouting");
    }
    if random.one_in(4) {
        hooks.push("postrouting");
    }
    for hook in hooks {
        let policy = if random.one_in(if matches!(hook, "input" | "forward") { 2 } else { 5 }) { "drop" } else { "accept" };
        let at = if matches!(hook, "prerouting" | "postrouting") { random.of(&[-300, -150, 10]) } else { priority };
        text += &format!("    chain {hook} {{\n        type filter hook {hook} priority {at}; policy {policy};\n");
        if random.below(3) > 0 {
            let established = random.of(&[
                "ct state established,related accept",
                "ct state vmap { established : accept, related : accept, invalid : drop }",
                "ct direction reply accept\n        ct state established accept",
                "ip protocol { tcp, udp } ct state established accept",
            ]);
            text += &format!("        {established}\n");
        }
        text += &rules(random, 0, 6, hook, at);
        text += "    }\n";
    }
    for (depth, chain) in ["u0", "u1", "u2", "u3"].into_iter().enumerate() {
        text += &format!("    chain {chain} {{\n{}    }}\n", rules(random, depth + 1, 4, chain, priority));
    }
    text + "}\n"
}

fn rules(random: &mut Random, depth: usize, most: usize, hook: &str, priority: i32) -> String {
    (0..random.below(most + 1)).map(|_| format!("        {}\n", rule(random, depth, hook, priority))).collect()
}

fn not(random: &mut Random) -> &'static str {
    if random.one_in(4) { "!= " } else { "" }
}

fn rule(random: &mut Random, depth: usize, hook: &str, priority: i32) -> String {
    let mut parts = Vec::new();
    let mut used = Vec::new();
    for _ in 0..random.below(4) {
        let kind = random.below(17);
        // two protocols in one rule are an error
        let group = if matches!(kind, 8..=11 | 13 | 16) { 8 } else { kind };
        if !used.contains(&group) {
            used.push(group);
            parts.push(condition(random, kind));
        }
    }
    if random.one_in(3) {
        parts.push("counter".to_owned());
    }
    if random.one_in(8) {
        parts.push(
            random
                .of(&["meta mark set 0x1", "meta mark set meta mark or 0x2", "ct mark set 0x3", "meta mark set ct mark"])
                .to_owned(),
        );
    }
    if hook == "prerouting" && priority == -300 && random.one_in(3) {
        parts.push("notrack".to_owned());
    }
    let base = depth == 0;
    parts.push(match random.below(14) {
        0..=2 if depth < 4 => {
            let later = &["u0", "u1", "u2", "u3"][depth..];
            format!("{} {}", random.of(&["jump", "jump", "goto"]), random.of(later))
        }
        3 if !used.contains(&8) && depth < 3 => {
            let maps: &[&str] = if depth <= 2 {
                &[
                    "tcp dport vmap { 80 : accept, 443 : drop, 8000-9999 : jump u3 }",
                    "udp dport vmap { 53 : accept, 80 : drop, 9000 : goto u3 }",
                ]
            } else {
                &[]
            };
            random.of(maps).to_owned()
        }
        4 if base && !used.contains(&8) => "th dport vmap @verdicts".to_owned(),
        5 => {
            let maps = [
                "iifname vmap { \"ca\" : drop, \"lo\" : accept }",
                "ip saddr vmap { 10.1.0.2 : accept, 10.2.0.0/24 : drop }",
                "ip saddr . ip daddr vmap { 10.1.0.2 . 10.2.0.2 : drop, 10.1.0.3 . 10.1.0.1 : accept }",
                "meta l4proto vmap { tcp : accept, icmp : drop }",
            ];
            random.of(&maps).to_owned()
        }
        6 if !matches!(hook, "prerouting" | "postrouting") => "reject".to_owned(),
        7 | 8 => "return".to_owned(),
        9..=11 => "accept".to_owned(),
        _ => "drop".to_owned(),
    });
    parts.join(" ")
}

fn condition(random: &mut Random, kind: usize) -> String {
    let end = random.of(&["saddr", "daddr", "daddr"]);
    match kind {
        0 => format!("iifname {}{}", not(random), random.of(INTERFACES)),
        1 => format!("oifname {}{}", not(random), random.of(INTERFACES)),
        2 | 3 => format!("ip {end} {}{}", not(random), random.of(NETWORKS)),
        4 => format!("ct state {}{}", not(random), random.of(STATES)),
        5 => format!("fib {end} type {}{}", not(random), random.of(&["local", "unicast", "{ local, broadcast }"])),
        6 => format!("meta mark {}{}", not(random), random.of(&["0x1", "0x0", "{ 0x1, 0x2 }"])),
        7 => format!("meta mark and 0x2 {}0x2", random.of(&["== ", "!= "])),
        8 => format!("{} dport {}{}", random.of(&["tcp", "udp", "udp", "th"]), not(random), random.of(PORTS)),
        9 => format!(
            "meta l4proto {}{} th dport {}",
            random.of(&["", "!= "]),
            random.of(&["tcp", "udp", "{ tcp, udp }"]),
            random.of(PORTS)
        ),
        10 => "ip daddr . meta l4proto . th dport @services".to_owned(),
        11 => format!("ip {end} . th dport @wide"),
        12 => random
            .of(&["ct status dnat", "ct direction original", "ct direction reply", "ct original ip daddr 10.1.0.1"])
            .to_owned(),
        13 => random.of(&["tcp flags syn", "tcp flags & (fin|syn|rst|ack) == syn", "tcp flags != syn"]).to_owned(),
        14 => random.of(&["meta pkttype host", "meta protocol ip", "meta pkttype != host"]).to_owned(),
        15 => random.of(&["ip saddr @none", "ip saddr != @none", "ct mark 0x3", "ct mark != 0x1"]).to_owned(),
        _ => random
            .of(&["iifname . oifname { \"ca\" . \"br0\", \"br0\" . \"ca\" }", "th sport 1024-65535", "th dport > 100"])
            .to_owned(),
    }
}

fn nat(random: &mut Random) -> String {
    let mut text = "table ip nat {
    map targets { type inet_service : ipv4_addr . inet_service; elements = { 80 : 10.2.0.2 . 8080, 9000 : 10.2.0.3 . 80 }; }
    map hosts { type ipv4_addr : ipv4_addr; elements = { 10.1.0.1 : 10.2.0.2, 10.2.0.1 : 10.2.0.3 }; }\n"
        .to_owned();
    let priority = random.of(&[-100, -90]);
    for hook in ["prerouting", "output"] {
        text += &format!("    chain {hook} {{\n        type nat hook {hook} priority {priority}; policy accept;\n");
        for _ in 0..random.below(4) {
            let kind = random.of(&[0, 2, 3, 5, 14]);
            let condition = if random.one_in(3) { String::new() } else { condition(random, kind) };
            let condition = if condition.contains('@') { String::new() } else { condition };
            let target = random.of(&[
                "meta l4proto { tcp, udp } redirect to :80",
                "redirect",
                "udp dport 53 redirect to :8080",
                "dnat to 10.2.0.2",
                "meta l4proto { tcp, udp } dnat to 10.2.0.3:80",
                "udp dport { 80, 443 } dnat to 10.2.0.2:9000",
                "meta l4proto { tcp, udp } dnat ip to th dport map @targets",
                "dnat to ip daddr map @hosts",
                "udp dport 443 dnat to 10.1.0.4",
                "fib daddr type local meta l4proto { tcp, udp } th dport 8080 dnat to 10.2.0.2:80",
                "accept",
                "return",
            ]);
            text += &format!("        {condition} {target}\n");
        }
        text += "    }\n";
    }
    text += "    chain postrouting {\n        type nat hook postrouting priority 100; policy accept;\n";
    for _ in 0..random.below(3) {
        let condition = random.of(&[
            "oifname \"br0\"",
            "ip saddr 10.2.0.0/24",
            "oifname != \"br0\"",
            "ip daddr 10.2.0.2",
            "ct status dnat",
            "",
        ]);
        text += &format!(
            "        {condition} {}\n",
            random.of(&["masquerade", "masquerade", "snat to 10.2.0.1", "snat to 10.1.0.1", "accept"])
        );
    }
    text + "    }\n}\n"
}

/// Rules in the layout of firewalld: the client's network in one zone, the server's in another.
fn firewalld(random: &mut Random) -> String {
    let services: String = (0..random.below(4))
        .map(|_| {
            format!("        {} dport {} accept\n", random.of(&["tcp", "udp"]), random.of(&["53", "80", "443", "8000-9000"]))
        })
        .collect();
    let source = if random.one_in(2) { "        ip saddr 10.1.0.3 goto filter_IN_trusted\n" } else { "" };
    let end = random.of(&["reject with icmpx admin-prohibited", "drop", "accept"]);
    let forward = random.of(&["reject with icmpx admin-prohibited", "accept"]);
    let port = if random.one_in(2) { "        udp dport 8080 redirect to :80\n" } else { "" };
    let masquerade = if random.one_in(2) { "        oifname != \"lo\" masquerade\n" } else { "" };
    format!(
        "table inet firewalld {{
    chain nat_PREROUTING {{
        type nat hook prerouting priority dstnat + 10; policy accept;
        iifname \"ca\" goto nat_PRE_public
    }}
    chain nat_PRE_public {{\n{port}    }}
    chain nat_POSTROUTING {{
        type nat hook postrouting priority srcnat + 10; policy accept;
        oifname \"br0\" goto nat_POST_internal
    }}
    chain nat_POST_internal {{\n{masquerade}    }}
    chain filter_INPUT {{
        type filter hook input priority filter + 10; policy accept;
        ct state {{ established, related }} accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        {end}
    }}
    chain filter_FORWARD {{
        type filter hook forward priority filter + 10; policy accept;
        ct state {{ established, related }} accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state invalid drop
        iifname vmap {{ \"br0\" : goto filter_FWD_internal }}
        {forward}
    }}
    chain filter_INPUT_ZONES {{
{source}        iifname vmap {{ \"ca\" : goto filter_IN_public, \"br0\" : goto filter_IN_internal }}
    }}
    chain filter_IN_trusted {{
        accept
    }}
    chain filter_IN_public {{
{services}        meta l4proto {{ icmp, ipv6-icmp }} accept
        reject with icmpx admin-prohibited
    }}
    chain filter_IN_internal {{
{services}    }}
    chain filter_FWD_internal {{
        oifname \"br0\" accept
        {forward}
    }}
}}\n"
    )
}

/// Rules in the layout of netavark, with a chain of the administrator.
fn netavark(random: &mut Random) -> String {
    let published = random.of(&["80", "8080", "9000"]);
    let user = rules(random, 4, 3, "forward", 0);
    format!(
        "table inet netavark {{{SETS}
    chain INPUT {{
        type filter hook input priority filter; policy accept;
        ip saddr 10.2.0.0/24 meta l4proto {{ tcp, udp }} th dport 53 accept
    }}
    chain FORWARD {{
        type filter hook forward priority filter; policy accept;
        ct state invalid drop
        jump NETAVARK-ISOLATION-1
        ip daddr 10.2.0.0/24 ct state established,related accept
        ip saddr 10.2.0.0/24 accept
    }}
    chain NETAVARK-ISOLATION-1 {{
{user}    }}
    chain PREROUTING {{
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump NETAVARK-HOSTPORT-DNAT
    }}
    chain OUTPUT {{
        type nat hook output priority -100; policy accept;
        fib daddr type local jump NETAVARK-HOSTPORT-DNAT
    }}
    chain POSTROUTING {{
        type nat hook postrouting priority srcnat; policy accept;
        meta mark & 0x00002000 == 0x00002000 masquerade
        ip saddr 10.2.0.0/24 ip daddr != 10.2.0.0/24 masquerade
    }}
    chain NETAVARK-HOSTPORT-SETMARK {{
        meta mark set meta mark | 0x00002000
    }}
    chain NETAVARK-HOSTPORT-DNAT {{
        udp dport {published} jump nv_one
        tcp dport {published} jump nv_one
    }}
    chain nv_one {{
        ip saddr 10.2.0.0/24 jump NETAVARK-HOSTPORT-SETMARK
        ip saddr 127.0.0.1 jump NETAVARK-HOSTPORT-SETMARK
        meta l4proto {{ tcp, udp }} dnat ip to 10.2.0.2:80
    }}
}}\n"
    )
}
