//! `opsctl listen`: handles alerts over HTTP.

use std::net::SocketAddr;

use super::exit::{self, UsageError};
use super::{Global, ending, run};
use crate::config::Config;
use crate::listen::{ListenError, create_token, listen, token_path};
use crate::watchdog;

/// Handle alerts of Alertmanager and Grafana over HTTP, and apply fixes that `[policy] allow` lists
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; without it, `[listen] address`, or the socket passed by systemd
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<SocketAddr>,
    /// Create the token that clients send, unless it exists, and exit: `[listen] token_file`, or listen-token beside the configuration
    #[arg(long, conflicts_with = "address")]
    init: bool,
}

/// Runs the subcommand.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    super::init_tracing(global.verbose);
    watchdog::on_overdue(ending::of_line());
    let (config, limit) = run::bounded(None, || run::load(global), |config| config.deadline)?;
    // from here on each run has its own limit
    drop(limit);
    if args.init {
        return init(&config, global);
    }
    match run::block_on(listen(&config, args.address))? {
        Ok(()) => Ok(exit::OK),
        Err(e @ (ListenError::Open(_) | ListenError::Nowhere | ListenError::Callers(_))) => Err(UsageError(e.to_string()).into()),
        Err(e) => Err(e.into()),
    }
}

/// Creates the token. It is not printed, so that no terminal or log contains it.
fn init(config: &Config, global: &Global) -> anyhow::Result<u8> {
    let path = token_path(config);
    let created = create_token(&path)?;
    if !global.quiet {
        let done = if created { "wrote" } else { "kept" };
        let file = path.display();
        watchdog::print(&format!("{done} {file}; clients send its content as `Authorization: Bearer TOKEN`\n"))?;
    }
    Ok(exit::OK)
}
