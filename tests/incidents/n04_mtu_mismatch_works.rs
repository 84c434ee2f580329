//! Control: the bridge MTU exceeds the egress MTU, and path MTU discovery works.

use crate::lab::{Host, PEER};

#[test]
fn larger_bridge_mtu_with_working_path_mtu_discovery_is_ok() {
    let Some(host) = Host::with_wires(1450) else { return };
    assert!(host.gets_through("app", "/big", 4000));
    let run = host.run_recorded(&["mtu", &format!("http://{PEER}:8080/big")]);
    run.roots(&[]).must_not(&["mtu."]).exits(0);
    host.leaves(&run, "");
    assert!(run.findings().any(|f| f.code == "mtu.bridge-exceeds-egress"), "{}", run.stdout);
}
