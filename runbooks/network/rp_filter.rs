//! Reverse path filtering on hosts with several default routes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, Kind, Object, Sample, Severity};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::network::routes::{RoutingCache, reverse_paths};
use opsctl_core::probe::network::{EXTERNAL_ADDRESS, counters};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use crate::shared::servers::READ_TIMEOUT;

const RP_FILTER: Code = Code {
    id: "network.rp-filter",
    severities: &[Severity::Info, Severity::Warn],
    when: "an interface with a default route has strict reverse path filtering (rp_filter = 1), its responses leave over another interface, and the kernel rejected packets for that reason since the last run (warn) or since boot (info)",
    hint: "set net.ipv4.conf.INTERFACE.rp_filter = 2 (loose), the larger value of it and of `all` applies; or route the responses of each address over its own interface (`ip rule add from ADDRESS table N`)",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.rp-filter",
    title: "Reverse path filtering accepts packets on every uplink",
    codes: &[RP_FILTER],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// The stored sample, and its maximum age in seconds.
const OBJECT: &str = "host";
const METRIC: &str = "rp-filtered";
const MAX_SAMPLE_AGE_S: i64 = 3600;

/// Interfaces with a default route, at most.
const MAX_UPLINKS: usize = 32;

/// Kinds of interfaces of a VPN.
const TUNNELS: &[&str] = &["wireguard", "tun", "ppp", "ipip", "gre", "gretap", "sit", "vti", "vti6", "xfrm", "ip6tnl", "dummy"];

pub(super) struct RpFilter;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    uplinks: Vec<Uplink>,
    /// `TcpExt.IPReversePathFilter` since boot.
    rejected: u64,
    /// The counter at an earlier run, and its age in seconds.
    before: Option<(f64, i64)>,
}

/// An interface with a default route, of any table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Uplink {
    name: String,
    address: Option<Ipv4Addr>,
    /// The larger one of the values of `all` and of the interface: 0 off, 1 strict, 2 loose (Documentation/networking/ip-sysctl).
    rp_filter: u8,
    /// The interface of packets from its address to other networks.
    reverse: Option<String>,
}

impl Check for RpFilter {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let routing = cx.shared.get::<RoutingCache>().get().await?;
        // a VPN that is the default route takes the responses on purpose
        let is_tunnel = |name: &str| routing.interface(name).is_none_or(|i| TUNNELS.contains(&i.kind.as_str()));
        let defaults = routing.routes.iter().filter(|r| r.to.1 == 0 && !is_tunnel(&r.interface));
        let mut names: Vec<String> = defaults.map(|r| r.interface.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(MAX_UPLINKS);
        if names.len() < 2 {
            return Err(ProbeError::Skip("fewer than two interfaces have a default route".to_owned()));
        }
        let address = |name: &String| {
            let all = routing.interface(name).map(|i| i.addresses.as_slice()).unwrap_or_default();
            all.iter().find_map(|(ip, _)| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
        };
        let mut uplinks: Vec<Uplink> = names
            .iter()
            .map(|name| Uplink { name: name.clone(), address: address(name), ..Uplink::default() })
            .filter(|uplink| uplink.address.is_some())
            .collect();
        let own = uplinks.iter().filter_map(|u| u.address.map(IpAddr::V4)).collect();
        let reverse = reverse_paths(EXTERNAL_ADDRESS, own).await?;
        let names: Vec<String> = uplinks.iter().map(|u| u.name.clone()).collect();
        let read = move |io: &Io| {
            let of = |name: &str| -> u8 {
                let text = io.read_lossy(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or_default();
                text.trim().parse().unwrap_or(0)
            };
            let all = of("all");
            names.iter().map(|name| of(name).max(all)).collect::<Vec<u8>>()
        };
        let filters = blocking::run("reverse path filters", "/proc/sys/net/ipv4/conf", READ_TIMEOUT, read).await?;
        for ((uplink, reverse), filter) in uplinks.iter_mut().zip(reverse).zip(filters) {
            (uplink.reverse, uplink.rp_filter) = (reverse.map(|route| route.interface).filter(|name| !is_tunnel(name)), filter);
        }
        let rejected = counters().await?.get("TcpExt.IPReversePathFilter").copied().unwrap_or(0);
        let before = cx.history.oldest(OBJECT, METRIC, MAX_SAMPLE_AGE_S);
        let before = before.map(|s| (s.value, clock::now().duration_since(s.at).as_secs()));
        Ok(Evidence { uplinks, rejected, before })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement =
            Judgement { samples: vec![Sample::count(OBJECT, METRIC, judged.taken_at, e.rejected)], ..Judgement::default() };
        let since = e.before.filter(|(before, _)| e.rejected as f64 >= *before);
        let grown = since.map_or(0.0, |(before, _)| e.rejected as f64 - before);
        // a counter since boot alone may be that of an earlier configuration
        if e.rejected == 0 || since.is_some() && grown < 1.0 {
            return judgement;
        }
        let (severity, count) = match since {
            Some((_, seconds)) => (Severity::Warn, format!("{grown:.0} packets in the last {} min", (seconds / 60).max(1))),
            None => (Severity::Info, format!("{} packets since boot", e.rejected)),
        };
        for uplink in e.uplinks.iter().filter(|u| u.rp_filter == 1) {
            let Some(reverse) = uplink.reverse.as_ref().filter(|reverse| **reverse != uplink.name) else { continue };
            let name = &uplink.name;
            let message = format!(
                "{name} has strict reverse path filtering (rp_filter = 1), and responses from its address leave over {reverse}: the kernel rejected {count}"
            );
            let finding = Finding::new(&RP_FILTER, severity, Object::named(Kind::Interface, name), message)
                .cite_opt("address", uplink.address.map(|ip| ip.to_string()))
                .hint(format!(
                    "`sysctl -w net.ipv4.conf.{0}.rp_filter=2` (loose), or route its responses over {name}: `ip rule add from {1} table 100`, `ip route add default via GATEWAY dev {name} table 100`",
                    name.replace('.', "/"),
                    uplink.address.map_or_else(|| "ADDRESS".to_owned(), |ip| ip.to_string())
                ));
            // the counter is that of all interfaces
            judgement.findings.push(finding.likely());
        }
        judgement
    }
}
