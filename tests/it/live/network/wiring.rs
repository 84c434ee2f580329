//! The wiring of the engine: translation of published ports, bridges, veths, subnets and address pools. One fault each, and a control.

use crate::lab::{Host, Rootfs, eventually};

/// The checks of this file.
const CHECKS: &[&str] = &[
    "network.stale-dnat",
    "network.bridge-address",
    "network.endpoint-detached",
    "network.subnet-collision",
    "network.address-pools",
    "network.stale-conntrack",
];

/// The bridge of a network.
fn bridge(host: &Host, network: &str) -> String {
    format!("br-{}", &host.docker(&["network", "inspect", "-f", "{{.Id}}", network])[..12])
}

/// The veth of a container on the host.
fn veth(host: &Host, container: &str) -> String {
    let pid = host.inspect(container, "{{.State.Pid}}");
    // `2: eth0@if7: <BROADCAST,…>`
    let index = host.sh(&format!("nsenter -t {pid} -n ip -o link show eth0 | sed 's/.*@if\\([0-9]*\\):.*/\\1/'"));
    host.sh(&format!("ip -o link | awk -F'[:@ ]+' '$1 == {index} {{print $2}}'"))
}

#[test]
fn stale_translation_before_the_own_one_is_reported() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.run("web", &["--network", "shop", "-p", "18080:8080", "tool", "/bin/fixture", "httpd", "--port", "8080"]);
    let reached = || host.sh("ip netns exec d timeout 2 bash -c 'exec 3<>/dev/tcp/10.7.2.1/18080 && echo yes' || true");
    eventually(20, "the published port responds", || (reached() == "yes").then_some(()));
    let stale = "network.stale-dnat container:web";
    host.run_runbooks(&["network"]).must_not(&["network.stale-dnat"]);
    host.sh("iptables -t nat -I DOCKER 1 ! -i docker0 -p tcp --dport 18080 -j DNAT --to-destination 172.17.0.9:8080");
    assert_eq!(reached(), "", "clients of other machines time out");
    let run = host.run_runbooks(&["network"]);
    run.roots(&[stale]).exits(2);
    run.mentions(
        stale,
        &["port 18080/tcp of web is translated to 172.17.0.9:8080", "chain DOCKER, number 1", "iptables-nft -t nat -D DOCKER 1"],
    );
    // of the next two, one is for another source and one comes too late
    host.sh("iptables -t nat -D DOCKER 1
        iptables -t nat -I DOCKER 1 -s 192.0.2.0/24 -p tcp --dport 18080 -j DNAT --to-destination 172.17.0.9:8080
        iptables -t nat -A DOCKER -p tcp --dport 18080 -j DNAT --to-destination 172.17.0.9:8080");
    assert_eq!(reached(), "yes");
    host.run_runbooks(&["network"]).must_not(&["network.stale-dnat"]);
}

#[test]
fn flushed_bridge_is_reported_with_the_command_that_restores_it() {
    let Some(host) = Host::with_wires(1500) else { return };
    let (bridge, gateway) =
        (bridge(&host, "shop"), host.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "shop"]));
    host.sh(&format!("ip addr flush dev {bridge}"));
    assert!(!host.gets_through("app", "/health", 10), "there is no egress");
    let lost = format!("network.bridge-address interface:{bridge}");
    let run = host.run_runbooks(&["network", "dns"]);
    run.must(&[&lost]).must_not(&["network.endpoint-detached", "network.subnet-collision"]);
    run.mentions(
        &lost,
        &[&format!("does not have the gateway address {gateway}"), "app", &format!("ip addr add {gateway}/16 dev {bridge}")],
    );
    if run.findings().any(|f| f.code == "dns.container") {
        run.explains(&lost, "dns.container container:app");
    }
    host.sh(&format!("ip addr add {gateway}/16 dev {bridge}"));
    eventually(20, "there is egress again", || host.gets_through("app", "/health", 10).then_some(()));
    host.run_runbooks(&["network"]).must_not(&["network."]);
    host.sh(&format!("ip link set {bridge} down"));
    host.run_runbooks(&["network"]).mentions(&lost, &["is down", &format!("ip link set {bridge} up")]);
}

#[test]
fn veth_outside_of_its_bridge_is_reported() {
    let Some(host) = Host::with_wires(1500) else { return };
    let (bridge, veth) = (bridge(&host, "shop"), veth(&host, "app"));
    let detached = "network.endpoint-detached container:app";
    host.run_runbooks(&["network"]).must_not(&["network."]);
    host.sh(&format!("ip link set {veth} nomaster"));
    let run = host.run_runbooks(&["network"]);
    run.roots(&[detached]).exits(2);
    run.mentions(detached, &["is not in bridge", &format!("ip link set {veth} master {bridge}")]);
    host.sh(&format!("ip link set {veth} master {bridge}; ip link set {veth} down"));
    host.run_runbooks(&["network"]).mentions(detached, &[&format!("its veth {veth} on this host is down")]);
    let pid = host.inspect("app", "{{.State.Pid}}");
    host.sh(&format!("ip link set {veth} up; nsenter -t {pid} -n ip link set eth0 down"));
    host.run_runbooks(&["network"]).mentions(detached, &["its interface eth0 is down"]);
    host.sh(&format!("nsenter -t {pid} -n ip link set eth0 up"));
    host.run_runbooks(&["network"]).must_not(&["network.endpoint-detached"]);
}

#[test]
fn hidden_address_and_used_pools_are_reported() {
    let config = crate::lab::Config {
        daemon: r#"{"default-address-pools": [{"base": "10.200.0.0/23", "size": 24}]}"#,
        ..crate::lab::Config::default()
    };
    let Some(host) = Host::with(&config) else { return };
    host.wire(1500);
    host.image("tool", Rootfs::Scratch, &["CMD [\"/bin/fixture\", \"wait-term\"]"]);
    host.docker(&["network", "create", "--subnet", "172.19.0.0/16", "lab"]);
    host.run("web", &["-e", "DB_URL=http://172.19.5.5:5432", "-e", "PEER_URL=http://10.7.3.2:8080", "tool"]);
    let run = host.run_runbooks(&["network"]);
    let hidden: Vec<_> = run.findings().filter(|f| f.code == "network.subnet-collision").collect();
    assert!(
        matches!(hidden[..], [f] if f.message.starts_with("172.19.5.5 (needed: web (DB_URL)) is in subnet 172.19.0.0/16 of network lab")),
        "{hidden:?}"
    );
    // the default bridge has one of two subnets
    let pools = |run: &crate::lab::Run| run.findings().find(|f| f.code == "network.address-pools").map(|f| f.message.clone());
    assert!(
        pools(&run).is_some_and(|m| m.starts_with("1 free subnet left of 2 in the configured address pools")),
        "{:?}",
        pools(&run)
    );
    host.docker(&["network", "create", "last"]);
    assert!(!host.try_docker(&["network", "create", "more"]).status.success());
    let run = host.run_runbooks(&["network"]);
    assert!(pools(&run).is_some_and(|m| m.starts_with("no free subnet of 2")), "{:?}", pools(&run));
    host.docker(&["network", "rm", "lab", "last"]);
    host.run_runbooks(&["network"]).must_not(&["network.subnet-collision"]);
}

#[test]
fn healthy_networks_of_every_kind_are_silent() {
    let Some(host) = Host::with_wires(1500) else { return };
    let serve = ["tool", "/bin/fixture", "httpd", "--port", "8080"];
    for options in [
        &["--internal", "inner"][..],
        &["--subnet", "10.44.0.0/24", "--gateway", "10.44.0.254", "explicit"],
        &["--subnet", "10.45.0.0/24", "-o", "com.docker.network.bridge.inhibit_ipv4=true", "bare"],
        &["--driver", "macvlan", "--subnet", "10.7.9.0/24", "-o", "parent=h1", "lan"],
    ] {
        host.docker(&[&["network", "create"], options].concat());
    }
    for network in ["inner", "explicit", "bare", "lan"] {
        host.run(&format!("on-{network}"), &["--network", network, "tool"]);
    }
    host.run("local", &[&["-p", "127.0.0.1:18081:8080", "-p", "10.7.2.1:18082:8080"], &serve[..]].concat());
    host.run("web", &[&["--network", "shop", "-p", "18080:8080", "-p", "18053:53/udp"], &serve[..]].concat());
    // Tailscale has a table of its own; a VPN and another LAN have other subnets
    host.sh("ip link add wg9 type veth peer name wg8 netns r; ip -n r link set wg8 up; ip addr add 10.66.0.1/24 dev wg9; ip link set wg9 up
        ip route add 100.64.0.0/10 dev wg9 table 52; ip route add 172.16.0.0/12 dev wg9 table 52; ip route add 10.99.0.0/16 dev wg9");
    // a docker-proxy of an engine in another network namespace, for the address of a container of this one
    let address = host.inspect("web", "{{.NetworkSettings.Networks.shop.IPAddress}}");
    let foreign =
        format!("exec docker-proxy -proto tcp -host-ip 127.0.0.1 -host-port 18099 -container-ip {address} -container-port 99");
    host.spawn("ip", &["netns", "exec", "r", "sh", "-c", &format!("{foreign} 3> /dev/null")]);
    eventually(30, "docker-proxy listens", || (!host.sh("ip netns exec r ss -Hltn sport = :18099").is_empty()).then_some(()));
    let run = host.run_runbooks(&["network"]);
    run.must_not(CHECKS).must_not(&["network.docker-proxy-dead", "network.rp-filter", "network.ephemeral-ports"]);
    for check in CHECKS {
        let row = run.check(check, "engine:docker");
        assert_eq!((row.verdict.as_str(), row.reason.as_deref()), ("ok", None), "{check}");
    }
}
