//! Runs libFuzzer on one target, named by `$OPSCTL_FUZZ_TARGET`. Without the variable it prints all names.
#![no_main]

use std::sync::OnceLock;

use opsctl_core::fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("OPSCTL_FUZZ_TARGET").unwrap_or_default();
        let Some(target) = opsctl::fuzz::targets().into_iter().find(|t| t.name == name) else {
            opsctl::fuzz::targets().iter().for_each(|t| println!("{}", t.name));
            std::process::exit(i32::from(!name.is_empty()))
        };
        TARGET.get_or_init(|| target);
    },
    |input: &[u8]| {
        if let Some(target) = TARGET.get() {
            target.once(input);
        }
    }
);
