//! What forwards packets of containers: Docker's rules, the kernel's setting, other people's chains, and queues that nobody empties.

use crate::lab::{Host, PEER, Rootfs, eventually};

const CHAINS: &str = "network.docker-chains engine:docker";
const DROP: &str = "network.forward-drop host";

#[test]
fn rules_that_a_firewall_flushed_are_missed_although_everything_looks_healthy() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.run("web", &["-p", "8080:8080", "tool", "/bin/fixture", "httpd", "--port", "8080"]);
    host.ask(&["network"]).must_not(&["network."]);
    assert!(host.gets_through("app", "/health", 10));
    // as a firewall does when it is started again
    host.sh("iptables -t nat -F; iptables -F FORWARD; iptables -P FORWARD DROP");
    assert!(!host.gets_through("app", "/health", 10), "the way out is dead");
    let answer = host.sh("exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /health HTTP/1.1\\r\\n\\r\\n' >&3; head -1 <&3");
    assert!(answer.contains("200"), "and the published port answers: {answer}");
    let run = host.ask(&["network", "container", "healthcheck"]);
    run.roots(&[CHAINS]).explains(CHAINS, DROP).exits(2);
    run.says(CHAINS, &["the jump from nat PREROUTING to DOCKER", "MASQUERADE for 172.", "an answer from outside proves nothing"]);
    let refused = run.offer("docker.rebuild-chains", "engine:docker").and_then(|o| o.refused.clone()).unwrap_or_default();
    assert!(
        refused.contains("restart dockerd the way it was started") && refused.contains("all containers stop with it"),
        "{refused}"
    );
}

#[test]
fn a_host_that_does_not_forward_is_put_right_and_back() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("mkdir -p /etc/sysctl.d; mount -t tmpfs tmpfs /etc/sysctl.d; sysctl -qw net.ipv4.ip_forward=0");
    assert!(!host.gets_through("app", "/health", 10));
    let off = "network.ip-forward host";
    host.ask(&["network"]).roots(&[off]).says(off, &["net.ipv4.ip_forward is 0", "shop"]);
    host.fix("network.enable-forwarding", "host", &[]).exits(0);
    assert!(host.gets_through("app", "/health", 10));
    assert_eq!(host.sh("cat /etc/sysctl.d/60-opsctl.conf"), "net.ipv4.ip_forward = 1");
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward; ls /etc/sysctl.d"), "0");
}

#[test]
fn another_table_that_drops_is_found_beside_docker_s_own() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("nft 'add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }; add rule inet fw forward ct state established,related accept'");
    assert!(!host.gets_through("app", "/health", 10));
    let run = host.ask(&["network"]);
    run.roots(&[DROP])
        .says(DROP, &["chain forward of table inet fw (nft) drops what containers in shop send out, by its policy"]);
    host.sh("nft add rule inet fw forward iifname 'br-*' accept");
    assert!(host.gets_through("app", "/health", 10), "{PEER} answers");
    host.ask(&["network"]).must_not(&["network."]);
}

#[test]
fn a_program_that_does_not_accept_is_known_by_its_queue() {
    let Some(host) = Host::start() else { return };
    host.image("tool", Rootfs::Scratch, &[]);
    host.run("slow", &["tool", "/bin/fixture", "httpd", "--port", "8080"]);
    let pid = host.inspect("slow", "{{.State.Pid}}");
    host.ask(&["network"]).must_not(&["network.backlog"]);
    host.sh(&format!("kill -STOP {pid}"));
    let script = "for i in $(seq 200); do exec {fd}<>/dev/tcp/127.0.0.1/8080 || break; done; sleep 1000";
    host.spawn("nsenter", &["--target", &pid, "--net", "timeout", "1000", "bash", "-c", script]);
    eventually(30, "the queue is full", || {
        let waiting = host.sh(&format!("nsenter --target {pid} --net ss -Hltn sport = :8080 | awk '{{print ($2 >= $3)}}'"));
        (waiting == "1").then_some(())
    });
    let run = host.ask(&["network"]);
    run.must(&["network.backlog container:slow"])
        .says("network.backlog container:slow", &["to 0.0.0.0:8080 wait to be accepted, room for 128"]);
    host.sh(&format!("kill -CONT {pid}"));
}
