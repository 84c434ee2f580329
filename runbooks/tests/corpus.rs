//! `INFO` of Redis and of compatible servers in `tests/corpus/redis-info`: the fields, and the findings of the redis runbook.

#![allow(clippy::unwrap_used, reason = "tests")]

use opsctl_core::corpus;
use opsctl_core::model::{EvidenceText, Judged, Kind, Object};
use opsctl_core::probe::servers::redis::{keys, parse_info};

/// The checks with `INFO` as evidence.
const CHECKS: &[&str] =
    &["redis.persistence", "redis.memory", "redis.clients", "redis.replication", "redis.latency", "redis.exposure"];

#[test]
fn corpus_of_info() {
    let runbooks = opsctl_runbooks::all(&opsctl_runbooks::Settings::default());
    let checks: Vec<_> = runbooks.iter().flat_map(|r| &r.checks).filter(|c| CHECKS.contains(&c.spec().id)).collect();
    assert_eq!(checks.len(), CHECKS.len());
    let target = Object::named(Kind::Redis, "cache");
    let judged = Judged { target: &target, taken_at: "2026-11-21T12:00:00Z".parse().unwrap() };
    corpus::check("redis-info", 37, |text| {
        let info = parse_info(text);
        let field = |name: &str| info.get(name).cloned().unwrap_or_default();
        let maxclients: Option<u64> = info.get("maxclients").and_then(|n| n.parse().ok());
        let evidence = EvidenceText::of(&serde_json::json!({ "info": info, "maxclients": maxclients })).unwrap();
        let (mut findings, mut skipped) = (Vec::new(), Vec::new());
        for check in &checks {
            let judgement = check.judge(&judged, &evidence).unwrap();
            assert!(judgement.gaps.is_empty(), "{:?}", judgement.gaps);
            findings.extend(judgement.findings.into_iter().map(|f| f.code));
            skipped.extend(judgement.skip.map(|_| check.spec().id));
        }
        vec![
            ("role", field("role")),
            ("keys", Some(keys(&info)).filter(|n| *n > 0).map(|n| n.to_string()).unwrap_or_default()),
            ("snapshot", field("rdb_last_bgsave_status")),
            ("saved_at", field("rdb_last_save_time")),
            ("used_memory", field("used_memory")),
            ("maxmemory", field("maxmemory")),
            ("clients", field("connected_clients")),
            ("findings", findings.join(", ")),
            ("skipped", skipped.join(", ")),
        ]
    });
}
