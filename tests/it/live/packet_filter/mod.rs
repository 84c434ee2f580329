//! The predicted fate of connections equals that of real packets, for generated rules of iptables-nft, iptables-legacy and nft.

mod diagnosis;
mod iptables;
mod namespaces;
mod nft;
mod probe;
mod random;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use opsctl_core::probe::network::firewall::Backend;
use opsctl_core::probe::network::firewall::ruleset::{Flow, Listings, Ruleset, Verdict};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::lab::available;
use namespaces::{CLIENT, ROUTER, Row, SERVER, host};
use probe::{PORTS, Prober, agrees};
use random::Random;

/// Rule sets of each kind.
const SETS: [(Kind, u64); 4] = [(Kind::Nft, 230), (Kind::IptablesNft, 230), (Kind::Legacy, 60), (Kind::Mixed, 40)];

/// Connection attempts for each rule set.
const FLOWS: usize = 16;

/// Programs that write a rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nft,
    IptablesNft,
    Legacy,
    /// All of them.
    Mixed,
}

/// Rules as they were written.
#[derive(Debug, Default)]
struct Written {
    nft: Option<String>,
    iptables_nft: Option<String>,
    legacy: Option<String>,
}

fn written(kind: Kind, random: &mut Random) -> Written {
    let mut written = Written::default();
    if matches!(kind, Kind::Nft | Kind::Mixed) {
        written.nft = Some(nft::ruleset(random));
    }
    if matches!(kind, Kind::IptablesNft | Kind::Mixed) {
        written.iptables_nft = Some(iptables::ruleset(random));
    }
    if matches!(kind, Kind::Legacy | Kind::Mixed) {
        written.legacy = Some(iptables::ruleset(random));
    }
    written
}

/// Applies rules and returns them as the kernel has them; an error if the generated rules are not valid.
fn applied(row: &Row, written: &Written) -> Result<Ruleset, String> {
    let router = &row.router;
    let nft = format!("flush ruleset\n{}", written.nft.as_deref().unwrap_or_default());
    router.try_output(&["nft", "-f", "-"], nft)?;
    let mut iptables = Vec::new();
    for (backend, rules, restore, save) in [
        (Backend::Nft, &written.iptables_nft, "iptables-nft-restore", "iptables-nft-save"),
        (Backend::Legacy, &written.legacy, "iptables-legacy-restore", "iptables-legacy-save"),
    ] {
        if let Some(rules) = rules {
            router.try_output(&[restore], rules.clone())?;
            iptables.push((backend, router.output(&[save], String::new())));
        }
    }
    let json = written.nft.as_ref().map(|_| router.output(&["nft", "--json", "list", "ruleset"], String::new()));
    let json = json.map(|text| serde_json::from_str(&text).unwrap());
    let iptables: Vec<(Backend, &str)> = iptables.iter().map(|(backend, text)| (*backend, text.as_str())).collect();
    let nft = json.as_ref();
    Ok(Ruleset::parse(&Listings { iptables: &iptables, nft, nft_has_elements: true, ..Listings::default() }))
}

/// A connection attempt between any two hosts.
fn flow(random: &mut Random, prober: &mut Prober<'_>) -> Flow {
    let (input, source, destination): (Option<&str>, Ipv4Addr, Ipv4Addr) = match random.below(10) {
        0..=2 => (Some("ca"), random.of(CLIENT), random.of(&ROUTER[..2])),
        3..=4 => (Some("ca"), random.of(CLIENT), random.of(SERVER)),
        5 => (Some("br0"), random.of(SERVER), random.of(&ROUTER[..2])),
        6 => (Some("br0"), random.of(SERVER), random.of(CLIENT)),
        7 => (None, ROUTER[1], random.of(SERVER)),
        8 => (None, ROUTER[0], random.of(CLIENT)),
        _ => {
            let own = random.of(ROUTER);
            (None, own, own)
        }
    };
    let (source, destination, port) = (IpAddr::V4(source), IpAddr::V4(destination), random.of(PORTS));
    let flow = if random.one_in(3) { Flow::tcp } else { Flow::udp }(input, source, destination, port);
    Flow { source_port: prober.port(), ..flow }
}

#[test]
fn predicted_fate_equals_that_of_real_packets() {
    let root = rustix::process::geteuid().is_root();
    let tools = ["nft", "iptables-nft-restore", "unshare"].iter().all(|tool| which::which(tool).is_ok());
    if !available((!root).then_some("needs root").or((!tools).then_some("needs nft and iptables"))) {
        return;
    }
    // packets are queued per processor: on one, they arrive in the order in which they were sent
    let mut one = CpuSet::new();
    one.set(rustix::thread::sched_getcpu());
    let row = Row::new();
    sched_setaffinity(None, &one).unwrap();
    let mut prober = Prober::new(&row);
    let host = host();
    let legacy = which::which("iptables-legacy-restore").is_ok();
    let (mut compared, mut unknown, mut rejected, mut id, mut wrong) = (0_u64, 0_u64, 0_u64, 0_u64, Vec::new());
    let first = std::env::var("OPSCTL_FILTER_FIRST").ok().and_then(|seed| seed.parse::<u64>().ok()).unwrap_or(0);
    let (mut seed, only) = (first, std::env::var("OPSCTL_FILTER_SEED").ok().and_then(|seed| seed.parse::<u64>().ok()));
    let started = Instant::now();
    for (kind, count) in SETS {
        for _ in 0..count {
            seed += 1;
            if only.is_some_and(|only| only != seed) || (!legacy && matches!(kind, Kind::Legacy | Kind::Mixed)) {
                continue;
            }
            let mut random = Random::new(seed);
            let written = written(kind, &mut random);
            let rules = match applied(&row, &written) {
                Ok(rules) => rules,
                Err(error) => {
                    // other versions accept other rules
                    rejected += 1;
                    println!("seed {seed}: {error}");
                    continue;
                }
            };
            let before = wrong.len();
            for _ in 0..FLOWS {
                id += 1;
                let flow = flow(&mut random, &mut prober);
                let fate = rules.connection(&flow, &host);
                let observed = prober.observe(&flow, id);
                match agrees(&flow, &fate, &observed) {
                    Some(true) => compared += 1,
                    Some(false) => wrong.push(format!("seed {seed} {kind:?}\n{flow:?}\n{fate:?}\n{observed:?}")),
                    None => unknown += u64::from(fate.verdict == Verdict::Unknown),
                }
            }
            if wrong.len() > before {
                wrong.push(format!("{written:#?}").replace("\\n", "\n"));
            }
            assert!(wrong.len() < 8, "{}", wrong.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let summary =
        format!("{compared} connections compared, {unknown} unknown, {rejected} rule sets rejected, {:?}", started.elapsed());
    println!("{summary}");
    assert!(only.is_some() || compared > 5_000 && unknown < compared / 5 && rejected < 60, "{summary}");
}
