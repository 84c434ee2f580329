//! `[listen]`: how `opsctl listen` is reached and who may call it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::Problem;
use super::raw;
use super::valid::duration;

/// The table, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where it listens.
    pub address: SocketAddr,
    /// File of the token.
    pub token_file: Option<PathBuf>,
    /// File of the secret that requests are signed with.
    pub hmac_secret_file: Option<PathBuf>,
    /// Header of the signature.
    pub hmac_header: String,
    /// Header of the moment that is signed too.
    pub hmac_timestamp_header: Option<String>,
    /// How many alerts may wait.
    pub queue: usize,
    /// How long after its answer the same alert is not answered again.
    pub repeat_after: Duration,
}

/// Checks it.
pub(super) fn validate(raw: &raw::Listen) -> Result<Listen, Problem> {
    let address = raw.address.get_ref().parse().map_err(|_| {
        let why = format!("`address` in [listen]: `{}` is not an address such as `127.0.0.1:9797`", raw.address.get_ref());
        Problem::new(raw.address.span(), why)
    })?;
    let repeat_after = duration(raw.repeat_after.get_ref())
        .map_err(|why| Problem::new(raw.repeat_after.span(), format!("`repeat_after` in [listen]: {why}")))?;
    Ok(Listen {
        address,
        token_file: raw.token_file.as_ref().map(PathBuf::from),
        hmac_secret_file: raw.hmac_secret_file.as_ref().map(PathBuf::from),
        hmac_header: raw.hmac_header.clone(),
        hmac_timestamp_header: raw.hmac_timestamp_header.clone(),
        queue: usize::try_from(raw.queue.max(1)).unwrap_or(usize::MAX),
        repeat_after,
    })
}
