//! Users and groups of this host by name. Not by the C library: see [`resolve`](super::resolve).

use std::time::Duration;

use super::Io;
use super::command::{Argv, run_blocking};

/// Timeout of `getent`; a directory service may be on another host.
const GETENT_TIMEOUT: Duration = Duration::from_secs(5);

/// A database of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounts {
    /// Users: `/etc/passwd`.
    Users,
    /// Groups: `/etc/group`.
    Groups,
}

impl Accounts {
    /// The file with the accounts of this host.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Users => "/etc/passwd",
            Self::Groups => "/etc/group",
        }
    }

    /// The number of an account: from the file, else from the name service of this host (`getent`), which knows directory services.
    /// `None` if there is no such account.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn id(self, io: &Io, name: &str) -> std::io::Result<Option<u32>> {
        let text = io.read_lossy(self.file())?;
        Ok(named(&text, name).or_else(|| self.in_name_service(io, name)))
    }

    fn in_name_service(self, io: &Io, name: &str) -> Option<u32> {
        let database = match self {
            Self::Users => "passwd",
            Self::Groups => "group",
        };
        let argv = Argv::new("getent", &[database]).operand(name).ok()?;
        let exited = run_blocking(io, &argv, GETENT_TIMEOUT).ok().filter(|exited| exited.status.success())?;
        named(&exited.stdout, name)
    }
}

/// Field 3 of the line with this name: passwd(5) and group(5) agree up to there.
fn named(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn name_is_compared_completely() {
        let text = "root:x:0:0::/root:/bin/sh\nprom:x:123:4::/:/bin/false\nbroken\nprometheus:x:abc:1:::";
        assert_eq!((named(text, "root"), named(text, "prom"), named(text, "pro")), (Some(0), Some(123), None));
        assert_eq!((named(text, "prometheus"), named(text, "broken")), (None, None));
    }

    #[test]
    fn accounts_of_this_host() {
        let io = Io::for_test();
        assert_eq!(Accounts::Users.id(&io, "root").unwrap(), Some(0));
        assert_eq!(Accounts::Groups.id(&io, "root").unwrap(), Some(0));
        assert_eq!(Accounts::Groups.id(&io, "no such group").unwrap(), None);
    }
}
