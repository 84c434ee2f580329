//! Standard output that may take nothing: a full pipe, a terminal that was stopped, a filesystem that hangs.

use std::io::{self, Write as _};

use rustix::pipe::fcntl_setpipe_size;
use rustix::stdio::stdout;

/// The largest pipe that a report is put into.
const MAX_PIPE_BYTES: usize = 16 << 20;

/// Bytes written at once, so that progress can be seen.
const CHUNK_BYTES: usize = 4 << 10;

/// Prints a whole text for the run.
pub fn print(text: &str) -> io::Result<()> {
    super::claim();
    make_room(text);
    let mut out = io::stdout().lock();
    for chunk in text.as_bytes().chunks(CHUNK_BYTES) {
        out.write_all(chunk)?;
        super::wrote();
    }
    out.flush()
}

/// Writes a whole text for the watchdog: past the lock and the buffer of `io::stdout()`, which the run may hold.
pub(super) fn raw(text: &str) {
    make_room(text);
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(stdout(), rest) {
            Ok(0) => return,
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // the reader has gone, or the descriptor does not block and is full
            Err(_) => return,
        }
    }
}

/// Lets a pipe take the whole text at once: a pager reads only what it shows, and must not hold the run.
fn make_room(text: &str) {
    if text.len() > 64 << 10 {
        // fails where it is no pipe, and for users above /proc/sys/fs/pipe-max-size
        let _ = fcntl_setpipe_size(stdout(), text.len().min(MAX_PIPE_BYTES)).or_else(|_| fcntl_setpipe_size(stdout(), 1 << 20));
    }
}
