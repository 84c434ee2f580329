//! Supplementary groups of the peer of a Unix socket at connection time (`SO_PEERGROUPS`, unix(7)).
#![allow(unsafe_code, reason = "getsockopt(SO_PEERGROUPS) is not wrapped by a safe crate in use")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `NGROUPS_MAX`: the kernel's limit of groups of a process.
const MAX_GROUPS: usize = 65_536;

/// The supplementary group ids of the peer of a connected Unix stream socket. `SO_PEERCRED` contains only its primary group.
pub fn of(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let size = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(size).unwrap_or(0);
        // SAFETY: the descriptor is borrowed and therefore open during the call; the kernel writes at most `length` bytes to
        // `groups`, which is that long and exclusively borrowed, and sets `length` to the written or required size; any bytes are
        // valid numbers
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MAX_GROUPS {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn groups_of_this_process() {
        let (local, _remote) = UnixStream::pair().unwrap();
        let mut expected: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(rustix::process::Gid::as_raw).collect();
        let mut groups = of(local.as_fd()).unwrap();
        expected.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, expected);
    }

    #[test]
    fn file_descriptor_has_no_peer_groups() {
        assert!(of(std::fs::File::open("/").unwrap().as_fd()).is_err());
    }
}
