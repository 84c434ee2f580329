//! The containers' network takes larger packets than the way out, and the kernel tells the senders: all is well.

use crate::lab::{Host, PEER};

#[test]
fn a_larger_bridge_that_works_is_no_alarm() {
    let Some(host) = Host::with_wires(1450) else { return };
    assert!(host.gets_through("app", "/big", 4000));
    let run = host.ask_with(&["mtu", &format!("http://{PEER}:8080/big")]);
    run.roots(&[]).must_not(&["mtu."]).exits(0);
    host.leaves(&run, "");
    assert!(run.findings().any(|f| f.code == "mtu.bridge-exceeds-egress"), "{}", run.stdout);
}
