//! Fuzz targets of this crate: input of users and clients, and stored files. See `opsctl_core::fuzz` for how to run them.

use std::path::Path;

use opsctl_core::fuzz::Target;
use opsctl_core::model::Plan;
use opsctl_core::probe::Redactor;

use crate::config::waiver::Window;
use crate::{audit, catalog, config, deliver, engine, listen, respond};

/// Every target of the three crates.
#[must_use]
pub fn targets() -> Vec<&'static Target> {
    opsctl_core::fuzz::targets().into_iter().chain(opsctl_runbooks::fuzz::targets()).chain(own_targets()).collect()
}

/// The targets of this crate.
fn own_targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().chain(config::fuzz::TARGETS).chain(config::site::fuzz::TARGETS)
}

const TARGETS: &[Target] = &[
    Target::text("config", |text| {
        let known = config::KnownNames::registry();
        match config::read_text(Path::new("config.toml"), text.to_owned(), &known, &[]) {
            // the printed effective configuration is equal to the parsed one
            Ok(loaded) => {
                let printed = config::effective(&loaded.raw, text);
                if !printed.contains(opsctl_core::probe::REDACTED) {
                    let again = config::read_text(Path::new("config.toml"), printed.clone(), &known, &[]);
                    let again = again.unwrap_or_else(|e| panic!("{printed}\n{e}"));
                    assert_eq!(again.config, loaded.config, "{printed}");
                }
            }
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }),
    Target::text("lengths", |text| {
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        drop((config::length(first), config::duration(first), config::glob(first, rest)));
        drop((Window::parse(Some(first), rest, &[]), Window::parse(None, first, &[rest.to_owned()])));
        drop(config::fill(text, &|name| Some(name.to_owned())));
        drop(config::endpoint(first));
    }),
    Target::bytes("alert-payload", |bytes| {
        for alert in respond::parse(bytes).unwrap_or_default().alerts {
            assert!(alert.key().len() < 4096, "external input is bounded");
        }
    }),
    Target::text("signature", |text| {
        drop((listen::bearer_token(text), listen::unhex(text)));
        // an accepted name always refers to this host
        if listen::is_loopback_host(text) {
            let name = text.to_ascii_lowercase();
            assert!(["localhost", "127.", "["].iter().any(|own| name.starts_with(own)), "{text}");
        }
    }),
    Target::bytes("journal-lines", |bytes| {
        let (n, faults) = audit::verify(bytes);
        assert!(n <= bytes.split(|b| *b == b'\n').count());
        let head = audit::Head::of(bytes);
        assert!(!matches!(audit::find(bytes, &head), audit::Position::Absent(_) | audit::Position::Differs(_)));
        drop((audit::signatures(bytes, &[]), head.to_string().parse::<audit::Head>()));
        drop(faults.iter().map(ToString::to_string).collect::<String>());
    }),
    // a plan is unchanged after a round trip through the journal
    Target::text("plan", |text| {
        if let Ok(plan) = serde_json::from_str::<Plan>(text) {
            let json = serde_json::to_string(&plan).unwrap_or_default();
            assert_eq!(serde_json::from_str::<Plan>(&json).ok().as_ref(), Some(&plan), "{json}");
            drop(plan.actions.iter().map(ToString::to_string).collect::<String>());
            let mut value = serde_json::to_value(&plan).unwrap_or_default();
            Redactor::default().scrub_json(&mut value);
        }
    }),
    Target::text("recording", |text| drop(serde_json::from_str::<engine::Recording>(text))),
    Target::text("runbook-page", |text| {
        let doc = catalog::Documentation::parse(text);
        drop((doc.problems(), doc.alerts().len(), doc.table("Verdicts")));
    }),
    Target::text("parcel", |text| {
        let _ = deliver::is_parcel(text);
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsers_do_not_panic_on_corpus_and_mutations() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for target in own_targets().chain(opsctl_runbooks::fuzz::targets()) {
            target.briefly(&corpus, 200);
        }
    }

    #[test]
    fn names_are_unique_and_every_corpus_has_a_target() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        let mut names: Vec<String> = targets().iter().map(|t| t.name.to_owned()).collect();
        let mut directories: Vec<String> = std::fs::read_dir(corpus)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        directories.sort();
        assert_eq!(names, directories);
    }
}
