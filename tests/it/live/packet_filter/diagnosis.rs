//! Rules that drop needed packets, and the same rules with an exception for established connections.

use crate::lab::{Host, eventually};

#[test]
fn drop_in_docker_user_discards_replies_to_containers() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("iptables -I DOCKER-USER -i h1 ! -s 203.0.113.9 -j DROP");
    assert!(!host.gets_through("app", "/health", 10));
    let run = host.run_runbooks(&["network"]);
    run.must(&["network.filter-drop host"])
        .mentions("network.filter-drop host", &["chain DOCKER-USER of table filter", "drops the replies", "in shop"]);
    host.sh("iptables -I DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN");
    assert!(host.gets_through("app", "/health", 10), "the peer answers");
    host.run_runbooks(&["network"]).must_not(&["network."]);
}

#[test]
fn policy_of_input_drops_connections_of_containers_to_the_host() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.spawn("/run/lab/fixture", &["httpd", "--port", "5000"]);
    eventually(20, "the server listens", || (!host.sh("ss -Hltn sport = :5000").is_empty()).then_some(()));
    let need = ["--network", "shop", "--add-host", "host.docker.internal:host-gateway"];
    let variable = ["-e", "BACKEND_URL=http://host.docker.internal:5000/", "tool", "/bin/fixture", "wait-term"];
    host.run("web", &[&need[..], &variable[..]].concat());
    host.sh("iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        iptables -P INPUT DROP");
    let run = host.run_runbooks(&["network"]);
    run.must(&["network.filter-drop container:web"]).mentions(
        "network.filter-drop container:web",
        &["chain INPUT of table filter", "drops connections of web (BACKEND_URL) to host.docker.internal:5000"],
    );
    host.sh("iptables -A INPUT -i br-+ -p tcp --dport 5000 -j ACCEPT");
    host.run_runbooks(&["network"]).must_not(&["network.filter-drop"]);
}
