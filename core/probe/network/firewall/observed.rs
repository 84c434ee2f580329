//! The host of this process's network namespace, for the evaluation of its packet filter.

use std::sync::Arc;
use std::time::Duration;

use super::ruleset::{HostInterface, HostRoute, HostView};
use crate::probe::network::routes::Routing;
use crate::probe::{Io, Memo, ProbeError, blocking};

/// Timeout of reading a few files of procfs.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of network interfaces below this directory.
const SETTINGS: &str = "/proc/sys/net/ipv4";

/// The host, read once per run.
#[derive(Debug, Default)]
pub struct HostViewCache(Memo<(), Result<Arc<HostView>, ProbeError>>);

impl HostViewCache {
    /// The host with these interfaces and routes.
    pub async fn get(&self, routing: &Routing) -> Result<Arc<HostView>, ProbeError> {
        let view = || async {
            let mut view = HostView::from(routing);
            view = blocking::run("settings of routing", SETTINGS, READ_TIMEOUT, move |io| {
                add_settings(io, &mut view);
                view
            })
            .await?;
            Ok(Arc::new(view))
        };
        self.0.get((), view).await
    }
}

impl From<&Routing> for HostView {
    /// A host that forwards packets and does not filter its bridges.
    fn from(routing: &Routing) -> Self {
        let interfaces = routing.interfaces.iter().map(|i| HostInterface {
            name: i.name.clone(),
            addresses: i.addresses.clone(),
            is_bridge: i.kind == "bridge",
        });
        let routes = routing.routes.iter().map(|r| HostRoute {
            to: r.to,
            interface: r.interface.clone(),
            table: r.table,
            metric: r.metric,
        });
        Self {
            interfaces: interfaces.collect(),
            routes: routes.collect(),
            forwards: true,
            forwards_ipv6: true,
            ..Self::default()
        }
    }
}

fn add_settings(io: &Io, view: &mut HostView) {
    let is_on = |path: &str| io.read_to_string(path).is_ok_and(|text| text.trim() == "1");
    view.forwards = is_on("/proc/sys/net/ipv4/ip_forward");
    view.forwards_ipv6 = is_on("/proc/sys/net/ipv6/conf/all/forwarding");
    view.filters_bridges = is_on("/proc/sys/net/bridge/bridge-nf-call-iptables");
    let names = view.interfaces.iter().map(|i| i.name.as_str()).chain(["all"]);
    let routing = names.filter(|name| is_on(&format!("{SETTINGS}/conf/{name}/route_localnet")));
    view.routes_loopback = routing.map(str::to_owned).collect();
}
