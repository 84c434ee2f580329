//! `opsctl listen`: answer alerts over HTTP.

use std::net::SocketAddr;

use super::exit::{self, Usage};
use super::{Global, ending, run};
use crate::listen::{ListenError, listen};
use crate::render;
use crate::watchdog;

/// Answer alerts of Alertmanager and Grafana over HTTP, and apply what `[policy] allow` names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; without it, `[listen] address`, or the socket that systemd opened
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<SocketAddr>,
}

/// Runs it.
pub fn exec(args: &Args, global: &Global) -> anyhow::Result<u8> {
    render::init_tracing(global.verbose);
    watchdog::on_overdue(ending::of_line());
    let (config, limit) = run::bounded(None, || run::load(global), |config| config.deadline)?;
    // from here on each look has its own
    drop(limit);
    match run::block_on(listen(&config, args.address))? {
        Ok(()) => Ok(exit::OK),
        Err(e @ ListenError::Open(_)) => Err(Usage(e.to_string()).into()),
        Err(e) => Err(e.into()),
    }
}
