//! Attacks on a host where root runs opsctl, one file per promise of the trust boundary (`SECURITY.md`). The attacker is an ordinary user
//! of a lab host; each attack has a harmless look-alike that must still work.

mod configuration;
mod outputs;
mod user;
