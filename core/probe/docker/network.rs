//! Networks of the engine.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Docker;
use crate::model::{Gaps, Pick};
use crate::probe::ProbeError;

/// An entry of the network list.
#[expect(clippy::struct_excessive_bools, reason = "independent options of a network")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Name.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// `bridge`, `overlay`, `macvlan`, `ipvlan`, `host`, `null`.
    pub driver: String,
    /// Its interface on the host; only bridges have one.
    pub interface: Option<String>,
    /// Its subnets: `172.18.0.0/16`.
    pub subnets: Vec<String>,
    /// The gateway of each subnet, as far as reported: with driver `bridge` addresses of its interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<String>,
    /// Parts of its subnets from which addresses are assigned (`--ip-range`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<String>,
    /// Number of addresses that the engine does not assign (`--aux-address`).
    #[serde(skip_serializing_if = "is_zero")]
    pub reserved: usize,
    /// Its bridge has no address of the engine: gateway mode `isolated`, or `com.docker.network.bridge.inhibit_ipv4`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unaddressed: bool,
    /// No egress (`--internal`).
    pub internal: bool,
    /// It has IPv6.
    pub ipv6: bool,
    /// Egress is masqueraded with an address of this host.
    pub masquerade: bool,
    /// MTU set at creation (`com.docker.network.driver.mtu`).
    pub mtu: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "signature of serde")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Network {
    /// Whether egress uses the routes and rules of this host.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.driver == "bridge" && !self.internal
    }
}

pub(super) async fn list(docker: &Docker) -> Result<Vec<Network>, ProbeError> {
    let response = docker.read("networks", "/networks").await?;
    let gaps = Gaps::new("list of networks");
    let mut networks = networks(&response, docker.is_podman(), &gaps);
    docker.add_gaps(gaps);
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(networks)
}

/// The networks in `GET /networks`; one without a name is a gap.
pub(super) fn networks(response: &Value, is_podman: bool, gaps: &Gaps) -> Vec<Network> {
    Pick::new(response, gaps).items().iter().filter_map(|listed| network(listed, is_podman)).collect()
}

fn network(listed: &Pick<'_>, is_podman: bool) -> Option<Network> {
    if !listed.is_object() {
        return None;
    }
    let name = listed.first(&["Name", "name"]);
    let Some(named) = name.as_text().filter(|name| !name.is_empty()) else {
        name.reject("the name of a network");
        return None;
    };
    let options = listed.first(&["Options", "options"]);
    let option = |name: &str| options.text(name).filter(|value| !value.is_empty());
    let text = |names: &[&str]| listed.first(names).as_text().unwrap_or_default();
    let (id, driver) = (text(&["Id", "ID", "id"]), text(&["Driver", "driver"]));
    // moby libnetwork/drivers/bridge: the default name of a bridge is br- and 12 digits of the id; Podman's is podmanN or
    // cni-podmanN, which its Docker API does not report
    let default_name = || if is_podman { None } else { id.get(..12).map(|short| format!("br-{short}")) };
    let interface = || {
        let named = option("com.docker.network.bridge.name").or_else(|| listed.text("network_interface"));
        named.filter(|name| !name.is_empty()).or_else(default_name)
    };
    let subnet = |config: &Pick<'_>| config.first(&["Subnet", "subnet"]).as_text().filter(|subnet| !subnet.is_empty());
    let mut subnets: Vec<String> = listed.get("IPAM").list("Config").iter().filter_map(subnet).collect();
    subnets.extend(listed.list("subnets").iter().filter_map(subnet));
    let mut pools = listed.get("IPAM").list("Config");
    pools.extend(listed.list("subnets"));
    let each = |names: &'static [&'static str]| {
        let text = move |pool: &Pick<'_>| pool.first(names).as_text().filter(|text| !text.is_empty());
        pools.iter().filter_map(text).collect::<Vec<String>>()
    };
    let (gateways, ranges) = (each(&["Gateway", "gateway"]), each(&["IPRange"]));
    let reserved = pools.iter().map(|pool| pool.entries("AuxiliaryAddresses").len()).sum();
    let inhibited = ["com.docker.network.bridge.inhibit_ipv4", "inhibit_ipv4"];
    Some(Network {
        interface: (driver == "bridge").then(interface).flatten(),
        subnets,
        internal: listed.first(&["Internal", "internal"]).as_flag().unwrap_or(false),
        ipv6: listed.first(&["EnableIPv6", "ipv6_enabled"]).as_flag().unwrap_or(false),
        masquerade: options.flag("com.docker.network.bridge.enable_ip_masquerade").unwrap_or(true)
            && !matches!(option(GATEWAY_MODE).as_deref(), Some("routed" | "isolated")),
        gateways,
        ranges,
        reserved,
        unaddressed: inhibited.iter().any(|name| options.flag(name) == Some(true))
            || option(GATEWAY_MODE).as_deref() == Some("isolated"),
        mtu: option("com.docker.network.driver.mtu").or_else(|| option("mtu")).and_then(|m| m.trim().parse().ok()),
        name: named,
        id,
        driver,
    })
}

/// `nat` by default; `nat-unprotected` is masqueraded, too; `routed` and `isolated` are not
/// (<https://docs.docker.com/engine/network/packet-filtering-firewalls/>).
const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv4";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: &Value) -> Network {
        let response = json!([{"Name": "app", "Id": "0123456789abcdef", "Driver": "bridge", "Options": options}]);
        networks(&response, false, &Gaps::default()).remove(0)
    }

    #[test]
    fn routed_network_is_not_masqueraded() {
        for mode in ["routed", "isolated"] {
            assert!(!read(&json!({"com.docker.network.bridge.gateway_mode_ipv4": mode})).masquerade, "{mode}");
        }
    }

    #[test]
    fn translated_network_is_masqueraded() {
        for mode in ["nat", "nat-unprotected", ""] {
            assert!(read(&json!({"com.docker.network.bridge.gateway_mode_ipv4": mode})).masquerade, "{mode}");
        }
        assert!(read(&json!(null)).masquerade);
    }

    #[test]
    fn disabled_masquerading_has_every_spelling_of_go() {
        for value in [json!("false"), json!("0"), json!("False"), json!(false)] {
            assert!(!read(&json!({"com.docker.network.bridge.enable_ip_masquerade": value})).masquerade);
        }
    }

    #[test]
    fn address_management_of_a_network() {
        let network = |options: serde_json::Value| {
            let config = json!({"Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "IPRange": "10.9.0.128/25",
                "AuxiliaryAddresses": {"router": "10.9.0.5"}}, {"Subnet": "fd00::/64"}]});
            let response =
                json!([{"Name": "app", "Id": "0123456789abcdef", "Driver": "bridge", "IPAM": config, "Options": options}]);
            networks(&response, false, &Gaps::default()).remove(0)
        };
        let n = network(json!({}));
        assert_eq!((n.gateways, n.ranges, n.reserved), (vec!["10.9.0.1".to_owned()], vec!["10.9.0.128/25".to_owned()], 1));
        assert!(!n.unaddressed);
        assert!(network(json!({"com.docker.network.bridge.inhibit_ipv4": "true"})).unaddressed);
        assert!(network(json!({"com.docker.network.bridge.gateway_mode_ipv4": "isolated"})).unaddressed);
        assert!(!network(json!({"com.docker.network.bridge.gateway_mode_ipv4": "routed"})).unaddressed);
    }

    #[test]
    fn odd_network_costs_only_itself() {
        let gaps = Gaps::new("list of networks");
        let response = json!([{"Name": "a"}, "odd", {"Id": "x"}, {"Name": "b", "IPAM": {"Config": {"Subnet": "10.1.0.0/16"}}}]);
        let read = networks(&response, false, &gaps);
        assert_eq!(read.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read[1].subnets, ["10.1.0.0/16"]);
        assert_eq!(
            gaps.into_sentences(),
            [
                "list of networks: [1] is \"odd\", not an object",
                "list of networks: [2].Name is absent, not the name of a network"
            ]
        );
    }

    #[test]
    fn bridge_of_podman_has_no_default_name() {
        let response = json!([{"Name": "podman", "Id": "0123456789abcdef", "Driver": "bridge"}]);
        assert_eq!(networks(&response, true, &Gaps::default())[0].interface, None);
        assert_eq!(networks(&response, false, &Gaps::default())[0].interface.as_deref(), Some("br-0123456789ab"));
    }
}
