//! `entropy_avail` reads 256 on every kernel of the last years, which is full: not a word about it.

use crate::lab::Host;

#[test]
fn a_full_pool_of_256_bits_is_full() {
    let Some(host) = Host::without_engine() else { return };
    let run = host.opsctl(&["host", "--format", "json"]);
    assert_eq!(run.check("host.entropy", "host").verdict, "ok");
    run.must_not(&["host."]);
}
