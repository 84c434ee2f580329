//! Images without a registry: a directory, packed and imported.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Contents of an image. All of them have the fixture as `/bin/fixture`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rootfs {
    /// Nothing else: no shell.
    Scratch,
    /// A shell and a few applets, no HTTP client.
    Shell,
    /// The programs of this machine, mounted ([`super::MACHINE`]), and its users.
    Machine,
    /// The fixture under the name of the product that it imitates: `loki`, `alloy`, `grafana`.
    Stub(&'static str),
    /// [`Rootfs::Shell`] with `bash` and `nc`.
    Tools,
}

impl Rootfs {
    /// Creates it below `into`.
    pub(super) fn lay_out(self, into: &Path) {
        let bin = into.join("bin");
        let make = || -> std::io::Result<()> {
            if self == Self::Machine {
                for directory in ["tmp", "etc", "run", "proc", "sys", "dev", "root", "var/tmp", "data"] {
                    fs::create_dir_all(into.join(directory))?;
                }
                for link in ["bin", "sbin", "lib", "lib64"] {
                    symlink(format!("usr/{link}"), into.join(link))?;
                }
                for file in ["passwd", "group", "ld.so.cache", "nsswitch.conf"] {
                    fs::copy(Path::new("/etc").join(file), into.join("etc").join(file))?;
                }
                return Ok(());
            }
            fs::create_dir_all(&bin)?;
            fs::create_dir_all(into.join("tmp"))?;
            fs::create_dir_all(into.join("etc"))?;
            // its shebang-less copy keeps the mode
            fs::copy(fixture(), bin.join("fixture"))?;
            if let Self::Stub(name) = self {
                symlink("fixture", bin.join(name))?;
            }
            if matches!(self, Self::Scratch | Self::Stub(_)) {
                return Ok(());
            }
            fs::copy(which::which("busybox").unwrap_or_else(|e| panic!("busybox: {e}")), bin.join("busybox"))?;
            for applet in ["sh", "sleep", "cat", "echo", "printf", "touch", "dd", "rm", "mv"] {
                symlink("busybox", bin.join(applet))?;
            }
            if self == Self::Tools {
                symlink("busybox", bin.join("nc"))?;
                // found in the PATH, never run: its libraries can stay behind
                fs::copy("/bin/bash", bin.join("bash"))?;
            }
            Ok(())
        };
        make().unwrap_or_else(|e| panic!("laying out {self:?} in {}: {e}", into.display()));
    }
}

/// The fixture on this machine; built if it is missing or out of date.
pub(super) fn fixture() -> &'static Path {
    static FIXTURE: OnceLock<PathBuf> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        // tests/run builds it once for all tests; without it, every process runs cargo
        if let Some(path) = std::env::var_os("OPSCTL_LAB_FIXTURE") {
            return path.into();
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/build-fixture");
        let output = Command::new(script).output().unwrap_or_else(|e| panic!("{script}: {e}"));
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().into()
    })
}
