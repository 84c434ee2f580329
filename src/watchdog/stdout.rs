//! Writes to a standard output that may block: a full pipe, a stopped terminal, a hanging filesystem.

use std::io::{self, Write as _};

use rustix::pipe::fcntl_setpipe_size;
use rustix::stdio::stdout;

/// Maximum size of a pipe for a report.
const MAX_PIPE_BYTES: usize = 16 << 20;

/// Bytes per write, so that progress is visible.
const CHUNK_BYTES: usize = 4 << 10;

/// Prints a complete text for the run.
pub fn print(text: &str) -> io::Result<()> {
    super::claim();
    enlarge_pipe(text);
    let mut out = io::stdout().lock();
    for chunk in text.as_bytes().chunks(CHUNK_BYTES) {
        out.write_all(chunk)?;
        super::wrote();
    }
    out.flush()
}

/// Writes a complete text for the watchdog, bypassing the lock and the buffer of `io::stdout()`, which the run may hold.
pub(super) fn raw(text: &str) {
    enlarge_pipe(text);
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(stdout(), rest) {
            Ok(0) => return,
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // the reader has closed the pipe, or the descriptor is non-blocking and full
            Err(_) => return,
        }
    }
}

/// Enlarges a pipe to the whole text: a pager reads only the displayed part, and must not block the run.
fn enlarge_pipe(text: &str) {
    if text.len() > 64 << 10 {
        // fails if it is not a pipe, and for users above /proc/sys/fs/pipe-max-size
        let _ = fcntl_setpipe_size(stdout(), text.len().min(MAX_PIPE_BYTES)).or_else(|_| fcntl_setpipe_size(stdout(), 1 << 20));
    }
}
