//! Name servers that are down, slow, wrong or on another host, on a host and in its containers.

use crate::lab::{Host, Machine, Rootfs, Run, eventually};

/// A host with its own /etc, without an engine.
fn host() -> Option<Host> {
    Host::with_names(Host::without_engine)
}

/// A host with its own /etc, an engine, a network `app` and the image `svc:1`.
fn host_with_containers() -> Option<Host> {
    let host = Host::with_names(Host::start)?;
    host.image("svc:1", Rootfs::Scratch, &[]);
    host.docker(&["network", "create", "app"]);
    Some(host)
}

/// An idle container with these options.
fn idle(host: &Host, name: &str, options: &[&str]) {
    host.run(name, &[options, &["svc:1", "/bin/fixture", "wait-term"]].concat());
}

const A: &str = "10.53.0.1";
const B: &str = "10.53.0.2";
const BOTH: &str = "nameserver 10.53.0.1\nnameserver 10.53.0.2\n";
const DB: &str = "--host-record=db.corp,10.1.0.5";
const NAMES: &str = "[runbooks.dns]\nnames = [\"db.corp\"]\ntimeout_ms = 500\n";
const RESOLVE: &str = "dns.resolve host";
const STUB: &str = "dns.stub host";

/// Run of an unprivileged user without access to the configuration of the test.
fn unprivileged(host: &Host) -> Run {
    host.sh(&format!("printf '{}' > /mnt/nobody.toml", NAMES.replace('\n', "\\n")));
    let prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut command = host.opsctl_command(&prefix, &["diagnose", "dns", "--format", "json"]);
    host.read(command.env("OPSCTL_CONFIG", "/mnt/nobody.toml").env("HOME", "/nonexistent"))
}

#[test]
fn responding_servers_are_ok_also_without_privileges() {
    let Some(host) = host() else { return };
    host.dnsmasq(A, &[DB]);
    host.dnsmasq(B, &[DB]);
    host.resolv_conf(BOTH);
    host.configure(NAMES);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[]);
    assert_eq!(run.findings().count(), 0, "{}", run.stdout);
    for check in ["dns.resolvers", "dns.stub"] {
        assert_eq!(run.check(check, "host").verdict, "ok", "{}", run.stdout);
    }
    let run = unprivileged(&host);
    assert_eq!(run.check("dns.resolvers", "host").verdict, "ok", "{}", run.stdout);
    // a server for internal names rejects queries for the root
    host.configure("");
    host.run_runbooks(&["dns"]).roots(&[]);
    // libc resolution is tested too
    host.configure(NAMES);
    host.sh("sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf");
    let run = host.run_runbooks(&["dns"]);
    let nsswitch = "dns.nsswitch host";
    run.roots(&[nsswitch]).exits(2).mentions(nsswitch, &["`hosts: files`", "lists neither dns nor resolve"]);
    host.sh("sed -i 's/^hosts:.*/hosts: files [NOTFOUND=return] dns/' /etc/nsswitch.conf");
    host.run_runbooks(&["dns"]).roots(&[nsswitch]).mentions(nsswitch, &["ends the search before dns"]);
    // the default of avahi, and a machine without the file
    host.sh("sed -i 's/^hosts:.*/hosts: files mdns4_minimal [NOTFOUND=return] dns/' /etc/nsswitch.conf");
    host.run_runbooks(&["dns"]).roots(&[]);
    host.sh("rm /etc/nsswitch.conf");
    host.run_runbooks(&["dns"]).roots(&[]);
}

#[test]
fn first_server_down_is_distinguished_from_both_down() {
    let Some(host) = host() else { return };
    host.dnsmasq(B, &[DB]);
    host.resolv_conf(BOTH);
    host.configure(NAMES);
    // connection refused: no delay
    host.address_without_listener(A);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[RESOLVE]).exits(1);
    run.mentions(RESOLVE, &["the first name server, 10.53.0.1", "connection refused", "every lookup also queries 10.53.0.2"]);
    // no response: every lookup is delayed
    host.silent(A);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[RESOLVE]).exits(1).must_not(&["dns.latency"]);
    run.mentions(
        RESOLVE,
        &["the first name server, 10.53.0.1, does not respond (no answer in 0.5 s)", "waits 5 s for it before 10.53.0.2"],
    );
    // as the second server it has little effect, and the message states this
    host.resolv_conf("nameserver 10.53.0.2\nnameserver 10.53.0.1\n");
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[RESOLVE]).exits(1).mentions(RESOLVE, &["1 of 2 name servers", "relevant if the servers listed before fail"]);
    // both servers
    host.silent(B);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[RESOLVE]).exits(2);
    run.mentions(RESOLVE, &["none of the 2 name servers resolves names", "10.53.0.1 (no answer in 0.5 s)", "10.53.0.2"]);
}

#[test]
fn servers_that_fail_differ_or_are_slow_are_reported() {
    let Some(host) = host() else { return };
    host.dnsmasq(A, &[DB]);
    host.dnsmasq(B, &[]);
    host.resolv_conf(BOTH);
    host.configure(NAMES);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[RESOLVE]).mentions(RESOLVE, &["db.corp is known to 10.53.0.1 and unknown to 10.53.0.2"]);
    // only SERVFAIL, also for a name of the configuration
    host.same_for_all("10.53.0.3", &["--code", "2"]);
    host.resolv_conf("nameserver 10.53.0.3\n");
    host.run_runbooks(&["dns"]).roots(&[RESOLVE]).exits(2).mentions(RESOLVE, &["only fails: SERVFAIL"]);
    host.configure("");
    host.run_runbooks(&["dns"]).roots(&[RESOLVE]).exits(1).mentions(RESOLVE, &["only fails: SERVFAIL"]);
    // slow responses
    host.same_for_all("10.53.0.4", &["--slow", "700"]);
    host.resolv_conf("nameserver 10.53.0.4\n");
    host.run_runbooks(&["dns"])
        .roots(&["dns.latency host"])
        .exits(1)
        .mentions("dns.latency host", &["10.53.0.4 takes 7", "limit 500 ms"]);
    // missing TCP is only a note
    host.same_for_all("10.53.0.5", &[]);
    host.resolv_conf("nameserver 10.53.0.5\n");
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[]).mentions(RESOLVE, &["over UDP but not over TCP: 10.53.0.5 (connection refused)"]);
}

#[test]
fn resolv_conf_without_a_name_server() {
    let Some(host) = host() else { return };
    host.configure("[runbooks.dns]\ntimeout_ms = 500\n");
    let at = |case: &str, words: &[&str]| {
        let run = host.run_runbooks(&["dns"]);
        run.roots(&[STUB]).exits(2).mentions(STUB, words).explains(STUB, RESOLVE);
        assert!(run.offer("dns.restart-resolved", "host").is_none(), "{case}");
    };
    at("missing", &["/etc/resolv.conf does not exist", "127.0.0.1"]);
    host.sh("ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf");
    at("dangling", &["links to ../run/systemd/resolve/stub-resolv.conf, which does not exist"]);
    host.resolv_conf("");
    at("empty", &["/etc/resolv.conf is empty"]);
    host.resolv_conf("nameserver 127.0.0.53\noptions ndots:5\n");
    at(
        "no listener",
        &["lists 127.0.0.53, which does not respond", "systemd-resolved, the owner of the address, is not installed"],
    );
    // a listener on the default address is sufficient, also with an empty resolv.conf
    host.same_for_all("127.0.0.53", &[]);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[]).mentions(STUB, &["ndots:5"]);
    host.same_for_all("127.0.0.1", &[]);
    host.resolv_conf("");
    host.run_runbooks(&["dns"]).roots(&[]).mentions(STUB, &["is empty; names still resolve"]);
    // an unreadable file leaves the servers unknown, with the reason
    host.resolv_conf("nameserver 127.0.0.53\n");
    host.sh("chmod 600 /etc/resolv.conf");
    host.run_runbooks(&["dns"]).roots(&[STUB]).exits(1).mentions(STUB, &["mode 0600"]);
    let run = unprivileged(&host);
    let row = run.check("dns.resolvers", "host");
    assert_eq!(row.verdict, "unknown", "{}", run.stdout);
    assert!(row.reason.as_deref().is_some_and(|r| r.contains("needs root")), "{row:?}");
}

#[test]
fn wildcard_in_a_search_domain_is_reported() {
    let Some(host) = host() else { return };
    host.dnsmasq(A, &["--address=/shop.corp/203.0.113.5"]);
    host.resolv_conf("nameserver 10.53.0.1\nsearch shop.corp corp\n");
    let run = host.run_runbooks(&["dns"]);
    run.roots(&["dns.search-leak host"]);
    run.mentions("dns.search-leak host", &["every name has an address in the search domain shop.corp (203.0.113.5)"]);
}

#[test]
fn containers_keep_the_servers_of_their_start() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq(A, &[DB]);
    host.resolv_conf("nameserver 10.53.0.1\n");
    host.configure(NAMES);
    idle(&host, "web", &["--network", "app"]);
    idle(&host, "api", &["--network", "app"]);
    idle(&host, "old", &[]);
    host.docker(&["network", "create", "--internal", "inner"]);
    idle(&host, "sealed", &["--network", "inner"]);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[]).must_not(&["dns."]);
    for name in ["web", "api", "old", "sealed"] {
        assert_eq!(run.check("dns.container", &format!("container:{name}")).verdict, "ok", "{}", run.stdout);
    }
    // the host has a new name server and the old one is down: running containers still query it
    host.no_dnsmasq();
    host.dnsmasq(B, &[DB]);
    host.resolv_conf("nameserver 10.53.0.2\n");
    let run = host.run_runbooks(&["dns"]);
    run.roots(&["dns.container container:api", "dns.container container:old"]).exits(2);
    run.mentions("dns.container container:api", &["no external name resolves in api and another container like it"]);
    run.mentions("dns.container container:old", &["it still uses 10.53.0.1", "this host now lists 10.53.0.2"]);
    // old engines do not report their upstream servers
    run.mentions("dns.container container:api", &["now lists 10.53.0.2"]);
    host.docker(&["restart", "-t", "0", "web", "api", "old"]);
    host.run_runbooks(&["dns"]).roots(&[]);
    // the common server is down: one cause
    host.no_dnsmasq();
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[RESOLVE]).explains(RESOLVE, "dns.container container:api").explains(RESOLVE, "dns.container container:old");
}

#[test]
fn broken_embedded_dns_of_one_container() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq(A, &[DB]);
    host.resolv_conf("nameserver 10.53.0.1\n");
    idle(&host, "api", &["--network", "app"]);
    idle(&host, "web", &["--network", "app"]);
    let pid = host.inspect("web", "{{.State.Pid}}");
    host.sh(&format!(
        "for t in iptables iptables-legacy; do nsenter -t {pid} -n $t -t nat -F || true; done; nsenter -t {pid} -n nft flush ruleset"
    ));
    let run = host.run_runbooks(&["dns"]);
    // web queries the same server as api, and only its own rules are broken
    run.roots(&["dns.container container:web"]).exits(2);
    run.mentions("dns.container container:web", &["127.0.0.11, does not respond in web", "its NAT rules are missing"]);
    let run = unprivileged(&host);
    let rows: Vec<_> = run.report().checks.iter().filter(|c| c.check == "dns.container").collect();
    assert!(!rows.is_empty() && rows.iter().all(|c| c.verdict == "unknown"), "{}", run.stdout);
}

/// The layer between a container and its name servers is named, and `dns.container` is not the root if another finding has it.
#[test]
fn container_without_egress_is_reported_by_its_layer() {
    let Some(host) = host_with_containers() else { return };
    // another machine behind the uplink of this host
    host.sh("ip netns add lan && ip link add up0 type veth peer name up1 netns lan && ip addr add 10.54.0.1/24 dev up0 && ip link set up0 up
        ip -n lan addr add 10.54.0.2/24 dev up1 && ip -n lan link set up1 up && ip -n lan link set lo up");
    host.spawn("ip", &["netns", "exec", "lan", "/run/lab/fixture", "dns", "--bind", "10.54.0.2"]);
    host.resolv_conf("nameserver 10.54.0.2\n");
    host.configure("[runbooks.dns]\ntimeout_ms = 500\n");
    idle(&host, "web", &["--network", "app"]);
    let (web, no_name) = ("dns.container container:web", "no external name resolves in web");
    let is_quiet = |run: &Run| !run.findings().any(|f| f.code == "dns.container");
    eventually(30, "the container resolves names", || is_quiet(&host.run_runbooks(&["dns"])).then_some(()));
    // a rule for incoming packets that drops the replies too
    host.sh("iptables -I DOCKER-USER -i up0 ! -s 203.0.113.9 -j DROP");
    let run = host.run_runbooks(&["dns", "network"]);
    run.mentions(web, &[no_name, "-A DOCKER-USER ! -s 203.0.113.9/32 -i up0 -j DROP", "drops its replies"]);
    host.sh("iptables -D DOCKER-USER -i up0 ! -s 203.0.113.9 -j DROP");
    // the bridge lost its address
    host.sh("b=br-$(docker network inspect app -f '{{.Id}}' | cut -c1-12); ip addr show dev $b | grep -o 'inet [0-9./]*' > /mnt/address; ip addr flush dev $b");
    let run = host.run_runbooks(&["dns", "network"]);
    run.mentions(web, &[no_name, "is no address of the bridge", "a restart of the container does not help"]);
    assert!(run.findings().any(|f| f.code == "dns.container" && f.explained_by.is_some()), "{}", run.stdout);
    host.sh("b=br-$(docker network inspect app -f '{{.Id}}' | cut -c1-12); ip addr add $(cut -d' ' -f2 /mnt/address) dev $b");
    // the default route in the container
    let pid = host.inspect("web", "{{.State.Pid}}");
    host.sh(&format!("nsenter -t {pid} -n ip route del default"));
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[web]).exits(1).mentions(web, &[no_name, "its default route is missing", "docker restart web"]);
}

#[test]
fn loopback_server_of_the_host_is_not_the_one_of_the_container() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq("127.0.0.1", &[DB]);
    host.resolv_conf("nameserver 127.0.0.1\n");
    host.configure(NAMES);
    idle(&host, "old", &[]);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&["dns.container container:old"]).exits(2);
    run.mentions(
        "dns.container container:old",
        &["it uses 8.8.8.8", "because this host lists only loopback addresses (127.0.0.1)"],
    );
    // configured for the container, and wrong
    host.docker(&["rm", "-f", "old"]);
    host.silent(B);
    idle(&host, "own", &["--dns", B]);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&["dns.container container:own"]);
    run.mentions("dns.container container:own", &["its name servers are configured (--dns 10.53.0.2)"]);
}

#[test]
fn name_of_a_stopped_container_resolves_elsewhere() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq(A, &["--host-record=redis.shop.corp,203.0.113.7"]);
    host.resolv_conf("nameserver 10.53.0.1\nsearch shop.corp\n");
    idle(&host, "web", &["--network", "app"]);
    idle(&host, "redis", &["--network", "app"]);
    host.run_runbooks(&["dns"]).roots(&[]);
    // no container has this name any more
    host.docker(&["stop", "-t", "0", "redis"]);
    let leak = "dns.search-leak container:web";
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[leak]);
    run.mentions(leak, &["redis, which is not running, resolves as redis.shop.corp to 203.0.113.7, which is no container"]);
    // running, but its name is looked up in the search domain first
    host.docker(&["rm", "-f", "web"]);
    host.docker(&["start", "redis"]);
    idle(&host, "web", &["--network", "app", "--dns-option", "ndots:5"]);
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[leak]).mentions(leak, &["the name of container redis resolves as redis.shop.corp"]);
}

#[test]
fn inactive_systemd_resolved_is_restarted() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh("printf 'nameserver 127.0.0.53\\n' > /etc/resolv.conf");
    machine.unit(
        "systemd-resolved.service",
        "[Service]\nExecStart=/usr/local/bin/fixture dns --bind 127.0.0.53\n[Install]\nWantedBy=multi-user.target",
    );
    let run = machine.diagnose(&["dns"]);
    run.roots(&[STUB]).mentions(STUB, &["systemd-resolved.service is inactive"]).explains(STUB, RESOLVE);
    machine.fix("dns.restart-resolved", "host", &[]).exits(0);
    assert!(machine.succeeds("systemctl is-active systemd-resolved"));
    machine.diagnose(&["dns"]).roots(&[]);
    // masked: an administrator disabled it
    machine
        .sh("systemctl stop systemd-resolved; rm /etc/systemd/system/systemd-resolved.service; systemctl mask systemd-resolved");
    let run = machine.diagnose(&["dns"]);
    run.roots(&[STUB]).mentions(STUB, &["is masked"]);
    assert!(run.offer("dns.restart-resolved", "host").is_none(), "{}", run.stdout);
}
