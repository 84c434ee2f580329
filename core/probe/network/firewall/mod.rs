//! The packet filter of this host's network namespace: both backends of iptables, and nftables itself.
//!
//! Rules are listed with programs, because the legacy tables have no other stable interface and that of nftables is not stable.
//! Listing a legacy table creates it, and with it the warning that both variants are in use: only tables in
//! `/proc/net/ip_tables_names` are listed.

#[cfg(any(test, feature = "fuzz"))]
pub(in crate::probe) mod fuzz;
mod native;
mod persisted;
mod saved;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::io::command;
use crate::probe::io::command::Argv;
use crate::probe::{Io, ProbeError, UNEXPECTED_FORMAT, blocking};

pub use persisted::{Persisted, persisted};

/// Timeout of a command; includes waiting for another program that holds the lock of the tables.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(3);

/// Owner of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// iptables that writes to nftables (`iptables-nft`).
    Nft,
    /// iptables with tables of its own (`iptables-legacy`).
    Legacy,
    /// nftables itself (`nft`).
    Native,
}

impl Backend {
    /// The command line program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft",
            Self::Legacy => "iptables-legacy",
            Self::Native => "nft",
        }
    }
}

/// Effect of a rule on a matching packet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", content = "to")]
pub enum Effect {
    /// Accepts it; the rest of the chain is skipped.
    Accept,
    /// Drops or rejects it.
    Drop,
    /// Returns to the calling chain.
    Return,
    /// Continues in another chain.
    Jump(String),
    /// Clamps the MSS in a SYN to the path MTU known to this host.
    ClampMss,
    /// Sets the MSS to a number.
    SetMss(u32),
    /// Replaces its source address by one of this host.
    Masquerade,
    /// Decided outside of the listed rules: by a program in user space (NFQUEUE), or by a map or set without its elements.
    External,
    /// Anything else.
    #[default]
    Other,
}

impl Effect {
    /// Whether later rules of the chain do not see a packet that this one matched.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Accept | Self::Drop | Self::Return)
    }
}

/// A rule.
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a rule")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its backend.
    pub backend: Backend,
    /// `mangle`, or for nftables `inet filter`.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Input interface; a leading `!` negates.
    pub input: Option<String>,
    /// Output interface; a leading `!` negates.
    pub output: Option<String>,
    /// Several input interfaces, each with a leading `!` if they are excluded; `input` is then empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Several output interfaces, as `inputs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Source network.
    pub source: Option<String>,
    /// Protocol: `tcp`, `icmp`; a leading `!` negates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// It matches every packet.
    pub every: bool,
    /// It matches every first packet of a connection through its interfaces.
    pub plain: bool,
    /// It has conditions besides interfaces, source, protocol and states that include new connections. Unknown in old recordings.
    #[serde(default = "unknown_conditions")]
    pub conditional: bool,
    /// It matches packets of established connections only.
    pub established: bool,
    /// It matches ICMP "fragmentation needed", and little else.
    pub icmp: bool,
    /// Its effect.
    pub effect: Effect,
    /// Number of matched packets.
    pub packets: Option<u64>,
    /// Its text, without counters.
    pub text: String,
}

/// Recordings without the field do not tell a protocol from another condition.
fn unknown_conditions() -> bool {
    true
}

impl Rule {
    /// A rule that matches every packet and has no effect, to be refined by the parser.
    fn new(backend: Backend, table: String, chain: String) -> Self {
        Self {
            backend,
            table,
            chain,
            input: None,
            output: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            source: None,
            protocol: None,
            every: true,
            plain: true,
            conditional: false,
            established: false,
            icmp: false,
            effect: Effect::Other,
            packets: None,
            text: String::new(),
        }
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its backend.
    pub backend: Backend,
    /// Its table.
    pub table: String,
    /// Name.
    pub name: String,
    /// `PREROUTING`, `INPUT`, `FORWARD`, `OUTPUT`, `POSTROUTING`; `None` for a chain without a hook.
    pub hook: Option<String>,
    /// Policy for packets that no rule decided; true accepts them.
    pub accepts: bool,
}

/// The packet filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Firewall {
    /// Chains.
    pub chains: Vec<Chain>,
    /// Rules, in evaluation order of each chain.
    pub rules: Vec<Rule>,
    /// Chains of nftables, including those of iptables: `ip mangle FORWARD`.
    pub nft_chains: BTreeSet<String>,
    /// The program that changes rules, by iptables backend.
    pub programs: Vec<(Backend, String)>,
    /// Parts that could not be read, with the reason.
    pub gaps: Vec<String>,
}

impl Firewall {
    /// The backend that contains the rules of the container engine, if there are any.
    #[must_use]
    pub fn of_engine(&self) -> Option<Backend> {
        self.chains.iter().find(|c| is_of_engine(c)).map(|c| c.backend)
    }

    /// Every chain and rule that refers to chains of the container engine, each prefixed with its table: `nat -A PREROUTING … -j
    /// DOCKER`.
    #[must_use]
    pub fn engine_rules(&self) -> Vec<String> {
        let chains = self.chains.iter().filter(|c| c.name.contains("DOCKER")).map(|c| format!("{} :{} -", c.table, c.name));
        let rules = self.rules.iter().filter(|r| r.text.contains("DOCKER")).map(|r| format!("{} {}", r.table, r.text));
        chains.chain(rules).collect()
    }

    /// The rules of one chain, in order.
    pub fn chain<'a>(&'a self, backend: Backend, table: &'a str, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |r| r.backend == backend && r.table == table && r.chain == name)
    }

    /// The hook of a rule's chain; `None` for a chain that is only reached by jumps.
    #[must_use]
    pub fn hook_of(&self, rule: &Rule) -> Option<&str> {
        let own = |c: &&Chain| c.backend == rule.backend && c.table == rule.table && c.name == rule.chain;
        self.chains.iter().find(own)?.hook.as_deref()
    }

    /// The earlier rule of its chain that keeps all packets from reaching `rule`, if there is one.
    #[must_use]
    pub fn shadow_of(&self, rule: &Rule) -> Option<&Rule> {
        let same = |r: &&Rule| r.backend == rule.backend && r.table == rule.table && r.chain == rule.chain;
        let before = self.rules.iter().filter(same).take_while(|r| !std::ptr::eq(*r, rule));
        before.into_iter().find(|r| r.every && r.effect.is_final())
    }

    /// The program that changes the rules of a backend.
    #[must_use]
    pub fn program(&self, backend: Backend) -> Option<&str> {
        self.programs.iter().find(|(b, _)| *b == backend).map(|(_, program)| program.as_str())
    }
}

fn is_of_engine(chain: &Chain) -> bool {
    let own = chain.name == "DOCKER" || chain.name.starts_with("DOCKER-");
    // custom rules for containers do not indicate an engine; Docker 29 has its own tables in nftables
    (own && chain.name != "DOCKER-USER") || (chain.backend == Backend::Native && chain.table.ends_with(" docker-bridges"))
}

/// Reads all rules. Without any program [`Firewall::programs`] is empty and nothing is known. A backend that cannot be read is a
/// gap, unless none can.
pub async fn read() -> Result<Firewall, ProbeError> {
    let mut firewall = Firewall::default();
    let mut failed = Vec::new();
    let keep = |result: Result<(), ProbeError>, failed: &mut Vec<ProbeError>| failed.extend(result.err());
    keep(add_nft(&mut firewall).await, &mut failed);
    keep(add_legacy(&mut firewall).await, &mut failed);
    keep(add_native(&mut firewall).await, &mut failed);
    if firewall.programs.is_empty()
        && let Some(error) = failed.pop()
    {
        return Err(error);
    }
    firewall.gaps.extend(failed.iter().map(ToString::to_string));
    Ok(firewall)
}

async fn add_nft(firewall: &mut Firewall) -> Result<(), ProbeError> {
    let Some(program) = variant(NFT, true).await? else { return Ok(()) };
    let text = listing(&Argv::new(program.save, &["-c"])).await?;
    saved::add(firewall, Backend::Nft, &text);
    firewall.programs.push((Backend::Nft, program.name.to_owned()));
    Ok(())
}

async fn add_legacy(firewall: &mut Firewall) -> Result<(), ProbeError> {
    let program = variant(LEGACY, false).await?;
    let tables = blocking::run("packet filter rules", LEGACY_TABLES, COMMAND_TIMEOUT, legacy_tables).await??;
    let Some(program) = program else {
        if !tables.is_empty() {
            firewall.gaps.push("there are legacy iptables rules and no iptables-legacy to list them".to_owned());
        }
        return Ok(());
    };
    for table in &tables {
        let argv = Argv::new(program.save, &["-c", "-t"]).operand(table);
        let text = listing(&argv.map_err(|why| ProbeError::failed("packet filter rules", program.save, &why))?).await?;
        saved::add(firewall, Backend::Legacy, &text);
    }
    firewall.programs.push((Backend::Legacy, program.name.to_owned()));
    Ok(())
}

async fn add_native(firewall: &mut Firewall) -> Result<(), ProbeError> {
    if !command::is_installed("nft").await {
        return Ok(());
    }
    let text = listing(&Argv::new("nft", &["--json", "--terse", "list", "ruleset"])).await?;
    match native::add(firewall, &text) {
        Ok(()) => firewall.programs.push((Backend::Native, "nft".to_owned())),
        Err(_) => firewall.gaps.push(format!("reading the rules of nftables: {UNEXPECTED_FORMAT}")),
    }
    Ok(())
}

/// The rules in the output of `nft --json list ruleset` or `iptables-save`, for tests.
#[cfg(any(test, feature = "fuzz"))]
#[must_use]
pub fn recorded(text: &str) -> Firewall {
    let mut firewall = Firewall::default();
    if text.trim_start().starts_with('{') {
        let _ = native::add(&mut firewall, text);
    } else {
        saved::add(&mut firewall, Backend::Nft, text);
    }
    firewall
}

/// The programs of an iptables variant.
#[derive(Debug, Clone, Copy)]
struct Iptables {
    name: &'static str,
    save: &'static str,
}

const NFT: Iptables = Iptables { name: "iptables-nft", save: "iptables-nft-save" };
const LEGACY: Iptables = Iptables { name: "iptables-legacy", save: "iptables-legacy-save" };
const PLAIN: Iptables = Iptables { name: "iptables", save: "iptables-save" };

/// The program of a variant: its specific one, or plain `iptables` if `--version` reports this variant.
async fn variant(own: Iptables, requires_nft: bool) -> Result<Option<Iptables>, ProbeError> {
    if command::is_installed(own.save).await {
        return Ok(Some(own));
    }
    if !command::is_installed(PLAIN.save).await {
        return Ok(None);
    }
    // before 1.8 there was only the legacy variant, without brackets in the version
    let is_nft = listing(&Argv::new(PLAIN.name, &["--version"])).await?.contains("nf_tables");
    Ok((is_nft == requires_nft).then_some(PLAIN))
}

/// Names of the legacy tables in this namespace.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";

fn legacy_tables(io: &Io) -> Result<Vec<String>, ProbeError> {
    match io.read_to_string(LEGACY_TABLES) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Err(denied(LEGACY_TABLES)),
        Err(e) => Err(ProbeError::io("packet filter rules", LEGACY_TABLES, &e)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_rules_are_listed_without_counters() {
        let saved = "# Generated by DOCKER fan\n*nat\n:PREROUTING ACCEPT [5:300]\n:DOCKER - [12:7]\n[3:4] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n[0:0] -A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";
        let mut firewall = Firewall::default();
        saved::add(&mut firewall, Backend::Nft, saved);
        assert_eq!(firewall.engine_rules(), ["nat :DOCKER -", "nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"]);
        assert_eq!(firewall.of_engine(), Some(Backend::Nft));
    }
}
