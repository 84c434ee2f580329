//! Networks of a host: a link to a router, behind it one to a peer, each in a separate network namespace.

use super::{Host, Rootfs, eventually};

/// Address of the peer.
pub(crate) const PEER: &str = "10.7.3.2";

impl Host {
    /// A host with an engine, a container `app` in the network `shop`, and a default route over `h1` (`mtu`) to a router `r` and
    /// a peer `d` that serves HTTP on port 8080.
    pub(crate) fn with_wires(mtu: u32) -> Option<Self> {
        let host = Self::start()?;
        host.wire(mtu);
        host.image("tool", Rootfs::Scratch, &["CMD [\"/bin/fixture\", \"wait-term\"]"]);
        host.docker(&["network", "create", "shop"]);
        host.run("app", &["--network", "shop", "tool"]);
        Some(host)
    }

    /// Creates the links, the routes and the peer.
    #[track_caller]
    pub(crate) fn wire(&self, mtu: u32) {
        self.sh(&format!(
            "for n in r d; do ip netns add $n; ip -n $n link set lo up; done
            ip link add h1 mtu {mtu} type veth peer name r0 netns r mtu {mtu}
            ip link add r1 netns r type veth peer name d0 netns d
            ip addr add 10.7.2.1/24 dev h1; ip -n r addr add 10.7.2.2/24 dev r0
            ip -n r addr add 10.7.3.1/24 dev r1; ip -n d addr add {PEER}/24 dev d0
            ip link set h1 up; ip -n r link set r0 up; ip -n r link set r1 up; ip -n d link set d0 up
            ip route add default via 10.7.2.2; ip -n d route add default via 10.7.3.1
            ip netns exec r sysctl -qw net.ipv4.ip_forward=1
            sysctl -qw net.ipv4.ip_forward=1"
        ));
        self.serve("8080");
    }

    /// Starts an HTTP server on this port of the peer.
    #[track_caller]
    pub(crate) fn serve(&self, port: &str) {
        self.spawn("ip", &["netns", "exec", "d", "/run/lab/fixture", "httpd", "--port", port]);
        eventually(20, "the peer listens", || {
            (!self.sh(&format!("ip netns exec d ss -Hltn sport = :{port}")).is_empty()).then_some(())
        });
    }

    /// Makes the router silently drop packets larger than `mtu` bytes in the direction `to` (`10.7.3.0/24` is the peer,
    /// `10.7.2.0/24` this host).
    #[track_caller]
    pub(crate) fn narrow(&self, to: &str, mtu: u32) {
        let device = if to.starts_with("10.7.3") { "r1" } else { "r0" };
        self.sh(&format!(
            "ip -n r route replace {to} dev {device} mtu lock {mtu}
            ip netns exec r iptables -C OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP 2> /dev/null ||
            ip netns exec r iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP"
        ));
    }

    /// Whether a request with `bytes` bytes of headers from the container gets its response within three seconds.
    pub(crate) fn gets_through(&self, container: &str, path: &str, bytes: u32) -> bool {
        let pid = self.inspect(container, "{{.State.Pid}}");
        let script = format!(
            "exec 3<>/dev/tcp/{PEER}/8080; printf 'GET {path} HTTP/1.1\\r\\nHost: x\\r\\nX: %0{bytes}d\\r\\n\\r\\n' 0 >&3; timeout 3 cat <&3 | wc -c"
        );
        let answer =
            self.sh(&format!("nsenter --target {pid} --net timeout 4 bash -c \"{}\" || true", script.replace('"', "\\\"")));
        // the head alone is not a response
        let least = if path == "/big" { 8000 } else { 60 };
        answer.trim().parse::<u32>().is_ok_and(|n| n > least)
    }

    /// All rules of every backend, without counters, and the chains of nftables.
    pub(crate) fn ruleset(&self) -> String {
        let listed =
            "iptables-nft-save; ! grep -q . /proc/net/ip_tables_names || iptables-legacy-save; nft --stateless list ruleset";
        let listed = self.sh(listed);
        // `:INPUT ACCEPT [12:3456]`
        listed.lines().filter(|l| !l.starts_with('#')).map(|l| l.split(" [").next().unwrap_or(l)).collect::<Vec<_>>().join("\n")
    }
}
