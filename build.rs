//! Links the release binary without unwind tables.

use std::env;

fn main() {
    const SCRIPT: &str = "packaging/without-unwind-tables.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    // release is the profile with panic = "abort"; start files of other C libraries may point to their tables
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{root}/{SCRIPT}");
    }
}
