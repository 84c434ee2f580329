//! The cloud-config and the systemd unit that run opsctl at the first boot of a new machine.

use clap::ValueEnum;

/// The unit of the Debian package.
const PACKAGED: &str = include_str!("../../../packaging/systemd/opsctl-bootstrap.service");

/// Path of the binary in the package, and without the package.
const PACKAGED_BINARY: &str = "/usr/bin/opsctl";
const BINARY: &str = "/usr/local/bin/opsctl";

/// The unit for a machine without the package.
fn unit() -> String {
    PACKAGED.replace(PACKAGED_BINARY, BINARY)
}

/// Formats of `--emit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EmitFormat {
    /// A cloud-config, for user data
    CloudInit,
    /// A systemd unit, for an image
    Systemd,
}

/// Reads a SHA-256 in hex.
pub(super) fn sha256(text: &str) -> Result<String, String> {
    let valid = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if valid { Ok(text.to_lowercase()) } else { Err("expected 64 hex digits".to_owned()) }
}

/// The complete text.
pub(super) fn text(format: EmitFormat, from: Option<&str>, sha256: Option<&str>) -> String {
    let download = from.zip(sha256).map(|(url, sum)| download(url, sum));
    match (format, download) {
        (EmitFormat::Systemd, None) => unit(),
        (EmitFormat::Systemd, Some(script)) => {
            let line = format!("ExecStartPre=/bin/sh -ec {}\nExecStart=", quoted_for_systemd(&script));
            unit().replacen("ExecStart=", &line, 1)
        }
        (EmitFormat::CloudInit, script) => cloud_config(script.as_deref()),
    }
}

/// Downloads to a file beside the binary and renames it after its checksum was verified.
fn download(url: &str, sum: &str) -> String {
    let url = format!("'{}'", url.replace('\'', r"'\''"));
    format!(
        "[ -x {BINARY} ] && exit 0; curl -fsSL --retry 5 -o {BINARY}.new {url}; echo \"{sum}  {BINARY}.new\" | sha256sum -c -; chmod 755 {BINARY}.new; mv {BINARY}.new {BINARY}"
    )
}

/// systemd reads `%` and `$` itself, and `\` and `"` within quotes (systemd.service(5)).
fn quoted_for_systemd(script: &str) -> String {
    let escaped = script.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

fn cloud_config(script: Option<&str>) -> String {
    let head =
        "#cloud-config\n# checks this machine at boot and applies fixes that interrupt nothing; the report is in /var/lib/opsctl";
    let baked = script.is_none().then(|| format!("# the image has opsctl at {BINARY}"));
    let write = "write_files:\n  - path: /etc/systemd/system/opsctl-bootstrap.service\n    content: |";
    let unit = unit();
    let unit = unit.lines().map(|line| if line.is_empty() { String::new() } else { format!("      {line}") });
    // JSON is YAML
    let install = script.map(|script| format!("  - [sh, -ec, {}]", serde_json::Value::from(script)));
    let run = "  - [systemctl, daemon-reload]\n  - [systemctl, enable, opsctl-bootstrap.service]\n  - [systemctl, start, --no-block, opsctl-bootstrap.service]\n";
    let lines = [head.to_owned()].into_iter().chain(baked).chain([write.to_owned()]).chain(unit).chain(["runcmd:".to_owned()]);
    lines.chain(install).chain([run.to_owned()]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_is_installed_after_its_checksum_was_verified() {
        let sum = "0123456789abcdef".repeat(4);
        let unit = text(EmitFormat::Systemd, Some("https://example.org/opsctl?a=%20'b"), Some(&sum));
        assert!(unit.contains(r"ExecStartPre=/bin/sh -ec "), "{unit}");
        assert!(unit.contains(r"'https://example.org/opsctl?a=%%20'\\''b'"), "{unit}");
        let config = text(EmitFormat::CloudInit, Some("https://example.org/opsctl"), Some(&sum));
        assert!(config.starts_with("#cloud-config\n") && config.contains("sha256sum -c"), "{config}");
        assert!(!config.contains("the image has opsctl"));
        assert!(text(EmitFormat::Systemd, None, None).contains("\nExecStart=/usr/local/bin/opsctl bootstrap "));
    }

    #[test]
    fn checksum_is_64_hex_digits() {
        assert!(sha256(&"AB".repeat(32)).is_ok());
        for bad in ["", "abc", &"g".repeat(64)] {
            assert!(sha256(bad).is_err());
        }
    }
}
