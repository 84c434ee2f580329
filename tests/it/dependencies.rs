//! Dependencies: accepted licences, no version with a known vulnerability. Without a network.

use std::process::Command;

use serde::Deserialize;

/// Accepted licences; of `A OR B` one suffices, of `A AND B` both are needed.
const ACCEPTED: &[&str] =
    &["MIT", "Apache-2.0", "Unicode-3.0", "BSD-3-Clause", "BSD-2-Clause", "ISC", "Zlib", "0BSD", "CC0-1.0", "BSL-1.0"];

fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An SPDX expression in the subset that crates use: one level of brackets, `OR`, `AND`, and the old `A/B`.
fn accepted(expression: &str) -> bool {
    if let Some((before, rest)) = expression.split_once('(') {
        let Some((inner, after)) = rest.split_once(')') else { return false };
        return accepted(&format!("{before}{}{after}", if accepted(inner) { "MIT" } else { "refused" }));
    }
    expression.replace('/', " OR ").split(" OR ").any(|all| all.split(" AND ").all(|one| ACCEPTED.contains(&one.trim())))
}

#[test]
fn licences_are_accepted() {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        license: Option<String>,
    }
    let cargo = env!("CARGO");
    // only the dependencies of this platform were downloaded
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).unwrap();
    let arguments = ["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform", host];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert!(metadata.packages.len() > 50, "all dependencies are listed");
    let refused: Vec<_> = metadata.packages.iter().filter(|p| !accepted(p.license.as_deref().unwrap_or("none"))).collect();
    let refused: Vec<String> =
        refused.iter().map(|p| format!("{} ({})", p.name, p.license.as_deref().unwrap_or("none"))).collect();
    assert!(refused.is_empty(), "not accepted: {refused:?}");
}

#[test]
fn no_version_with_a_known_vulnerability() {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: String,
    }
    #[derive(Deserialize)]
    struct Advisories {
        advisory: Vec<Advisory>,
    }
    #[derive(Deserialize)]
    struct Advisory {
        id: String,
        #[serde(rename = "crate")]
        name: String,
        fixed: String,
    }
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let lock: Lock = toml::from_str(&read("Cargo.lock")).unwrap();
    let advisories: Advisories = toml::from_str(&read("tests/advisories.toml")).unwrap();
    let number = |version: &str| -> Vec<u64> { version.split(['.', '-', '+']).map_while(|part| part.parse().ok()).collect() };
    let mut bad = Vec::new();
    for advisory in &advisories.advisory {
        assert!(number(&advisory.fixed).len() == 3, "{} has no version", advisory.id);
        let affected = |p: &&Locked| p.name == advisory.name && number(&p.version) < number(&advisory.fixed);
        bad.extend(lock.package.iter().filter(affected).map(|p| format!("{} {}: {}", p.name, p.version, advisory.id)));
    }
    assert!(bad.is_empty(), "known to be bad: {bad:?}");
}

#[test]
fn licence_expressions_are_read() {
    for good in
        ["MIT", "MIT OR GPL-3.0", "Unlicense/MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception OR MIT"]
    {
        assert!(accepted(good), "{good}");
    }
    for bad in ["", "none", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT", "MIT)("] {
        assert!(!accepted(bad), "{bad}");
    }
}
