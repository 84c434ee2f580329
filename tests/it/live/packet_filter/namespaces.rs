//! Three network namespaces in a row: a client, a router with the tested rules, and a server behind a bridge of the router.
#![allow(clippy::format_collect, reason = "short texts that read like the commands")]

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use opsctl_core::probe::network::firewall::ruleset::{HostInterface, HostRoute, HostView};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::lab::eventually;

/// Addresses of the client; the router's address in its network is 10.1.0.1.
pub(super) const CLIENT: &[Ipv4Addr] = &[Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3), Ipv4Addr::new(10, 1, 0, 4)];
/// Addresses of the router.
pub(super) const ROUTER: &[Ipv4Addr] = &[Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1), Ipv4Addr::LOCALHOST];
/// Addresses of the server.
pub(super) const SERVER: &[Ipv4Addr] = &[Ipv4Addr::new(10, 2, 0, 2), Ipv4Addr::new(10, 2, 0, 3)];

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a process that holds it, and a thread inside.
pub(super) struct Namespace {
    holder: Child,
    jobs: Sender<Job>,
}

impl Namespace {
    fn new() -> Self {
        // `cat` ends with its input, also if this test is killed
        let mut unshare = Command::new("unshare");
        let holder = unshare.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let path = format!("/proc/{}/ns/net", holder.id());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        eventually(20, "the namespace exists", || std::fs::read_link(&path).ok().filter(|other| *other != own));
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || {
            let namespace = File::open(path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            for job in queue {
                job();
            }
        });
        Self { holder, jobs }
    }

    /// Runs a function inside.
    pub(super) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.jobs.send(Box::new(move || drop(done.send(work())))).unwrap();
        result.recv().unwrap()
    }

    /// Output of a program with this input; panics if it fails.
    pub(super) fn output(&self, argv: &[&str], input: String) -> String {
        self.try_output(argv, input).unwrap_or_else(|error| panic!("{argv:?}: {error}"))
    }

    /// As [`Namespace::output`], with the error message of a program that fails.
    pub(super) fn try_output(&self, argv: &[&str], input: String) -> Result<String, String> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        self.run(move || {
            let mut command = Command::new(&argv[0]);
            command.args(&argv[1..]).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// The three namespaces.
pub(super) struct Row {
    pub(super) client: Namespace,
    pub(super) router: Namespace,
    pub(super) server: Namespace,
}

impl Row {
    pub(super) fn new() -> Self {
        let row = Self { client: Namespace::new(), router: Namespace::new(), server: Namespace::new() };
        let (client, server) = (row.client.holder.id(), row.server.holder.id());
        let quiet = "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.all.accept_local=1 \
            net.ipv4.tcp_synack_retries=1 net.ipv6.conf.all.disable_ipv6=1; ip link set lo up";
        let script = format!(
            "{quiet}; sysctl -qw net.ipv4.ip_forward=1
            sysctl -qw net.bridge.bridge-nf-call-iptables=0 2> /dev/null || true
            ip link add ca type veth peer name c0 netns {client}; ip link add sb type veth peer name s0 netns {server}
            ip link add br0 type bridge; ip link set sb master br0
            ip addr add 10.1.0.1/24 dev ca; ip addr add 10.2.0.1/24 dev br0
            ip link set ca up; ip link set sb up; ip link set br0 up; ip route add default via 10.1.0.2"
        );
        let host = |device: &str, addresses: &[Ipv4Addr], gateway: Ipv4Addr| {
            let addresses: String = addresses.iter().map(|ip| format!("ip addr add {ip}/24 dev {device}\n")).collect();
            format!("{quiet}\n{addresses}ip link set {device} up\nip route add default via {gateway}")
        };
        row.router.output(&["sh", "-ec", &script], String::new());
        row.client.output(&["sh", "-ec", &host("c0", CLIENT, ROUTER[0])], String::new());
        row.server.output(&["sh", "-ec", &host("s0", SERVER, ROUTER[1])], String::new());
        row.add_neighbours();
        row
    }

    /// Permanent neighbours: no packet waits for an address.
    fn add_neighbours(&self) {
        let mac = |namespace: &Namespace, device: &str| {
            let text = namespace.output(&["ip", "-br", "link", "show", "dev", device], String::new());
            text.split_whitespace().nth(2).unwrap().to_owned()
        };
        let (ca, c0) = (mac(&self.router, "ca"), mac(&self.client, "c0"));
        let (br0, s0) = (mac(&self.router, "br0"), mac(&self.server, "s0"));
        let add = |addresses: &[Ipv4Addr], mac: &str, device: &str| -> String {
            addresses.iter().map(|ip| format!("ip neigh replace {ip} lladdr {mac} nud permanent dev {device}\n")).collect()
        };
        self.router.output(&["sh", "-ec", &(add(CLIENT, &c0, "ca") + &add(SERVER, &s0, "br0"))], String::new());
        self.client.output(&["sh", "-ec", &add(&ROUTER[..1], &ca, "c0")], String::new());
        self.server.output(&["sh", "-ec", &add(&ROUTER[1..2], &br0, "s0")], String::new());
    }
}

/// The router as the evaluation sees it.
pub(super) fn host() -> HostView {
    let interface = |name: &str, address: Ipv4Addr, length: u8| HostInterface {
        name: name.to_owned(),
        addresses: vec![(IpAddr::V4(address), length)],
        is_bridge: name == "br0",
    };
    let route = |to: [u8; 4], length: u8, interface: &str| HostRoute {
        to: (IpAddr::V4(to.into()), length),
        interface: interface.to_owned(),
        table: 254,
        metric: 0,
    };
    HostView {
        interfaces: vec![
            interface("lo", Ipv4Addr::LOCALHOST, 8),
            interface("ca", ROUTER[0], 24),
            interface("br0", ROUTER[1], 24),
        ],
        routes: vec![route([10, 1, 0, 0], 24, "ca"), route([10, 2, 0, 0], 24, "br0"), route([0, 0, 0, 0], 0, "ca")],
        forwards: true,
        ..HostView::default()
    }
}
