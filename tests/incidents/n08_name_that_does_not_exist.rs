//! That a name does not exist is an answer: the name servers are well.

use crate::lab::Host;

#[test]
fn a_name_that_does_not_exist_is_an_answer() {
    let Some(host) = Host::with_names(Host::without_engine) else { return };
    host.dnsmasq("10.53.0.1", &[]);
    host.resolv_conf("nameserver 10.53.0.1\nsearch corp\n");
    host.configure("[runbooks.dns]\nnames = [\"gone.corp\"]\n");
    // that a name of the configuration is unknown is worth knowing, no more
    let run = host.ask(&["dns"]);
    run.roots(&[]).must_not(&["dns."]).verdict("dns.resolvers", "host", "info").verdict("dns.search", "host", "ok");
    host.leaves(&run, "");
    // the same for the root
    host.same_for_all("10.53.0.2", &["--code", "3"]);
    host.resolv_conf("nameserver 10.53.0.2\n");
    host.configure("");
    host.ask(&["dns"]).roots(&[]).must_not(&["dns."]);
}
