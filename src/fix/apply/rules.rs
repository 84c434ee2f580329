//! Adds or removes one iptables rule; other rules are not touched.

use std::time::Duration;

use opsctl_core::probe::io::command;
use opsctl_core::probe::io::command::Argv;

/// Long enough to wait for another program that holds the xtables lock.
const RULE_TIMEOUT: Duration = Duration::from_secs(10);

async fn run(argv: &[&str]) -> Result<command::CommandOutput, String> {
    command::run(&Argv::of_action(argv)?, RULE_TIMEOUT).await
}

fn line<'a>(program: &'a str, table: &'a str, command: &[&'a str], rule: &'a [String]) -> Vec<&'a str> {
    [&[program, "-w", "-t", table], command].concat().into_iter().chain(rule.iter().map(String::as_str)).collect()
}

async fn is_there(program: &str, table: &str, chain: &str, rule: &[String]) -> Result<bool, String> {
    Ok(run(&line(program, table, &["-C", chain], rule)).await?.status.success())
}

/// Adds the rule at the head of its chain unless it exists.
pub(super) async fn add(program: &str, table: &str, chain: &str, rule: &[String]) -> Result<(), String> {
    if is_there(program, table, chain, rule).await? {
        return Ok(());
    }
    let ended = run(&line(program, table, &["-I", chain, "1"], rule)).await?;
    if ended.status.success() { Ok(()) } else { Err(ended.last_line()) }
}

/// Removes the rule if it exists; `tidy` also removes the nftables chain and table that it created, once they are empty.
pub(super) async fn remove(program: &str, table: &str, chain: &str, rule: &[String], tidy: bool) -> Result<(), String> {
    if is_there(program, table, chain, rule).await? {
        let ended = run(&line(program, table, &["-D", chain], rule)).await?;
        if !ended.status.success() {
            return Err(ended.last_line());
        }
    }
    if tidy && command::is_installed("nft").await {
        // fails if another program has added a rule to the chain, and then the chain is kept
        let emptied = run(&["nft", "delete", "chain", "ip", table, chain]).await?;
        if emptied.status.success() && chains(table).await == Some(0) {
            run(&["nft", "delete", "table", "ip", table]).await?;
        }
    }
    Ok(())
}

/// Number of chains of an nftables table; `None` if it cannot be listed.
async fn chains(table: &str) -> Option<usize> {
    let listed = run(&["nft", "--json", "list", "table", "ip", table]).await.ok().filter(|e| e.status.success())?;
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).ok()?;
    Some(listed.get("nftables")?.as_array()?.iter().filter(|item| item.get("chain").is_some()).count())
}
