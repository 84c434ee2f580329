//! Control: NXDOMAIN is a valid response of a healthy name server.

use crate::lab::Host;

#[test]
fn nxdomain_is_a_valid_response() {
    let Some(host) = Host::with_names(Host::without_engine) else { return };
    host.dnsmasq("10.53.0.1", &[]);
    host.resolv_conf("nameserver 10.53.0.1\nsearch corp\n");
    host.configure("[runbooks.dns]\nnames = [\"gone.corp\"]\n");
    // a configured name that does not exist is reported as info only
    let run = host.run_runbooks(&["dns"]);
    run.roots(&[]).must_not(&["dns."]).verdict("dns.resolvers", "host", "info").verdict("dns.search", "host", "ok");
    host.leaves(&run, "");
    // NXDOMAIN for the root zone too
    host.same_for_all("10.53.0.2", &["--code", "3"]);
    host.resolv_conf("nameserver 10.53.0.2\n");
    host.configure("");
    host.run_runbooks(&["dns"]).roots(&[]).must_not(&["dns."]);
}
