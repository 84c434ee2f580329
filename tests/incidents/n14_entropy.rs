//! Control: `entropy_avail` is 256 on current kernels, which is a full pool.

use crate::lab::Host;

#[test]
fn entropy_pool_of_256_bits_is_full() {
    let Some(host) = Host::without_engine() else { return };
    let run = host.run_runbooks(&["host"]);
    run.verdict("host.entropy", "host", "ok").must_not(&["host."]);
    host.leaves(&run, "");
}
