//! `entropy_avail` reads 256 on every kernel of the last years, which is full: not a word about it.

use crate::lab::Host;

#[test]
fn a_full_pool_of_256_bits_is_full() {
    let Some(host) = Host::without_engine() else { return };
    let run = host.ask(&["host"]);
    run.verdict("host.entropy", "host", "ok").must_not(&["host."]);
    host.leaves(&run, "");
}
