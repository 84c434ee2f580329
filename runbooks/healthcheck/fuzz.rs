//! Fuzz targets of this runbook.

use opsctl_core::fuzz::Target;

use opsctl_core::probe::docker::HealthEntry;
use opsctl_core::probe::needs::ProxySettings;

use super::classify::class;
use super::command::Command;
use super::proxy::proxied;

pub(crate) const TARGETS: &[Target] = &[
    // the command in the first line, its output in the others
    Target::text("health-test", |text| {
        let (command, output) = text.split_once('\n').unwrap_or((text, text));
        for form in [vec!["CMD-SHELL", command], vec!["CMD", "sh", "-c", command], command.split(' ').collect()] {
            let command = Command::parse(&form.into_iter().map(str::to_owned).collect::<Vec<_>>());
            drop((command.programs(), command.lacking(&[]).is_some()));
            let settings = ProxySettings {
                proxies: vec![("http_proxy".to_owned(), String::new())],
                exceptions: vec![("no_proxy".to_owned(), output.split(',').map(str::to_owned).collect())],
            };
            drop(proxied(&command, &settings, None));
            for exit_code in [-1, 1, 126, 127] {
                let entry = HealthEntry { exit_code, output: output.to_owned(), ..HealthEntry::default() };
                let _ = class(&entry, &command);
            }
        }
    }),
];
