//! `opsctl listen`: answer alerts over HTTP.

use std::net::SocketAddr;

use super::exit::{self, Usage};
use super::{Global, ending, run};
use crate::config::Config;
use crate::listen::{ListenError, create_token, listen, token_path};
use crate::render;
use crate::watchdog;

/// Answer alerts of Alertmanager and Grafana over HTTP, and apply what `[policy] allow` names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; without it, `[listen] address`, or the socket that systemd opened
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<SocketAddr>,
    /// Create the token that callers send, unless there is one, and stop: `[listen] token_file`, or listen-token beside the configuration
    #[arg(long, conflicts_with = "address")]
    init: bool,
}

/// Runs it.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    render::init_tracing(global.verbose);
    watchdog::on_overdue(ending::of_line());
    let (config, limit) = run::bounded(None, || run::load(global), |config| config.deadline)?;
    // from here on each look has its own
    drop(limit);
    if args.init {
        return init(&config, global);
    }
    match run::block_on(listen(&config, args.address))? {
        Ok(()) => Ok(exit::OK),
        Err(e @ (ListenError::Open(_) | ListenError::Nowhere | ListenError::Callers(_))) => Err(Usage(e.to_string()).into()),
        Err(e) => Err(e.into()),
    }
}

/// Creates the token. It is not printed: a terminal and a log keep what is.
fn init(config: &Config, global: &Global) -> anyhow::Result<u8> {
    let path = token_path(config);
    let created = create_token(&path)?;
    if !global.quiet {
        let done = if created { "wrote" } else { "kept" };
        let file = path.display();
        render::print(&format!("{done} {file}; callers send its content as `Authorization: Bearer TOKEN`\n"))?;
    }
    Ok(exit::OK)
}
