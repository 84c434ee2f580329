//! Forwarding of container packets: Docker's rules, the kernel setting, chains of other software, and full accept queues.

use crate::lab::{Host, PEER, Rootfs, eventually};

const CHAINS: &str = "network.docker-chains engine:docker";
const DROP: &str = "network.forward-drop host";

#[test]
fn flushed_rules_are_found_although_the_published_port_responds() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.run("web", &["-p", "8080:8080", "tool", "/bin/fixture", "httpd", "--port", "8080"]);
    host.run_runbooks(&["network"]).must_not(&["network."]);
    assert!(host.gets_through("app", "/health", 10));
    // as a restart of a firewall does
    host.sh("iptables -t nat -F; iptables -F FORWARD; iptables -P FORWARD DROP");
    assert!(!host.gets_through("app", "/health", 10), "there is no egress");
    let answer = host.sh("exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /health HTTP/1.1\\r\\n\\r\\n' >&3; head -1 <&3");
    assert!(answer.contains("200"), "and the published port responds: {answer}");
    let run = host.run_runbooks(&["network", "container", "healthcheck"]);
    run.roots(&[CHAINS]).explains(CHAINS, DROP).exits(2);
    run.mentions(
        CHAINS,
        &["the jump from nat PREROUTING to DOCKER", "MASQUERADE for 172.", "a response from outside proves nothing"],
    );
    let refused = run.offer("docker.rebuild-chains", "engine:docker").and_then(|o| o.refused.clone()).unwrap_or_default();
    assert!(
        refused.contains("restart dockerd in the same way it was started") && refused.contains("all containers stop with it"),
        "{refused}"
    );
}

#[test]
fn disabled_ip_forwarding_is_fixed_and_reverted() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("mkdir -p /etc/sysctl.d; mount -t tmpfs tmpfs /etc/sysctl.d; sysctl -qw net.ipv4.ip_forward=0");
    assert!(!host.gets_through("app", "/health", 10));
    let off = "network.ip-forward host";
    host.run_runbooks(&["network"]).roots(&[off]).mentions(off, &["net.ipv4.ip_forward is 0", "shop"]);
    host.fix("network.enable-forwarding", "host", &[]).exits(0);
    assert!(host.gets_through("app", "/health", 10));
    assert_eq!(host.sh("cat /etc/sysctl.d/60-opsctl.conf"), "net.ipv4.ip_forward = 1");
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(host.sh("cat /proc/sys/net/ipv4/ip_forward; ls /etc/sysctl.d"), "0");
}

#[test]
fn dropping_table_is_found_beside_docker_s_own() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("nft 'add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }; add rule inet fw forward ct state established,related accept'");
    assert!(!host.gets_through("app", "/health", 10));
    let run = host.run_runbooks(&["network"]);
    run.roots(&[DROP])
        .mentions(DROP, &["chain forward of table inet fw (nft) drops outgoing packets of containers in shop, by its policy"]);
    host.sh("nft add rule inet fw forward iifname 'br-*' accept");
    assert!(host.gets_through("app", "/health", 10), "{PEER} answers");
    host.run_runbooks(&["network"]).must_not(&["network."]);
}

#[test]
fn full_accept_queue_is_attributed_to_its_process() {
    let Some(host) = Host::start() else { return };
    host.image("tool", Rootfs::Scratch, &[]);
    host.run("slow", &["tool", "/bin/fixture", "httpd", "--port", "8080"]);
    let pid = host.inspect("slow", "{{.State.Pid}}");
    host.run_runbooks(&["network"]).must_not(&["network.backlog"]);
    host.sh(&format!("kill -STOP {pid}"));
    let script = "for i in $(seq 200); do exec {fd}<>/dev/tcp/127.0.0.1/8080 || break; done; sleep 1000";
    host.spawn("nsenter", &["--target", &pid, "--net", "timeout", "1000", "bash", "-c", script]);
    eventually(30, "the queue is full", || {
        let waiting = host.sh(&format!("nsenter --target {pid} --net ss -Hltn sport = :8080 | awk '{{print ($2 >= $3)}}'"));
        (waiting == "1").then_some(())
    });
    let run = host.run_runbooks(&["network"]);
    run.must(&["network.backlog container:slow"])
        .mentions("network.backlog container:slow", &["to 0.0.0.0:8080 waiting to be accepted, queue length 128"]);
    host.sh(&format!("kill -CONT {pid}"));
}
