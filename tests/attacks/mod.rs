//! Attacks on a host where root runs opsctl, one file per promise of the trust boundary (`SECURITY.md`). The attacker is an unprivileged user
//! or a container of a lab host; each attack has a harmless counterpart that must still be examined.
//!
//! [`Scene::run_verified`] verifies for every attack that the secrets of the scene appear in no output, recording or state file and in no
//! file that an attacker recorded, and that no program of an attacker ran with privileges that the attacker does not have.

mod configuration;
mod outputs;
mod p01_nothing_gained;
mod p02_programs;
mod p03_files;
mod p04_logins;
mod p05_owners;
mod p06_deadline;
mod p07_no_changes;
mod p09_fixes;
mod p11_foreign_text;
mod pressure;
mod scene;
mod user;

use scene::{SHARED, Scene, UID, belongs_to, belongs_to_attacker, examined, quoted, rogue, rows, summary};
