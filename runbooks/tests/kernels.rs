//! `/proc` of other kernels: two samples (`first`, `later`) and the expected findings of the cpu and memory checks. The trees are
//! written by hand in the format of those kernels; the differences between them are the ones that break parsers.
//!
//! `OPSCTL_REGENERATE=1 cargo test -p opsctl-runbooks --test kernels` updates `tree.json`: review the diff.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use opsctl_core::model::{ContainerRef, Inventory, Judged, Object};
use opsctl_core::probe::kernel::Proc;
use opsctl_core::probe::kernel::activity::SystemSampler;
use opsctl_core::probe::kernel::kmsg::KernelLog;
use opsctl_core::probe::{HistoryError, ProbeCx, ProbeOptions};
use serde::{Deserialize, Serialize};

/// The checks that read nothing but these trees.
const CHECKS: &[&str] = &["cpu.usage", "cpu.load", "memory.usage", "memory.pressure"];

#[derive(Serialize, Deserialize)]
struct Tree {
    about: String,
    /// Names of containers by id.
    containers: BTreeMap<String, String>,
    expect: Vec<String>,
}

async fn context(directory: &Path, tree: &Tree) -> ProbeCx {
    let container = |(id, name): (&String, &String)| ContainerRef {
        id: id.clone(),
        name: name.clone(),
        image: String::new(),
        state: "running".to_owned(),
        product: None,
        celery: None,
        network_mode: String::new(),
        project: None,
        service: None,
        labels: BTreeMap::new(),
    };
    ProbeCx {
        inventory: Arc::new(Inventory { containers: tree.containers.iter().map(container).collect(), ..Inventory::default() }),
        docker: None,
        systemd: None,
        shared: opsctl_core::probe::Shared::default(),
        rules: opsctl_core::probe::Memo::default(),
        filesystems: opsctl_core::probe::kernel::filesystem::Filesystems::default(),
        watch: SystemSampler::recorded(Proc::at(directory.join("first")), Proc::at(directory.join("later"))).await,
        process_table: opsctl_core::probe::proc::table::SharedProcessTable::default(),
        kernel_log: KernelLog::default(),
        history: Arc::new(HistoryError),
        redactor: Arc::default(),
        options: ProbeOptions::default(),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn procfs_of_every_kernel_gives_the_expected_findings() {
    let runbooks = opsctl_runbooks::all(&opsctl_runbooks::Settings::default());
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels");
    let mut trees: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    trees.sort();
    assert!(trees.len() >= 6);
    let mut problems = Vec::new();
    for directory in trees {
        let file = directory.join("tree.json");
        let mut tree: Tree = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let cx = context(&directory, &tree).await;
        let target = Object::host();
        let mut found = Vec::new();
        for check in runbooks.iter().flat_map(|r| &r.checks).filter(|c| CHECKS.contains(&c.spec().id)) {
            let evidence = check.probe(&cx, &target).await.unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
            let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
            let judgement = check.judge(&judged, &evidence).unwrap();
            found.extend(judgement.gaps.iter().map(|gap| format!("unknown {}: {gap}", check.spec().id)));
            for f in judgement.findings {
                let home =
                    f.keys.iter().filter(|k| k.value != "host").map(|k| format!(" [{}]", k.value.get(..12).unwrap_or(&k.value)));
                found.push(format!("{} {}: {}{}", f.severity, f.code, f.message, home.collect::<String>()));
            }
        }
        if found != tree.expect && std::env::var_os("OPSCTL_REGENERATE").is_some() {
            tree.expect = found;
            std::fs::write(&file, serde_json::to_string_pretty(&tree).unwrap() + "\n").unwrap();
        } else if found != tree.expect {
            problems.push(format!("{} ({}):\n  expected {:#?}\n  got {found:#?}", directory.display(), tree.about, tree.expect));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
