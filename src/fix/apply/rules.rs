//! One rule of iptables, added at the head of its chain or taken away, whatever else is there.

use std::time::Duration;

use opsctl_core::probe::command::{self, Argv};

/// Long enough to wait for another program that holds the lock of the tables.
const PATIENCE: Duration = Duration::from_secs(10);

async fn run(argv: &[&str]) -> Result<command::Ended, String> {
    command::run(&Argv::of_action(argv)?, PATIENCE).await
}

fn line<'a>(program: &'a str, table: &'a str, what: &[&'a str], rule: &'a [String]) -> Vec<&'a str> {
    [&[program, "-w", "-t", table], what].concat().into_iter().chain(rule.iter().map(String::as_str)).collect()
}

async fn is_there(program: &str, table: &str, chain: &str, rule: &[String]) -> Result<bool, String> {
    Ok(run(&line(program, table, &["-C", chain], rule)).await?.status.success())
}

/// Adds it, unless it is there.
pub(super) async fn add(program: &str, table: &str, chain: &str, rule: &[String]) -> Result<(), String> {
    if is_there(program, table, chain, rule).await? {
        return Ok(());
    }
    let ended = run(&line(program, table, &["-I", chain, "1"], rule)).await?;
    if ended.status.success() { Ok(()) } else { Err(ended.last_words()) }
}

/// Takes it away, if it is there; `tidy` also takes the chain and the table of nftables away that it brought into being, once they are empty.
pub(super) async fn remove(program: &str, table: &str, chain: &str, rule: &[String], tidy: bool) -> Result<(), String> {
    if is_there(program, table, chain, rule).await? {
        let ended = run(&line(program, table, &["-D", chain], rule)).await?;
        if !ended.status.success() {
            return Err(ended.last_words());
        }
    }
    if tidy && command::is_installed("nft").await {
        // fails when somebody else has put a rule there, and then it stays
        let emptied = run(&["nft", "delete", "chain", "ip", table, chain]).await?;
        if emptied.status.success() && chains(table).await == Some(0) {
            run(&["nft", "delete", "table", "ip", table]).await?;
        }
    }
    Ok(())
}

/// How many chains a table of nftables has; none when it cannot be listed.
async fn chains(table: &str) -> Option<usize> {
    let listed = run(&["nft", "--json", "list", "table", "ip", table]).await.ok().filter(|e| e.status.success())?;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).ok()?;
    Some(listed.get("nftables")?.as_array()?.iter().filter(|item| item.get("chain").is_some()).count())
}
