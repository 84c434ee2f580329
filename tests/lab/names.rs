//! Name servers of a lab host, and the resolv.conf that names them.

use super::host::Host;
use super::{eventually, installed};

/// Time limit for the start of a name server on a busy machine, in seconds.
const UP: u64 = 60;

impl Host {
    /// Gives a host its own /etc, so that any resolv.conf can be set; `None` if a name server for the lab is missing.
    pub(crate) fn with_names(host: impl FnOnce() -> Option<Self>) -> Option<Self> {
        if !installed(&["dnsmasq", "nft", "getent"]) {
            return None;
        }
        let host = host()?;
        host.sh("cp -a /etc /mnt/etc && mount --bind /mnt/etc /etc && rm -f /etc/resolv.conf
            nft add table inet lab && nft 'add chain inet lab in { type filter hook input priority 0; }'");
        Some(host)
    }

    /// Writes resolv.conf.
    #[track_caller]
    pub(crate) fn resolv_conf(&self, text: &str) {
        std::fs::write(self.path("resolv.conf"), text).unwrap_or_else(|e| panic!("resolv.conf: {e}"));
        self.sh(&format!("rm -f /etc/resolv.conf; cp {} /etc/resolv.conf", self.path("resolv.conf").display()));
    }

    /// An address of this host without a listener.
    #[track_caller]
    pub(crate) fn address_without_listener(&self, address: &str) {
        self.sh(&format!("ip -br addr show dev lo | grep -qF ' {address}/' || ip addr add {address}/32 dev lo"));
    }

    /// An address of this host that drops every query.
    #[track_caller]
    pub(crate) fn silent(&self, address: &str) {
        self.address_without_listener(address);
        self.sh(&format!("nft add rule inet lab in ip daddr {address} meta l4proto '{{ udp, tcp }}' th dport 53 drop"));
    }

    /// Starts dnsmasq at this address with these options; it knows `db.corp` and is authoritative for `corp`.
    #[track_caller]
    pub(crate) fn dnsmasq(&self, address: &str, options: &[&str]) {
        self.address_without_listener(address);
        let own = format!("--listen-address={address}");
        let all =
            ["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--keep-in-foreground", "--bind-interfaces", "--user=root"];
        self.spawn("dnsmasq", &[&all[..], &["--pid-file=", "--local=/corp/", &own], options].concat());
        self.until_bound(address);
    }

    /// Starts a healthy name server for the host and the containers started from now on.
    #[track_caller]
    pub(crate) fn own_names(&self) {
        self.dnsmasq("10.53.0.1", &["--host-record=db.corp,10.1.0.5"]);
        self.resolv_conf("nameserver 10.53.0.1\n");
    }

    /// Terminates every dnsmasq of this host and waits for its exit.
    #[track_caller]
    pub(crate) fn no_dnsmasq(&self) {
        self.sh("pkill -x dnsmasq");
        eventually(UP, "dnsmasq has ended", || {
            (!self.command("pgrep").args(["-x", "dnsmasq"]).status().ok()?.success()).then_some(())
        });
    }

    /// Starts a name server at this address that gives the same answer for every name: `fixture dns`.
    #[track_caller]
    pub(crate) fn same_for_all(&self, address: &str, options: &[&str]) {
        self.address_without_listener(address);
        self.spawn("/run/lab/fixture", &[&["dns", "--bind", address], options].concat());
        self.until_bound(address);
    }

    /// Waits until UDP port 53 is open at an address.
    #[track_caller]
    fn until_bound(&self, address: &str) {
        let open = format!("ss -Hlun | grep -qF ' {address}:53 '");
        eventually(UP, "the name server listens", || {
            self.command("bash").args(["-c", &open]).status().ok()?.success().then_some(())
        });
    }
}
