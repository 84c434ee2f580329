//! Listings of rules by the programs of each backend.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ruleset::{Listings, Ruleset};
use super::{Backend, Firewall, native, saved};
use crate::probe::io::command::{self, Argv};
use crate::probe::{Io, Memo, ProbeError, UNEXPECTED_FORMAT, blocking};

/// Timeout of a command; includes waiting for another program that holds the lock of the tables.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of a second listing with the elements of sets: a blocklist can have a million of them.
const ELEMENTS_TIMEOUT: Duration = Duration::from_millis(1500);

/// Size limit of that listing, in bytes.
const MAX_ELEMENTS_BYTES: usize = 8 << 20;

/// The tables of iptables in one variant.
#[derive(Debug, Default)]
struct Saved {
    /// The program that changes them.
    program: Option<&'static str>,
    texts: Vec<String>,
    gap: Option<String>,
}

/// Rules of nftables.
#[derive(Debug)]
struct Nft {
    rules: Value,
    /// The elements of named sets are listed.
    has_elements: bool,
}

/// Reads all rules. Without any program [`Firewall::programs`] is empty and nothing is known. A backend that cannot be read is a
/// gap, unless none can.
pub async fn read() -> Result<Firewall, ProbeError> {
    // boxed: the state of a caller would contain that of three commands
    let (nft, legacy) = (Box::pin(list_nft(NFT)), Box::pin(list_legacy(LEGACY, LEGACY_TABLES)));
    let (nft, legacy, native) = tokio::join!(nft, legacy, Box::pin(list_native()));
    let mut firewall = Firewall::default();
    let (mut failed, mut iptables) = (Vec::new(), Vec::new());
    for (backend, listed) in [(Backend::Nft, nft), (Backend::Legacy, legacy)] {
        match listed {
            Ok(listed) => {
                firewall.gaps.extend(listed.gap);
                for text in listed.texts {
                    saved::add(&mut firewall, backend, &text);
                    iptables.push((backend, text));
                }
                firewall.programs.extend(listed.program.map(|name| (backend, name.to_owned())));
            }
            Err(error) => failed.push(error),
        }
    }
    let mut nft = None;
    match native {
        Ok(Some(listed)) => {
            native::add_parsed(&mut firewall, &listed.rules);
            firewall.programs.push((Backend::Native, "nft".to_owned()));
            nft = Some(listed);
        }
        Ok(None) => {}
        Err(ProbeError::Skip(gap)) => firewall.gaps.push(gap),
        Err(error) => failed.push(error),
    }
    if firewall.programs.is_empty()
        && let Some(error) = failed.pop()
    {
        return Err(error);
    }
    firewall.gaps.extend(failed.iter().map(ToString::to_string));
    let ipset = Box::pin(list_sets(&iptables)).await;
    let iptables: Vec<(Backend, &str)> = iptables.iter().map(|(backend, text)| (*backend, text.as_str())).collect();
    let listings = Listings {
        ipset: ipset.as_deref(),
        iptables: &iptables,
        ip6tables: &[],
        nft: nft.as_ref().map(|nft| &nft.rules),
        nft_has_elements: nft.as_ref().is_some_and(|nft| nft.has_elements),
    };
    firewall.ruleset = Arc::new(Ruleset::parse(&listings));
    Ok(firewall)
}

/// The rules with those of ip6tables, read once per run and only if they are needed.
#[derive(Debug, Default)]
pub struct Ipv6Rules(Memo<(), Result<Arc<Ruleset>, ProbeError>>);

impl Ipv6Rules {
    /// The rules of `firewall` and those of ip6tables.
    pub async fn get(&self, firewall: &Firewall) -> Result<Arc<Ruleset>, ProbeError> {
        self.0.get((), || read_ipv6(firewall.ruleset.clone())).await
    }
}

async fn read_ipv6(rules: Arc<Ruleset>) -> Result<Arc<Ruleset>, ProbeError> {
    let (nft, legacy) = (Box::pin(list_nft(NFT6)), Box::pin(list_legacy(LEGACY6, LEGACY6_TABLES)));
    let (nft, legacy) = tokio::join!(nft, legacy);
    let (nft, legacy) = (nft?, legacy?);
    let all = nft.texts.iter().map(|text| (Backend::Nft, text)).chain(legacy.texts.iter().map(|text| (Backend::Legacy, text)));
    let all: Vec<(Backend, String)> = all.map(|(backend, text)| (backend, text.clone())).collect();
    let ipset = Box::pin(list_sets(&all)).await;
    let texts: Vec<(Backend, &str)> = all.iter().map(|(backend, text)| (*backend, text.as_str())).collect();
    Ok(Arc::new(rules.with_ip6tables(&texts, ipset.as_deref())))
}

async fn list_nft(programs: Variant) -> Result<Saved, ProbeError> {
    let Some(program) = programs.find(true).await? else { return Ok(Saved::default()) };
    let text = listing(&Argv::new(program.save, &["-c"])).await?;
    Ok(Saved { program: Some(program.name), texts: vec![text], gap: None })
}

async fn list_legacy(programs: Variant, names: &'static str) -> Result<Saved, ProbeError> {
    let program = programs.find(false).await?;
    let tables = blocking::run("packet filter rules", names, COMMAND_TIMEOUT, move |io| legacy_tables(io, names)).await??;
    let Some(program) = program else {
        let gap = format!("there are legacy iptables rules and no {} to list them", programs.own.name);
        return Ok(Saved { gap: (!tables.is_empty()).then_some(gap), ..Saved::default() });
    };
    let mut texts = Vec::new();
    for table in &tables {
        let argv = Argv::new(program.save, &["-c", "-t"]).operand(table);
        texts.push(listing(&argv.map_err(|why| ProbeError::failed("packet filter rules", program.save, &why))?).await?);
    }
    Ok(Saved { program: Some(program.name), texts, gap: None })
}

/// The error for an unexpected format is a `Skip` with the text of the gap.
async fn list_native() -> Result<Option<Nft>, ProbeError> {
    if !command::is_installed("nft").await {
        return Ok(None);
    }
    let text = listing(&Argv::new("nft", &["--json", "--terse", "list", "ruleset"])).await?;
    if text.trim().is_empty() {
        return Ok(Some(Nft { rules: Value::Null, has_elements: true }));
    }
    let Ok(rules) = serde_json::from_str::<Value>(&text) else {
        return Err(ProbeError::Skip(format!("reading the rules of nftables: {UNEXPECTED_FORMAT}")));
    };
    // only rules refer to sets in this way; a comment costs a second listing
    if !text.contains("\"@") {
        return Ok(Some(Nft { rules, has_elements: true }));
    }
    let full = command::read(&Argv::new("nft", &["--json", "list", "ruleset"]), ELEMENTS_TIMEOUT).await.ok();
    let full = full.filter(|ended| ended.status.success() && ended.stdout.len() <= MAX_ELEMENTS_BYTES);
    Ok(Some(match full.and_then(|ended| serde_json::from_str(&ended.stdout).ok()) {
        Some(rules) => Nft { rules, has_elements: true },
        None => Nft { rules, has_elements: false },
    }))
}

/// The sets of ipset, if a rule refers to one.
async fn list_sets(saved: &[(Backend, String)]) -> Option<String> {
    if !saved.iter().any(|(_, text)| text.contains("--match-set")) || !command::is_installed("ipset").await {
        return None;
    }
    let ended = command::read(&Argv::new("ipset", &["save"]), ELEMENTS_TIMEOUT).await.ok()?;
    (ended.status.success() && ended.stdout.len() <= MAX_ELEMENTS_BYTES).then_some(ended.stdout)
}

/// The programs of an iptables variant.
#[derive(Debug, Clone, Copy)]
struct Iptables {
    name: &'static str,
    save: &'static str,
}

const PLAIN: Iptables = Iptables { name: "iptables", save: "iptables-save" };
const PLAIN6: Iptables = Iptables { name: "ip6tables", save: "ip6tables-save" };

/// The specific programs of a variant, and those that may be of any.
#[derive(Debug, Clone, Copy)]
struct Variant {
    own: Iptables,
    plain: Iptables,
}

const NFT: Variant = Variant { own: Iptables { name: "iptables-nft", save: "iptables-nft-save" }, plain: PLAIN };
const LEGACY: Variant = Variant { own: Iptables { name: "iptables-legacy", save: "iptables-legacy-save" }, plain: PLAIN };
const NFT6: Variant = Variant { own: Iptables { name: "ip6tables-nft", save: "ip6tables-nft-save" }, plain: PLAIN6 };
const LEGACY6: Variant = Variant { own: Iptables { name: "ip6tables-legacy", save: "ip6tables-legacy-save" }, plain: PLAIN6 };

impl Variant {
    /// The specific program, or plain `iptables` if `--version` reports this variant.
    async fn find(self, requires_nft: bool) -> Result<Option<Iptables>, ProbeError> {
        if command::is_installed(self.own.save).await {
            return Ok(Some(self.own));
        }
        if !command::is_installed(self.plain.save).await {
            return Ok(None);
        }
        // before 1.8 there was only the legacy variant, without brackets in the version
        let is_nft = listing(&Argv::new(self.plain.name, &["--version"])).await?.contains("nf_tables");
        Ok((is_nft == requires_nft).then_some(self.plain))
    }
}

/// Names of the legacy tables in this namespace.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";

/// As [`LEGACY_TABLES`], of ip6tables.
const LEGACY6_TABLES: &str = "/proc/net/ip6_tables_names";

fn legacy_tables(io: &Io, path: &str) -> Result<Vec<String>, ProbeError> {
    match io.read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(denied(path)),
        Err(e) => Err(ProbeError::io("packet filter rules", path, &e)),
    }
}

fn denied(from: &str) -> ProbeError {
    ProbeError::Denied { subject: "packet filter rules".into(), from: from.into(), needs: crate::probe::needed_right().into() }
}

async fn listing(argv: &Argv) -> Result<String, ProbeError> {
    let from = argv.program();
    let ended =
        command::read(argv, COMMAND_TIMEOUT).await.map_err(|why| ProbeError::failed("packet filter rules", from, &why))?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let message = ended.last_line();
    let denials = ["ermission denied", "Operation not permitted", "you must be root"];
    Err(if denials.iter().any(|n| message.contains(n)) {
        denied(from)
    } else {
        ProbeError::failed("packet filter rules", from, &message)
    })
}
