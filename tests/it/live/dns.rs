//! Name servers that are dead, slow, wrong or elsewhere, on a host and in its containers.

use crate::lab::{Host, Machine, Rootfs, Run};

/// Its own /etc, no engine.
fn host() -> Option<Host> {
    Host::with_names(Host::without_engine)
}

/// Its own /etc, an engine, a network `app` and the image `svc:1`.
fn host_with_containers() -> Option<Host> {
    let host = Host::with_names(Host::start)?;
    host.image("svc:1", Rootfs::Scratch, &[]);
    host.docker(&["network", "create", "app"]);
    Some(host)
}

/// A container that does nothing, with these options.
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

/// What a user without privileges is told, who cannot read the configuration of the test either.
fn as_nobody(host: &Host) -> Run {
    host.sh(&format!("printf '{}' > /mnt/nobody.toml", NAMES.replace('\n', "\\n")));
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut command = host.opsctl_command(&nobody, &["diagnose", "dns", "--format", "json"]);
    host.read(command.env("OPSCTL_CONFIG", "/mnt/nobody.toml").env("HOME", "/nonexistent"))
}

#[test]
fn servers_that_answer_are_ok_also_without_privileges() {
    let Some(host) = host() else { return };
    host.dnsmasq(A, &[DB]);
    host.dnsmasq(B, &[DB]);
    host.resolv_conf(BOTH);
    host.configure(NAMES);
    let run = host.ask(&["dns"]);
    run.roots(&[]);
    assert_eq!(run.findings().count(), 0, "{}", run.stdout);
    for check in ["dns.resolvers", "dns.stub"] {
        assert_eq!(run.check(check, "host").verdict, "ok", "{}", run.stdout);
    }
    let run = as_nobody(&host);
    assert_eq!(run.check("dns.resolvers", "host").verdict, "ok", "{}", run.stdout);
    // a server for names inside refuses the root
    host.configure("");
    host.ask(&["dns"]).roots(&[]);
    // libc is asked too
    host.configure(NAMES);
    host.sh("sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf");
    let run = host.ask(&["dns"]);
    run.roots(&[RESOLVE]).says(RESOLVE, &["this machine's libc does not find it", "`hosts: files`", "db.corp"]);
}

#[test]
fn a_dead_first_server_is_told_from_two_dead_ones() {
    let Some(host) = host() else { return };
    host.dnsmasq(B, &[DB]);
    host.resolv_conf(BOTH);
    host.configure(NAMES);
    // nobody listens: no wait
    host.address_of_nobody(A);
    let run = host.ask(&["dns"]);
    run.roots(&[RESOLVE]).exits(1);
    run.says(RESOLVE, &["the first name server, 10.53.0.1", "nobody listens there", "every lookup has to ask 10.53.0.2 too"]);
    // nothing comes back: every lookup waits
    host.silent(A);
    let run = host.ask(&["dns"]);
    run.roots(&[RESOLVE]).exits(1).must_not(&["dns.latency"]);
    run.says(
        RESOLVE,
        &["the first name server, 10.53.0.1, does not answer (no answer in 0.5 s)", "waits 5 s for it before 10.53.0.2"],
    );
    // as the second it hardly matters, and this is said
    host.resolv_conf("nameserver 10.53.0.2\nnameserver 10.53.0.1\n");
    let run = host.ask(&["dns"]);
    run.roots(&[RESOLVE]).exits(1).says(RESOLVE, &["1 of 2 name servers", "it matters when those before it fail"]);
    // both
    host.silent(B);
    let run = host.ask(&["dns"]);
    run.roots(&[RESOLVE]).exits(2);
    run.says(RESOLVE, &["none of the 2 name servers gives an answer", "10.53.0.1 (no answer in 0.5 s)", "10.53.0.2"]);
}

#[test]
fn servers_that_fail_differ_or_are_slow() {
    let Some(host) = host() else { return };
    host.dnsmasq(A, &[DB]);
    host.dnsmasq(B, &[]);
    host.resolv_conf(BOTH);
    host.configure(NAMES);
    let run = host.ask(&["dns"]);
    run.roots(&[RESOLVE]).says(RESOLVE, &["db.corp is known to 10.53.0.1 and unknown to 10.53.0.2"]);
    // only SERVFAIL, for a name of the configuration too
    host.same_for_all("10.53.0.3", &["--code", "2"]);
    host.resolv_conf("nameserver 10.53.0.3\n");
    host.ask(&["dns"]).roots(&[RESOLVE]).exits(2).says(RESOLVE, &["only fails: SERVFAIL"]);
    host.configure("");
    host.ask(&["dns"]).roots(&[RESOLVE]).exits(1).says(RESOLVE, &["only fails: SERVFAIL"]);
    // slow
    host.same_for_all("10.53.0.4", &["--slow", "700"]);
    host.resolv_conf("nameserver 10.53.0.4\n");
    host.ask(&["dns"]).roots(&["dns.latency host"]).exits(1).says("dns.latency host", &["10.53.0.4 takes 7", "limit 500 ms"]);
    // no TCP is worth a remark
    host.same_for_all("10.53.0.5", &[]);
    host.resolv_conf("nameserver 10.53.0.5\n");
    let run = host.ask(&["dns"]);
    run.roots(&[]).says(RESOLVE, &["over UDP and none over TCP: 10.53.0.5 (nobody listens there)"]);
}

#[test]
fn a_resolv_conf_that_names_nobody() {
    let Some(host) = host() else { return };
    host.configure("[runbooks.dns]\ntimeout_ms = 500\n");
    let at = |what: &str, words: &[&str]| {
        let run = host.ask(&["dns"]);
        run.roots(&[STUB]).exits(2).says(STUB, words).explains(STUB, RESOLVE);
        assert!(run.offer("dns.restart-resolved", "host").is_none(), "{what}");
    };
    at("missing", &["there is no /etc/resolv.conf", "127.0.0.1"]);
    host.sh("ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf");
    at("dangling", &["leads to ../run/systemd/resolve/stub-resolv.conf, which is not there"]);
    host.resolv_conf("");
    at("empty", &["/etc/resolv.conf is empty"]);
    host.resolv_conf("nameserver 127.0.0.53\noptions ndots:5\n");
    at(
        "no listener",
        &[
            "names 127.0.0.53, this machine itself, and nobody answers there",
            "systemd-resolved, whose address it is, is not there",
        ],
    );
    // whoever listens there makes it well, also for a file that names nobody
    host.same_for_all("127.0.0.53", &[]);
    let run = host.ask(&["dns"]);
    run.roots(&[]).says(STUB, &["ndots:5"]);
    host.same_for_all("127.0.0.1", &[]);
    host.resolv_conf("");
    host.ask(&["dns"]).roots(&[]).says(STUB, &["is empty; names are found all the same"]);
    // who may not read it cannot judge the servers, and sees why
    host.resolv_conf("nameserver 127.0.0.53\n");
    host.sh("chmod 600 /etc/resolv.conf");
    host.ask(&["dns"]).roots(&[STUB]).exits(1).says(STUB, &["mode 0600"]);
    let run = as_nobody(&host);
    let row = run.check("dns.resolvers", "host");
    assert_eq!(row.verdict, "unknown", "{}", run.stdout);
    assert!(row.reason.as_deref().is_some_and(|r| r.contains("needs root")), "{row:?}");
}

#[test]
fn a_wildcard_in_a_search_domain() {
    let Some(host) = host() else { return };
    host.dnsmasq(A, &["--address=/shop.corp/203.0.113.5"]);
    host.resolv_conf("nameserver 10.53.0.1\nsearch shop.corp corp\n");
    let run = host.ask(&["dns"]);
    run.roots(&["dns.search-leak host"]);
    run.says("dns.search-leak host", &["every name has an address in the search domain shop.corp (203.0.113.5)"]);
}

#[test]
fn containers_keep_the_servers_they_were_started_with() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq(A, &[DB]);
    host.resolv_conf("nameserver 10.53.0.1\n");
    host.configure(NAMES);
    idle(&host, "web", &["--network", "app"]);
    idle(&host, "api", &["--network", "app"]);
    idle(&host, "old", &[]);
    host.docker(&["network", "create", "--internal", "inner"]);
    idle(&host, "sealed", &["--network", "inner"]);
    let run = host.ask(&["dns"]);
    run.roots(&[]).must_not(&["dns."]);
    for name in ["web", "api", "old", "sealed"] {
        assert_eq!(run.check("dns.container", &format!("container:{name}")).verdict, "ok", "{}", run.stdout);
    }
    // the host has moved on and the old server is gone: what runs asks it still
    host.no_dnsmasq();
    host.dnsmasq(B, &[DB]);
    host.resolv_conf("nameserver 10.53.0.2\n");
    let run = host.ask(&["dns"]);
    run.roots(&["dns.container container:api", "dns.container container:old"]).exits(2);
    run.says("dns.container container:api", &["no name outside is found from api and another container like it"]);
    run.says("dns.container container:old", &["it still asks 10.53.0.1", "this host now names 10.53.0.2"]);
    // old engines do not say whom they ask
    run.says("dns.container container:api", &["now names 10.53.0.2"]);
    host.docker(&["restart", "-t", "0", "web", "api", "old"]);
    host.ask(&["dns"]).roots(&[]);
    // now everybody's server is gone: one cause
    host.no_dnsmasq();
    let run = host.ask(&["dns"]);
    run.roots(&[RESOLVE]).explains(RESOLVE, "dns.container container:api").explains(RESOLVE, "dns.container container:old");
}

#[test]
fn the_engine_s_own_server_is_broken_in_one_container() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq(A, &[DB]);
    host.resolv_conf("nameserver 10.53.0.1\n");
    idle(&host, "api", &["--network", "app"]);
    idle(&host, "web", &["--network", "app"]);
    let pid = host.inspect("web", "{{.State.Pid}}");
    host.sh(&format!(
        "for t in iptables iptables-legacy; do nsenter -t {pid} -n $t -t nat -F || true; done; nsenter -t {pid} -n nft flush ruleset"
    ));
    let run = host.ask(&["dns"]);
    // web asks as api does, and what is broken is its own
    run.roots(&["dns.container container:web"]).exits(2);
    run.says("dns.container container:web", &["127.0.0.11, does not answer in web", "the rules that lead to it are gone"]);
    let run = as_nobody(&host);
    let rows: Vec<_> = run.report().checks.iter().filter(|c| c.check == "dns.container").collect();
    assert!(!rows.is_empty() && rows.iter().all(|c| c.verdict == "unknown"), "{}", run.stdout);
}

#[test]
fn a_loopback_server_of_the_host_is_not_the_container_s() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq("127.0.0.1", &[DB]);
    host.resolv_conf("nameserver 127.0.0.1\n");
    host.configure(NAMES);
    idle(&host, "old", &[]);
    let run = host.ask(&["dns"]);
    run.roots(&["dns.container container:old"]).exits(2);
    run.says("dns.container container:old", &["it asks 8.8.8.8", "because this host names only itself (127.0.0.1)"]);
    // chosen for it, and wrong
    host.docker(&["rm", "-f", "old"]);
    host.silent(B);
    idle(&host, "own", &["--dns", B]);
    let run = host.ask(&["dns"]);
    run.roots(&["dns.container container:own"]);
    run.says("dns.container container:own", &["its name servers were chosen for it (--dns 10.53.0.2)"]);
}

#[test]
fn a_stopped_neighbour_is_found_elsewhere() {
    let Some(host) = host_with_containers() else { return };
    host.dnsmasq(A, &["--host-record=redis.shop.corp,203.0.113.7"]);
    host.resolv_conf("nameserver 10.53.0.1\nsearch shop.corp\n");
    idle(&host, "web", &["--network", "app"]);
    idle(&host, "redis", &["--network", "app"]);
    host.ask(&["dns"]).roots(&[]);
    // its name is nobody's now
    host.docker(&["stop", "-t", "0", "redis"]);
    let leak = "dns.search-leak container:web";
    let run = host.ask(&["dns"]);
    run.roots(&[leak]);
    run.says(leak, &["redis, which does not run, is found as redis.shop.corp at 203.0.113.7, which is no container"]);
    // it runs, and is looked for outside first
    host.docker(&["rm", "-f", "web"]);
    host.docker(&["start", "redis"]);
    idle(&host, "web", &["--network", "app", "--dns-option", "ndots:5"]);
    let run = host.ask(&["dns"]);
    run.roots(&[leak]).says(leak, &["the container redis is found as redis.shop.corp"]);
}

#[test]
fn a_dead_stub_is_restarted() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh("printf 'nameserver 127.0.0.53\\n' > /etc/resolv.conf");
    machine.unit(
        "systemd-resolved.service",
        "[Service]\nExecStart=/usr/local/bin/fixture dns --bind 127.0.0.53\n[Install]\nWantedBy=multi-user.target",
    );
    let run = machine.diagnose(&["dns"]);
    run.roots(&[STUB]).says(STUB, &["systemd-resolved.service, which should, is inactive"]).explains(STUB, RESOLVE);
    machine.fix("dns.restart-resolved", "host", &[]).exits(0);
    assert!(machine.says("systemctl is-active systemd-resolved"));
    machine.diagnose(&["dns"]).roots(&[]);
    // masked: somebody decided against it
    machine
        .sh("systemctl stop systemd-resolved; rm /etc/systemd/system/systemd-resolved.service; systemctl mask systemd-resolved");
    let run = machine.diagnose(&["dns"]);
    run.roots(&[STUB]).says(STUB, &["is masked"]);
    assert!(run.offer("dns.restart-resolved", "host").is_none(), "{}", run.stdout);
}
