//! Evaluation of rules as ufw, firewalld, Docker, netavark and kube-proxy write them. `tests/it/live/packet_filter` compares the
//! evaluation of generated rules with real packets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::net::IpAddr;

use super::*;

const UFW: &str = include_str!("dumps/ufw_docker.rules");
const KUBE: &str = include_str!("dumps/kube_iptables.rules");

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A host with an uplink and bridges of several engines.
fn host() -> HostView {
    let networks = [
        ("lo", "127.0.0.1", 8),
        ("eth0", "192.0.2.10", 24),
        ("docker0", "172.17.0.1", 16),
        ("podman0", "10.88.0.1", 16),
        ("cni0", "10.244.0.1", 16),
    ];
    let interfaces = networks.map(|(name, address, length)| HostInterface {
        name: name.to_owned(),
        addresses: vec![(ip(address), length)],
        is_bridge: name != "eth0",
    });
    let route = |to: IpAddr, length: u8, interface: &str| HostRoute {
        to: (to, length),
        interface: interface.to_owned(),
        table: 254,
        metric: 0,
    };
    let mut routes: Vec<HostRoute> =
        networks[1..].iter().map(|(name, address, length)| route(ip(address), *length, name)).collect();
    routes.push(route(ip("0.0.0.0"), 0, "eth0"));
    HostView { interfaces: interfaces.to_vec(), routes, forwards: true, ..HostView::default() }
}

fn iptables(text: &str) -> Ruleset {
    Ruleset::parse(&Listings { iptables: &[(Backend::Nft, text)], ..Listings::default() })
}

fn nft(json: &str) -> Ruleset {
    let value = serde_json::from_str(json).unwrap();
    Ruleset::parse(&Listings { nft: Some(&value), nft_has_elements: true, ..Listings::default() })
}

fn inbound(to: &str, port: u16) -> Flow {
    Flow::tcp(Some("eth0"), ip("198.51.100.7"), ip(to), port)
}

/// The verdict on a connection and the text of the rule or policy that discards it.
fn fate(rules: &Ruleset, flow: &Flow) -> (Verdict, Leg, String) {
    let fate = rules.connection(flow, &host());
    (fate.verdict, fate.leg, fate.decision.map(|d| format!("{} {}: {}", d.chain, d.writer, d.text)).unwrap_or_default())
}

fn accepted() -> (Verdict, Leg, String) {
    (Verdict::Accept, Leg::Following, String::new())
}

#[test]
fn ufw_with_docker_in_the_recommended_setup() {
    let rules = iptables(UFW);
    assert_eq!(fate(&rules, &inbound("192.0.2.10", 443)), accepted());
    // published: DNAT, past ufw
    let published = rules.connection(&inbound("192.0.2.10", 8080), &host());
    assert_eq!((published.verdict, published.end), (Verdict::Accept, End::Sent("docker0".into())));
    assert_eq!(published.destination, (ip("172.17.0.2"), Some(80)));
    let egress = rules.connection(&Flow::tcp(Some("docker0"), ip("172.17.0.2"), ip("203.0.113.1"), 443), &host());
    assert_eq!((egress.verdict, egress.source.0), (Verdict::Accept, ip("192.0.2.10")));
    // a port that is open to one network only
    assert_eq!(fate(&rules, &inbound("192.0.2.10", 5432)), (Verdict::Drop, Leg::First, "INPUT ufw: policy DROP".into()));
    let near = Flow::tcp(Some("eth0"), ip("192.0.2.20"), ip("192.0.2.10"), 5432);
    assert_eq!(fate(&rules, &near), accepted());
    // `ufw limit`
    let limited = rules.connection(&inbound("192.0.2.10", 22), &host());
    assert_eq!(limited.verdict, Verdict::Unknown);
    assert!(limited.reasons[0].contains("--hitcount 6"), "{:?}", limited.reasons);
    // from a container to a port of the host (chaifeng/ufw-docker#16, #53)
    let flow = Flow::tcp(Some("docker0"), ip("172.17.0.2"), ip("172.17.0.1"), 5000);
    assert_eq!(fate(&rules, &flow), (Verdict::Drop, Leg::First, "INPUT ufw: policy DROP".into()));
    assert_eq!(fate(&rules, &Flow::tcp(None, ip("127.0.0.1"), ip("127.0.0.1"), 5432)), accepted());
}

#[test]
fn drop_in_docker_user_without_established_discards_replies() {
    let user = "-A DOCKER-USER -i eth0 ! -s 203.0.113.9/32 -j DROP\n";
    let rules = iptables(&UFW.replace("COMMIT\n# Completed", &format!("{user}COMMIT\n# Completed")));
    let egress = Flow::tcp(Some("docker0"), ip("172.17.0.2"), ip("203.0.113.1"), 443);
    let dropped = rules.connection(&egress, &host());
    let decision = dropped.decision.unwrap();
    assert_eq!((dropped.verdict, dropped.leg, decision.writer), (Verdict::Drop, Leg::Reply, Writer::Manual));
    assert_eq!((decision.chain.as_str(), decision.position), ("DOCKER-USER", Some(1)));
    let allowed = user.replace("-A", "-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN\n-A");
    let rules = iptables(&UFW.replace("COMMIT\n# Completed", &format!("{allowed}COMMIT\n# Completed")));
    assert_eq!(fate(&rules, &egress), accepted());
    assert_eq!(rules.connection(&inbound("192.0.2.10", 8080), &host()).verdict, Verdict::Drop);
}

#[test]
fn firewalld_zones_and_forwarded_ports() {
    let rules = nft(include_str!("dumps/firewalld.json"));
    assert_eq!(fate(&rules, &inbound("192.0.2.10", 443)), accepted());
    let closed = fate(&rules, &inbound("192.0.2.10", 5432));
    let text = "filter_IN_public firewalld: reject with icmpx admin-prohibited";
    assert_eq!(closed, (Verdict::Reject, Leg::First, text.into()));
    // `--add-forward-port=port=8443:proto=tcp:toport=443`
    let forwarded = rules.connection(&inbound("192.0.2.10", 8443), &host());
    assert_eq!((forwarded.verdict, forwarded.destination), (Verdict::Accept, (ip("192.0.2.10"), Some(443))));
    let banned = Flow::tcp(Some("eth0"), ip("203.0.113.66"), ip("192.0.2.10"), 443);
    assert_eq!(fate(&rules, &banned).0, Verdict::Drop);
    let egress = Flow::tcp(Some("docker0"), ip("172.17.0.2"), ip("203.0.113.1"), 443);
    assert_eq!(fate(&rules, &egress), accepted());
}

#[test]
fn tables_of_docker_29() {
    let rules = nft(include_str!("dumps/docker29.json"));
    let published = rules.connection(&inbound("192.0.2.10", 8080), &host());
    assert_eq!((published.verdict, published.destination), (Verdict::Accept, (ip("172.17.0.2"), Some(80))));
    let direct = rules.connection(&inbound("172.17.0.2", 80), &host());
    assert_eq!((direct.verdict, direct.decision.unwrap().writer), (Verdict::Drop, Writer::Docker));
    let egress = rules.connection(&Flow::udp(Some("docker0"), ip("172.17.0.2"), ip("203.0.113.1"), 53), &host());
    assert_eq!((egress.verdict, egress.source.0), (Verdict::Accept, ip("192.0.2.10")));
    let own = rules.connection(&Flow::tcp(None, ip("192.0.2.10"), ip("192.0.2.10"), 8080), &host());
    assert_eq!((own.verdict, own.destination.0), (Verdict::Accept, ip("172.17.0.2")));
}

#[test]
fn table_of_netavark() {
    let rules = nft(include_str!("dumps/netavark.json"));
    let published = rules.connection(&inbound("192.0.2.10", 8080), &host());
    assert_eq!((published.verdict, published.destination), (Verdict::Accept, (ip("10.88.0.2"), Some(80))));
    // a container to the published port of its neighbour: masqueraded by the mark
    let hairpin = rules.connection(&Flow::tcp(Some("podman0"), ip("10.88.0.3"), ip("192.0.2.10"), 8080), &host());
    assert_eq!((hairpin.verdict, hairpin.source.0), (Verdict::Accept, ip("10.88.0.1")));
}

#[test]
fn load_balancing_of_kube_proxy_leads_to_one_of_several_endpoints() {
    let cluster = Flow::tcp(Some("cni0"), ip("10.244.0.9"), ip("10.96.0.10"), 80);
    // otherwise replies between pods of one bridge are not translated back, which is a known fault of such hosts
    let host = HostView { filters_bridges: true, ..host() };
    for rules in [iptables(KUBE), nft(include_str!("dumps/kube_proxy.json"))] {
        for flow in [inbound("192.0.2.10", 30080), cluster.clone()] {
            let fate = rules.connection(&flow, &host);
            assert!(fate.has_alternatives && fate.destination.1 == Some(8080), "{fate:?}");
            let external = flow.input.as_deref() == Some("eth0");
            // only traffic that is masqueraded is accepted by KUBE-FORWARD; that of pods is left to the network plugin
            assert_eq!(fate.verdict == Verdict::Accept, external || rules != iptables(KUBE), "{fate:?}");
        }
    }
    let rules = nft(include_str!("dumps/kube_proxy.json"));
    let refused = rules.connection(&Flow::tcp(None, ip("192.0.2.10"), ip("10.96.0.99"), 80), &host);
    assert_eq!((refused.verdict, refused.decision.unwrap().writer), (Verdict::Reject, Writer::Kubernetes));
    let no_port = Flow::tcp(Some("cni0"), ip("10.244.0.9"), ip("10.96.0.10"), 81);
    assert_eq!(rules.connection(&no_port, &host).verdict, Verdict::Reject);
}

#[test]
fn only_new_connections_are_accepted() {
    let text = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 80 -m state --state NEW -j ACCEPT\nCOMMIT\n";
    let policy = (Verdict::Drop, Leg::Following, "INPUT hand or script: policy DROP".to_owned());
    assert_eq!(fate(&iptables(text), &inbound("192.0.2.10", 80)), policy);
}

#[test]
fn unknown_matches_and_targets_are_open() {
    let of = |rules: &str| {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n:u - [0:0]\n{rules}COMMIT\n");
        iptables(&text).connection(&inbound("192.0.2.10", 80), &host())
    };
    for open in [
        "-A INPUT -m limit --limit 3/min -j DROP\n",
        "-A INPUT -m time --timestart 08:00:00 --timestop 18:00:00 -j DROP\n",
        "-A INPUT -m string --string \"GET / -j DROP\" --algo bm --to 65535 -j DROP\n",
        "-A INPUT -m bpf --bytecode \"4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0\" -j DROP\n",
        "-A INPUT -m set --match-set absent src -j DROP\n",
        "-A INPUT -m invented --foo 1 --bar -j DROP\n",
        "-A INPUT -j NFQUEUE --queue-num 0 --queue-bypass\n",
        "-A INPUT -j INVENTED --to 1\n",
        "-A INPUT -m limit --limit 3/min -j u\n-A u -j DROP\n",
    ] {
        let fate = of(open);
        assert_eq!((fate.verdict, fate.reasons.len()), (Verdict::Unknown, 1), "{open}: {fate:?}");
    }
    for certain in [
        // either way the next rule is evaluated
        "-A INPUT -m limit --limit 3/min -j LOG --log-prefix \"x \"\n",
        "-A INPUT -m limit --limit 3/min -j ACCEPT\n",
        "-A INPUT -m limit --limit 3/min -j u\n-A u -p udp -j DROP\n",
        "-A INPUT -p udp -m invented -j DROP\n",
        "-A INPUT -m comment --comment \"-j DROP\"\n",
    ] {
        assert_eq!(of(certain).verdict, Verdict::Accept, "{certain}");
    }
    let both = of("-A INPUT -m limit --limit 3/min -j DROP\n-A INPUT -j DROP\n");
    assert_eq!((both.verdict, both.reasons.len()), (Verdict::Drop, 0));
}

#[test]
fn elements_of_ipset_are_compared() {
    let sets = "create banned hash:net family inet hashsize 1024 maxelem 65536\nadd banned 198.51.100.0/24\n\
        add banned 198.51.100.7 nomatch\ncreate web hash:ip,port family inet\nadd web 192.0.2.10,tcp:80\n\
        create ports bitmap:port range 0-65535\nadd ports 80\n";
    let of = |rule: &str, from: &str| {
        let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {rule}\nCOMMIT\n");
        let iptables = [(Backend::Legacy, text.as_str())];
        let rules = Ruleset::parse(&Listings { ipset: Some(sets), iptables: &iptables, ..Listings::default() });
        rules.connection(&Flow::tcp(Some("eth0"), ip(from), ip("192.0.2.10"), 80), &host()).verdict
    };
    let banned = "-m set --match-set banned src -j DROP";
    assert_eq!((of(banned, "198.51.100.9"), of(banned, "198.51.100.7")), (Verdict::Drop, Verdict::Accept));
    assert_eq!(of("-m set ! --match-set banned src -j DROP", "203.0.113.1"), Verdict::Drop);
    assert_eq!(of("-m set --match-set web dst,dst -j REJECT", "203.0.113.1"), Verdict::Reject);
    assert_eq!(of("-m set --match-set ports dst -j DROP", "203.0.113.1"), Verdict::Unknown);
}

#[test]
fn elements_that_are_not_listed_are_open() {
    let json = |elements: &str| {
        format!(
            r#"{{"nftables": [{{"set": {{"family": "ip", "name": "bad", "table": "f", "type": "ipv4_addr"{elements}}}}},
            {{"chain": {{"family": "ip", "table": "f", "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}}}},
            {{"rule": {{"family": "ip", "table": "f", "chain": "in", "handle": 3, "expr": [
                {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "ip", "field": "saddr"}}}}, "right": "@bad"}}}}, {{"drop": null}}]}}}}]}}"#
        )
    };
    let of = |text: &str, has_elements: bool| {
        let value = serde_json::from_str(text).unwrap();
        let rules = Ruleset::parse(&Listings { nft: Some(&value), nft_has_elements: has_elements, ..Listings::default() });
        rules.connection(&inbound("192.0.2.10", 80), &host()).verdict
    };
    assert_eq!(of(&json(""), false), Verdict::Unknown);
    assert_eq!(of(&json(""), true), Verdict::Accept, "an empty set");
    assert_eq!(of(&json(r#", "elem": ["198.51.100.7"]"#), false), Verdict::Drop);
}

#[test]
fn ip6tables_replaces_what_nft_lists_of_it() {
    let json = r#"{"nftables": [
        {"chain": {"family": "ip6", "table": "filter", "name": "INPUT", "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}},
        {"rule": {"family": "ip6", "table": "filter", "chain": "INPUT", "handle": 1, "expr": [{"xt": {"type": "match", "name": "tcp"}}, {"drop": null}]}}]}"#;
    let rules = nft(json);
    let mut host = host();
    host.interfaces[1].addresses.push((ip("2001:db8::1"), 64));
    host.routes.push(HostRoute { to: (ip("::"), 0), interface: "eth0".into(), table: 254, metric: 0 });
    let flow = Flow::tcp(Some("eth0"), ip("2001:db8:1::7"), ip("2001:db8::1"), 80);
    assert_eq!(rules.connection(&flow, &host).verdict, Verdict::Unknown);
    let text = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p ipv6-icmp -j ACCEPT\n-A INPUT -s 2001:db8:1::/48 -p tcp -m tcp --dport 80 -j ACCEPT\n\
        -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n";
    let both = rules.with_ip6tables(&[(Backend::Nft, text)], None);
    assert_eq!(both.connection(&flow, &host).verdict, Verdict::Accept);
    let closed = both.connection(&Flow { destination_port: 81, ..flow }, &host);
    assert_eq!((closed.verdict, closed.decision.unwrap().ipv6), (Verdict::Drop, true));
}

#[test]
fn ten_thousand_rules_are_parsed_and_evaluated_quickly() {
    let mut text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n".to_owned();
    for n in 0..2_500 {
        writeln!(text, ":KUBE-SVC-{n:016} - [0:0]\n:KUBE-SEP-{n:016} - [0:0]").unwrap();
    }
    text.push_str("-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n");
    for n in 0..2_500 {
        let (a, b) = (n / 250, n % 250);
        writeln!(
            text,
            "[0:0] -A KUBE-SERVICES -d 10.96.{a}.{b}/32 -p tcp -m comment --comment \"ns/svc{n} cluster IP\" -m tcp --dport 80 -j KUBE-SVC-{n:016}
[0:0] -A KUBE-SVC-{n:016} -m comment --comment \"ns/svc{n} -> 10.244.{a}.{b}:8080\" -j KUBE-SEP-{n:016}
[0:0] -A KUBE-SEP-{n:016} -s 10.244.{a}.{b}/32 -m comment --comment ns/svc{n} -j RETURN
[0:0] -A KUBE-SEP-{n:016} -p tcp -m comment --comment ns/svc{n} -m tcp -j DNAT --to-destination 10.244.{a}.{b}:8080"
        )
        .unwrap();
    }
    text.push_str("COMMIT\n");
    let started = std::time::Instant::now();
    let rules = iptables(&text);
    let parsed = started.elapsed();
    assert_eq!(rules.rule_count(), 10_001);
    let fate = rules.connection(&Flow::tcp(Some("cni0"), ip("10.244.99.1"), ip("10.96.9.249"), 80), &host());
    assert_eq!(fate.destination, (ip("10.244.9.249"), Some(8080)));
    // 15 ms in a release build; tests are not optimized, and machines are busy
    assert!(parsed < std::time::Duration::from_secs(2), "{parsed:?}");
}
