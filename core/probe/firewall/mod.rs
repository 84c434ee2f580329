//! The packet filter of this host's network namespace: both backends of iptables, and nftables itself.
//!
//! Programs are asked, because the legacy tables have no other stable interface and nftables' own is not stable. Listing a legacy table
//! creates it, and with it the warning that both kinds are in use: only tables that `/proc/net/ip_tables_names` names are listed.

#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod native;
mod persisted;
mod saved;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::Argv;
use super::{Io, ProbeError, blocking, command};

pub use persisted::{Persisted, persisted};

/// Long enough to wait for another program that holds the lock of the tables.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who keeps rules.
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
    /// The program a person would use.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft",
            Self::Legacy => "iptables-legacy",
            Self::Native => "nft",
        }
    }
}

/// What a rule does with a packet it matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", content = "to")]
pub enum Effect {
    /// Lets it through; the rest of the chain is not asked.
    Accept,
    /// Drops or rejects it.
    Drop,
    /// Goes back to the calling chain.
    Return,
    /// Asks another chain.
    Jump(String),
    /// Lowers the segment size in a SYN to what this host knows of the path.
    ClampMss,
    /// Lowers it to a number.
    SetMss(u32),
    /// Gives it this host's address.
    Masquerade,
    /// Anything else.
    #[default]
    Other,
}

impl Effect {
    /// No later rule of the chain sees a packet that this one matched.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Accept | Self::Drop | Self::Return)
    }
}

/// A rule.
#[expect(clippy::struct_excessive_bools, reason = "each says one thing that a rule asks for, and they are not exclusive")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Who keeps it.
    pub backend: Backend,
    /// `mangle`, or of nftables `inet filter`.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Interface packets come in by; `!` in front negates.
    pub input: Option<String>,
    /// Interface packets leave by; `!` in front negates.
    pub output: Option<String>,
    /// Source network.
    pub source: Option<String>,
    /// It matches every packet.
    pub every: bool,
    /// It asks for nothing but interfaces.
    pub plain: bool,
    /// It matches packets of connections that exist already, and no others.
    pub established: bool,
    /// It matches ICMP "fragmentation needed", and little else.
    pub icmp: bool,
    /// What it does.
    pub effect: Effect,
    /// How many packets it matched.
    pub packets: Option<u64>,
    /// As it is listed, without its counters.
    pub text: String,
}

impl Rule {
    /// One that matches everything and does nothing, until what is read says more.
    fn new(backend: Backend, table: String, chain: String) -> Self {
        Self {
            backend,
            table,
            chain,
            input: None,
            output: None,
            source: None,
            every: true,
            plain: true,
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
    /// Who keeps it.
    pub backend: Backend,
    /// Its table.
    pub table: String,
    /// Name.
    pub name: String,
    /// `PREROUTING`, `INPUT`, `FORWARD`, `OUTPUT`, `POSTROUTING`: where packets come to it by themselves.
    pub hook: Option<String>,
    /// What happens to packets that no rule decided; true lets them through.
    pub accepts: bool,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Firewall {
    /// Chains.
    pub chains: Vec<Chain>,
    /// Rules, in the order in which each chain asks them.
    pub rules: Vec<Rule>,
    /// Chains that nftables has by itself, those of iptables included: `ip mangle FORWARD`.
    pub nft_chains: BTreeSet<String>,
    /// The program that changes rules of a backend of iptables.
    pub programs: Vec<(Backend, String)>,
    /// What could not be read, and why.
    pub gaps: Vec<String>,
}

impl Firewall {
    /// The backend in which the container engine keeps its rules, if it has any.
    #[must_use]
    pub fn of_engine(&self) -> Option<Backend> {
        self.chains.iter().find(|c| is_of_engine(c)).map(|c| c.backend)
    }

    /// Every chain and rule that speaks of the container engine's chains, each with its table in front: `nat -A PREROUTING … -j DOCKER`.
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

    /// Where a rule's chain is asked; none for a chain that only others jump to.
    #[must_use]
    pub fn hook_of(&self, rule: &Rule) -> Option<&str> {
        let own = |c: &&Chain| c.backend == rule.backend && c.table == rule.table && c.name == rule.chain;
        self.chains.iter().find(own)?.hook.as_deref()
    }

    /// The rule before `rule` in its chain that lets no packet come to it, if there is one.
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
    // somebody's own rules for containers are no sign of the engine; Docker 29 keeps tables of its own in nftables
    (own && chain.name != "DOCKER-USER") || (chain.backend == Backend::Native && chain.table.ends_with(" docker-bridges"))
}

/// Reads everything that is there. Without any program of a packet filter [`Firewall::programs`] is empty: nothing is known then.
pub async fn read() -> Result<Firewall, ProbeError> {
    let mut firewall = Firewall::default();
    let nft = variant(NFT, true).await?;
    let legacy = variant(LEGACY, false).await?;
    if let Some(program) = nft {
        let text = listing(&Argv::new(program.save, &["-c"])).await?;
        saved::add(&mut firewall, Backend::Nft, &text);
        firewall.programs.push((Backend::Nft, program.name.to_owned()));
    }
    let tables = blocking::run("packet filter rules", LEGACY_TABLES, PATIENCE, legacy_tables).await??;
    if let Some(program) = legacy {
        for table in &tables {
            let argv = Argv::new(program.save, &["-c", "-t"]).operand(table);
            let text = listing(&argv.map_err(|why| ProbeError::failed("packet filter rules", program.save, &why))?).await?;
            saved::add(&mut firewall, Backend::Legacy, &text);
        }
        firewall.programs.push((Backend::Legacy, program.name.to_owned()));
    } else if !tables.is_empty() {
        firewall.gaps.push("there are legacy iptables rules and no iptables-legacy to list them".to_owned());
    }
    if command::is_installed("nft").await {
        let text = listing(&Argv::new("nft", &["--json", "--terse", "list", "ruleset"])).await?;
        match native::add(&mut firewall, &text) {
            Ok(()) => firewall.programs.push((Backend::Native, "nft".to_owned())),
            Err(e) => firewall.gaps.push(format!("reading the rules of nftables: {e}")),
        }
    }
    Ok(firewall)
}

/// The programs of one kind of iptables.
#[derive(Debug, Clone, Copy)]
struct Iptables {
    name: &'static str,
    save: &'static str,
}

const NFT: Iptables = Iptables { name: "iptables-nft", save: "iptables-nft-save" };
const LEGACY: Iptables = Iptables { name: "iptables-legacy", save: "iptables-legacy-save" };
const PLAIN: Iptables = Iptables { name: "iptables", save: "iptables-save" };

/// The program of a kind: its own one, or plain `iptables` when that reports that it is this kind.
async fn variant(own: Iptables, wants_nft: bool) -> Result<Option<Iptables>, ProbeError> {
    if command::is_installed(own.save).await {
        return Ok(Some(own));
    }
    if !command::is_installed(PLAIN.save).await {
        return Ok(None);
    }
    // before 1.8 there was one kind only and nothing in brackets
    let is_nft = listing(&Argv::new(PLAIN.name, &["--version"])).await?.contains("nf_tables");
    Ok((is_nft == wants_nft).then_some(PLAIN))
}

/// Names of the legacy tables that exist in this namespace.
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
    ProbeError::Denied { what: "packet filter rules".into(), from: from.into(), needs: "root".into() }
}

async fn listing(argv: &Argv) -> Result<String, ProbeError> {
    let from = argv.program();
    let ended = command::read(argv, PATIENCE).await.map_err(|why| ProbeError::failed("packet filter rules", from, &why))?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    let words = ended.last_words();
    let no = ["ermission denied", "Operation not permitted", "you must be root"];
    Err(if no.iter().any(|n| words.contains(n)) { denied(from) } else { ProbeError::failed("packet filter rules", from, &words) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_engine_s_rules_count_and_counters_do_not() {
        let saved = "# Generated by DOCKER fan\n*nat\n:PREROUTING ACCEPT [5:300]\n:DOCKER - [12:7]\n[3:4] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n[0:0] -A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";
        let mut firewall = Firewall::default();
        saved::add(&mut firewall, Backend::Nft, saved);
        assert_eq!(firewall.engine_rules(), ["nat :DOCKER -", "nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"]);
        assert_eq!(firewall.of_engine(), Some(Backend::Nft));
    }
}
