//! User data as cloud-init received it, and whether it recognises its form.
//!
//! A part is recognised by its first line, or by a MIME header (`cloudinit/user_data.py`, `convert_string`; `cloudinit/handlers`,
//! `type_from_starts_with`); of anything else nothing is applied, with a warning only: "Unhandled non-multipart
//! (text/x-not-multipart) userdata" (canonical/cloud-init#4239, #6178; hetznercloud/terraform-provider-hcloud#150). Its text may be
//! secret and is not kept.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::probe::Io;

/// Beginnings that cloud-init recognises, in lower case (cloudinit/handlers, `INCLUSION_TYPES_MAP`).
const HEADERS: &[&str] =
    &["#!", "#cloud-config", "#include", "#cloud-boothook", "#part-handler", "## template: jinja", "#upstart-job"];

/// Bytes in which cloud-init looks for a MIME header.
const MIME_BYTES: usize = 4096;

/// Bytes of user data that are read; data sources accept less (EC2: 16 KiB, `NoCloud` any size).
const MAX_BYTES: u64 = 1 << 20;

/// Directories of the data source `NoCloud` on the root filesystem.
const SEEDS: &[&str] = &["var/lib/cloud/seed/nocloud/user-data", "var/lib/cloud/seed/nocloud-net/user-data"];

/// Time after the first boot in which a change of the seed belongs to its creation (judgement).
const AFTER_FIRST_BOOT: SignedDuration = SignedDuration::from_mins(10);

/// The form of user data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Not readable, or a form that cloud-init recognises, also none.
    #[default]
    Recognised,
    /// YAML without its header.
    Yaml,
    /// `# cloud-config`, `#cloud_config`.
    Misspelt,
    /// The header is in a later line.
    LaterHeader,
    /// A byte order mark precedes the header.
    ByteOrderMark,
    /// Encoded once more than the data source decodes.
    Base64,
    /// Other text, which another program may read: JSON, variables.
    Other,
}

/// User data of the present instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserData {
    /// Its form.
    pub form: Form,
    /// A seed with this user data that was changed after the first boot of the instance: its path and the time.
    pub edited: Option<(String, Timestamp)>,
    /// The first boot of the instance.
    pub first_boot: Option<Timestamp>,
}

/// The user data below a root, usually `/`; readable by root only.
#[must_use]
pub fn read(io: &Io, root: &Path) -> UserData {
    let instance = root.join("var/lib/cloud/instance");
    let Some(data) = bytes(io, &instance.join("user-data.txt")) else { return UserData::default() };
    // a file per module that runs once an instance
    let first_boot = modified(io, &instance.join("sem/config_scripts_user"));
    let edited = first_boot.and_then(|first| {
        SEEDS.iter().find_map(|seed| {
            let path = root.join(seed);
            let at = modified(io, &path).filter(|at| at.duration_since(first) > AFTER_FIRST_BOOT)?;
            // the machine was started with it since then, as the same instance
            let is_used = bytes(io, &path).is_some_and(|seed| !seed.is_empty() && seed == data);
            is_used.then(|| (format!("/{seed}"), at))
        })
    });
    UserData { form: form(&data), edited, first_boot }
}

fn bytes(io: &Io, path: &Path) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    io.open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn modified(io: &Io, path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(io.metadata(path).ok()?.modified().ok()?).ok()
}

/// The form of these bytes.
#[must_use]
pub fn form(data: &[u8]) -> Form {
    let gzip = data.starts_with(&[0x1f, 0x8b]);
    let text = String::from_utf8_lossy(data).to_lowercase();
    let start = text.trim_start();
    let mime = String::from_utf8_lossy(&data[..data.len().min(MIME_BYTES)]).to_lowercase();
    // a MIME header without a version is judged by the warning of cloud-init alone
    let is_mime = mime.contains("mime-version:") || start.starts_with("content-type:");
    if gzip || start.is_empty() || is_mime || HEADERS.iter().any(|header| start.starts_with(header)) {
        return Form::Recognised;
    }
    if start.strip_prefix('\u{feff}').is_some_and(|rest| HEADERS.iter().any(|header| rest.trim_start().starts_with(header))) {
        return Form::ByteOrderMark;
    }
    let mut lines = start.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let spelling: String = first.chars().filter(char::is_ascii_alphabetic).collect();
    if first.starts_with('#') && spelling == "cloudconfig" {
        return Form::Misspelt;
    }
    if lines.any(|line| line == "#cloud-config") {
        return Form::LaterHeader;
    }
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    if first.len() >= 40 && first.chars().all(is_base64) {
        return Form::Base64;
    }
    let is_key = |line: &str| {
        let key = line.split_once(':').filter(|(_, rest)| rest.is_empty() || rest.starts_with(' ')).map(|(key, _)| key);
        key.is_some_and(|key| !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | '-')))
    };
    let content = start.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    if content.is_some_and(is_key) { Form::Yaml } else { Form::Other }
}

/// Whether a warning of cloud-init means that it recognised nothing of the user data.
#[must_use]
pub fn is_unhandled(warning: &str) -> bool {
    warning.contains("Unhandled non-multipart") || warning.contains("Unhandled unknown content-type")
}

/// Whether a warning of cloud-init means that the YAML of the user data is not valid.
#[must_use]
pub fn is_invalid_yaml(warning: &str) -> bool {
    warning.contains("Failed loading yaml blob") || warning.contains("Failed at merging in cloud config part")
}

/// `line 3 column 5` of such a warning.
#[must_use]
pub fn position(warning: &str) -> Option<String> {
    let after = warning.split_once("line ")?.1;
    let (line, rest) = after.split_once([' ', ','])?;
    let column = rest.trim_start().strip_prefix("column ")?;
    let column: String = column.chars().take_while(char::is_ascii_digit).collect();
    (line.parse::<u32>().is_ok() && !column.is_empty()).then(|| format!("line {line} column {column}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn recognised_forms() {
        for text in [
            "#cloud-config\nx: 1",
            "\n\n#Cloud-Config\n",
            "#!/bin/sh\n",
            "#include\nhttp://x",
            "## template: jinja\n#cloud-config\n",
            "#cloud-config-archive\n",
            "#cloud-boothook\n",
            "#part-handler\n",
            "Content-Type: multipart/mixed; boundary=x\nMIME-Version: 1.0\n",
            "From nobody\nMIME-Version: 1.0\n",
            "",
            " \n",
        ] {
            assert_eq!(form(text.as_bytes()), Form::Recognised, "{text:?}");
        }
        assert_eq!(form(&[0x1f, 0x8b, 8, 0]), Form::Recognised, "gzip");
    }

    #[test]
    fn forms_of_which_nothing_is_applied() {
        assert_eq!(form(b"packages:\n  - nginx\n"), Form::Yaml);
        assert_eq!(form(b"# my server\nruncmd: [[ls]]\n"), Form::Yaml);
        assert_eq!(form(b"# cloud-config\npackages: [nginx]\n"), Form::Misspelt);
        assert_eq!(form(b"#cloud config\n"), Form::Misspelt);
        assert_eq!(form(b"# written by terraform\n#cloud-config\nx: 1\n"), Form::LaterHeader);
        assert_eq!(form("\u{feff}#cloud-config\nx: 1\n".as_bytes()), Form::ByteOrderMark);
        // the log of #4239 and of terraform-provider-hcloud#150
        assert_eq!(form(b"H4sIAAAAAAAA/7xXf28TuRb9f6R+h/tMRNr34pmWx+6KQUEbaBYqWlo1\n"), Form::Base64);
        assert_eq!(form(br#"{"ignition": {"version": "3.3.0"}}"#), Form::Other);
        assert_eq!(form(b"[settings.kubernetes]\napi-server = 1\n"), Form::Other);
    }

    #[test]
    fn warnings_of_cloud_init() {
        assert!(is_unhandled("Unhandled non-multipart (text/x-not-multipart) userdata: 'b'packages:'...'"));
        let yaml = "Failed loading yaml blob. Invalid format at line 3 column 5: \"mapping values are not allowed here\"";
        assert!(is_invalid_yaml(yaml) && !is_invalid_yaml("Used fallback datasource"));
        assert_eq!(position(yaml).as_deref(), Some("line 3 column 5"));
        assert_eq!(position("in \"<unicode string>\", line 2, column 1:").as_deref(), Some("line 2 column 1"));
        assert_eq!((position("line x column 1"), position("line 3"), position("")), (None, None, None));
    }

    #[test]
    fn seed_that_was_changed_after_the_first_boot() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let read = || super::read(&Io::for_test(), root.path());
        write("var/lib/cloud/instance/user-data.txt", "#cloud-config\nx: 2\n");
        write("var/lib/cloud/seed/nocloud/user-data", "#cloud-config\nx: 2\n");
        assert_eq!(read().edited, None, "never ran");
        write("var/lib/cloud/instance/sem/config_scripts_user", "");
        assert_eq!(read().edited, None, "as old as its first boot");
        let sem = std::fs::File::options().write(true).open(root.path().join("var/lib/cloud/instance/sem/config_scripts_user"));
        sem.unwrap().set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(86_400)).unwrap();
        assert_eq!(read().edited.unwrap().0, "/var/lib/cloud/seed/nocloud/user-data");
        write("var/lib/cloud/seed/nocloud/user-data", "#cloud-config\nx: 3\n");
        assert_eq!(read().edited, None, "applies at the next boot, if its instance-id is new");
    }
}
