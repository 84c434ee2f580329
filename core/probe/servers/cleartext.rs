//! A PostgreSQL connection that is aborted when the server requests a password in clear text without permission.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Bounded;

/// `AuthenticationCleartextPassword` (PostgreSQL, "Message Formats").
const CLEARTEXT: u32 = 3;

/// Error text of a rejected request.
pub(super) const REFUSED: &str = "the server requests the password in clear text";

/// Follows the messages of the server until authentication is complete.
#[derive(Debug)]
pub(super) struct NoCleartext {
    stream: Bounded,
    watch: Watch,
}

impl NoCleartext {
    /// `permitted`: a unix socket with a proven peer, or TLS has verified the server.
    pub(super) fn new(stream: Bounded, permitted: bool) -> Self {
        Self { stream, watch: Watch { done: permitted, ..Watch::default() } }
    }
}

/// State of the message parser.
#[derive(Debug, Default)]
pub(super) struct Watch {
    done: bool,
    /// Beginning of a message: type, length, and the code of an authentication request.
    head: Vec<u8>,
    /// Remaining bytes of the message.
    skip: usize,
}

impl Watch {
    /// Inspects received bytes; `true` on a request for the password in clear text.
    pub(super) fn sees_request(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            if self.done {
                return false;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.head.push(*byte);
            let number = |at: usize| self.head.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
            match (self.head[0], self.head.len()) {
                (b'R', 5) => {}
                (b'R', 9) => {
                    let code = number(5).unwrap_or(CLEARTEXT);
                    if code == CLEARTEXT {
                        return true;
                    }
                    // 0 is AuthenticationOk: no password is requested after it
                    self.done = code == 0;
                    self.next(number(1), 8);
                }
                (other, 5) if other != b'R' => self.next(number(1), 4),
                _ => {}
            }
        }
        false
    }

    /// Skips the rest of a message of `length` bytes (including the length field), of which `read` bytes are consumed.
    fn next(&mut self, length: Option<u32>, read: usize) {
        self.head.clear();
        self.skip = usize::try_from(length.unwrap_or(0)).unwrap_or(0).saturating_sub(read);
    }
}

impl AsyncRead for NoCleartext {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let (watch, bytes) = (&mut self.watch, &buffer.filled()[before..]);
        if watch.sees_request(bytes) {
            return Poll::Ready(Err(std::io::Error::other(REFUSED)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for NoCleartext {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: &[u8] = b"N\0\0\0\x06xx";
    const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    const REQUEST: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

    fn sees(bytes: &[u8], piece: usize) -> bool {
        let mut watch = Watch::default();
        bytes.chunks(piece).any(|piece| watch.sees_request(piece))
    }

    #[test]
    fn cleartext_request_is_detected_across_chunks() {
        for piece in [1, 2, 3, 7, 100] {
            assert!(sees(REQUEST, piece) && sees(&[NOTICE, SCRAM, REQUEST].concat(), piece), "{piece}");
            assert!(!sees(&[NOTICE, SCRAM, OK, REQUEST].concat(), piece), "{piece}");
            assert!(!sees(SCRAM, piece));
        }
    }
}
