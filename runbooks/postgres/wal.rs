//! Write-ahead log: replication slots, size and archiving.

use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product, Refusal,
    Risk, Sample, Severity, grown, quantity::bytes,
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::session::{row, rows, session};
use super::{Settings, disk};
use crate::shared::servers::Server;

const SLOTS: Code = Code {
    id: "postgres.slots",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "an inactive replication slot retains {slot_warn_bytes} of WAL (warn), or a quarter of the available space, or is about to be lost (crit); a slot is lost (warn); a slot is inactive (info)",
    hint: "restart its consumer, or drop the slot: until then no WAL is removed",
    ..Code::BASE
};
const WAL_SIZE: Code = Code {
    id: "postgres.wal-size",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the WAL is over twice as large as max_wal_size and wal_keep_size allow (warn), or larger than half of the free space (crit)",
    hint: "find the cause: a slot, a failing archive command, or a checkpoint that does not finish",
    ..Code::BASE
};
const ARCHIVER: Code = Code {
    id: "postgres.archiver",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the last attempt to archive WAL failed (crit), or 10 (warn) or 15 (crit) files wait to be archived",
    hint: "run its archive_command by hand as the server's user; until it succeeds no WAL is removed",
    ..Code::BASE
};

const DROP_SLOT: FixSpec = FixSpec { id: "pg.drop-slot", risk: Risk::R3, title: "drop an inactive replication slot" };

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.wal",
    title: "PostgreSQL WAL is archived and removed",
    codes: &[SLOTS, WAL_SIZE, ARCHIVER],
    fixes: &[DROP_SLOT],
    timeout: Duration::from_secs(9),
};

const SLOT_ROWS: &str = "SELECT slot_name AS name, slot_type AS kind, active, temporary, wal_status AS status, safe_wal_size AS safe, \
    restart_lsn::text AS restart_lsn, \
    pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS retained, \
    age(xmin) AS xmin_age, age(catalog_xmin) AS catalog_xmin_age FROM pg_replication_slots";

const WAL_DIR: &str = "SELECT count(*) AS files, coalesce(sum(size), 0)::bigint AS bytes, \
    (SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_wal_size') AS max_bytes, \
    coalesce((SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'wal_keep_size'), 0) AS keep_bytes FROM pg_ls_waldir()";

const ARCHIVE: &str = "SELECT failed_count AS failed, archived_count AS archived, last_failed_wal AS last_wal, last_archived_wal AS last_archived, \
    last_failed_time IS NOT NULL AND last_failed_time > coalesce(last_archived_time, '-infinity') AS failing, \
    extract(epoch FROM clock_timestamp() - last_failed_time)::float8 AS failed_s_ago, \
    current_setting('archive_mode') AS mode FROM pg_stat_archiver";

const WAITING: &str = "SELECT count(*) AS n FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'";

pub(super) struct Wal {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Slot {
    name: String,
    kind: String,
    active: bool,
    temporary: bool,
    status: Option<String>,
    safe: Option<i64>,
    restart_lsn: Option<String>,
    retained: Option<i64>,
    xmin_age: Option<i64>,
    catalog_xmin_age: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WalDir {
    files: u64,
    bytes: u64,
    max_bytes: u64,
    keep_bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Archive {
    failed: u64,
    archived: u64,
    last_wal: Option<String>,
    last_archived: Option<String>,
    failing: bool,
    failed_s_ago: Option<f64>,
    mode: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Count {
    n: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    slots: Vec<Slot>,
    wal: Option<WalDir>,
    archive: Option<Archive>,
    /// Files that wait to be archived.
    waiting: Option<u64>,
    /// The filesystem of the WAL.
    space: Option<FsUsage>,
    /// The counter of failed attempts of the oldest run within an hour.
    before: Option<Sample>,
    gaps: Vec<String>,
}

impl Check for Wal {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let session = session(cx, target).await?;
        let server = Server::of(cx, target)?;
        let mut e = Evidence { before: cx.history.oldest(&server.object(target), "archive_failed", 3600), ..Evidence::default() };
        e.slots = rows(&session, "replication slots", SLOT_ROWS, &mut e.gaps).await;
        e.wal = row(&session, "the size of the WAL", WAL_DIR, &mut e.gaps).await;
        e.archive = row(&session, "the archiver", ARCHIVE, &mut e.gaps).await;
        if e.archive.as_ref().is_some_and(|a| a.mode != "off") {
            e.waiting = row::<Count>(&session, "the files that wait to be archived", WAITING, &mut e.gaps).await.map(|c| c.n);
        }
        e.space = disk::of_wal(cx, &server).await;
        e.server = server;
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings: Vec<Finding> = e.slots.iter().filter_map(|s| self.slot(judged, e, s)).collect();
        findings.extend(archiver(judged, e));
        findings.extend(wal_size(judged, e));
        let findings = findings.into_iter().map(|f| match &e.space {
            Some(space) => f.key(KeyKind::Filesystem, &space.dev),
            None => f,
        });
        let failed = e
            .archive
            .as_ref()
            .map(|a| Sample::count(e.server.object(judged.target), "archive_failed", judged.taken_at, a.failed));
        Judgement {
            findings: findings.collect(),
            gaps: e.gaps.clone(),
            facts: (!e.gaps.iter().any(|gap| gap.contains(SLOTS_READ))).then(|| SLOTS_READ.to_owned()).into_iter().collect(),
            samples: failed.into_iter().collect(),
            ..Judgement::default()
        }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let named = finding.evidence.iter().find(|c| c.label == "slot").map(|c| c.value.as_str());
        let Some(slot) = e.slots.iter().find(|s| Some(s.name.as_str()) == named) else {
            return Err(Refusal::Precondition("the slot no longer exists".to_owned()));
        };
        if slot.active {
            return Err(Refusal::Precondition(format!("the slot {} is in use again", slot.name)));
        }
        let is_lost = slot.status.as_deref() == Some("lost");
        if !is_lost && let Some(why) = e.also_retained(slot) {
            return Err(Refusal::Precondition(format!("dropping {} would free nothing: {why}", slot.name)));
        }
        let action = Action::PgDropSlot {
            server: judged.target.id.clone(),
            slot: slot.name.clone(),
            restart_lsn: slot.restart_lsn.clone(),
        };
        let consumer = if slot.kind == "logical" { "the consumer of its changes" } else { "its replica" };
        let freed = if is_lost {
            "no WAL is freed: the slot retains none".to_owned()
        } else {
            "its WAL is removed at the next checkpoint".to_owned()
        };
        Ok(Plan::new(&DROP_SLOT, &SPEC, finding, judged.target, vec![action])
            .affects([format!("{consumer} must be set up again from a full copy"), freed]))
    }
}

/// Size of a WAL file, in bytes (default of `initdb --wal-segsize`).
const SEGMENT_BYTES: u64 = 16 << 20;

/// The fact that findings about slots follow from.
const SLOTS_READ: &str = "replication slots";

impl Evidence {
    /// The reason why the WAL of a slot is retained without it too.
    fn also_retained(&self, slot: &Slot) -> Option<String> {
        let held = slot.retained();
        let waiting = self.waiting.unwrap_or(0);
        if self.archive.as_ref().is_some_and(|a| a.failing) && waiting.saturating_mul(SEGMENT_BYTES) >= held / 2 {
            return Some(format!("the archiver fails, and {waiting} files that wait for it are kept as well"));
        }
        let holds_more = |other: &&Slot| {
            let is_other = other.name != slot.name && other.restart_lsn.is_some();
            is_other && (other.retained() > held || (other.active && other.retained() == held))
        };
        let other = self.slots.iter().find(holds_more)?;
        let state = if other.active { "active" } else { "inactive" };
        Some(format!("the {state} slot {} retains {} too", other.name, bytes(other.retained())))
    }
}

impl Slot {
    fn retained(&self) -> u64 {
        self.retained.and_then(|r| u64::try_from(r).ok()).unwrap_or(0)
    }
}

impl Wal {
    fn slot(&self, judged: &Judged<'_>, e: &Evidence, s: &Slot) -> Option<Finding> {
        if s.active || s.temporary {
            return None;
        }
        let (name, held) = (&s.name, s.retained());
        let capacity = e.space.as_ref().map(|f| held.saturating_add(f.avail));
        let much = capacity.is_some_and(|capacity| held >= capacity / 4 && held >= MIN_RETAINED_BYTES);
        let status = s.status.as_deref();
        let (severity, message) = if status == Some("lost") {
            (Severity::Warn, format!("the slot {name} is lost: the WAL that its consumer needs was removed"))
        } else if status == Some("unreserved") || much {
            (Severity::Crit, format!("the inactive slot {name} retains {} of WAL", bytes(held)))
        } else if held >= self.settings.slot_warn_bytes {
            let limit = bytes(self.settings.slot_warn_bytes);
            (Severity::Warn, format!("the inactive slot {name} retains {} of WAL, limit {limit}", bytes(held)))
        } else {
            (Severity::Info, format!("the slot {name} is inactive: it retains {} of WAL, and more with every write", bytes(held)))
        };
        let finding = e
            .server
            .finding(&SLOTS, severity, judged.target, message)
            .weight(held)
            .part("slot", name)
            .fact(SLOTS_READ)
            .cite("slot", name)
            .cite("kind", &s.kind)
            .cite_opt("free space for WAL", e.space.as_ref().map(|f| bytes(f.avail)))
            .cite_opt(
                "oldest transaction with retained rows",
                s.xmin_age.or(s.catalog_xmin_age).map(|a| format!("{a} transactions old")),
            );
        Some(if severity > Severity::Info { finding.fix(DROP_SLOT.id) } else { finding })
    }
}

/// Retained WAL below this is not judged by its share of a small filesystem: the WAL of one checkpoint, in bytes.
const MIN_RETAINED_BYTES: u64 = 64 << 20;

fn archiver(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let a = e.archive.as_ref().filter(|a| a.mode != "off")?;
    let waiting = e.waiting.unwrap_or(0);
    let since = grown(Some(a.failed), e.before.as_ref());
    let name = &judged.target.name;
    let (severity, message) = if a.failing || (since > 0 && waiting > 0) {
        let wal = a.last_wal.as_deref().unwrap_or("?");
        (Severity::Crit, format!("{name} cannot archive its WAL: {wal} failed, {waiting} files wait"))
    } else if waiting >= 15 {
        (Severity::Crit, format!("{waiting} WAL files of {name} wait to be archived, limit 15"))
    } else if waiting >= 10 {
        (Severity::Warn, format!("{waiting} WAL files of {name} wait to be archived, limit 10"))
    } else {
        return None;
    };
    let finding = e.server.finding(&ARCHIVER, severity, judged.target, message);
    Some(finding.cite("failed attempts", a.failed.to_string()).cite_opt("last archived", a.last_archived.clone()))
}

fn wal_size(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let w = e.wal.as_ref()?;
    let allowed = w.max_bytes.saturating_add(w.keep_bytes);
    let (severity, limit) = match &e.space {
        Some(space) if w.bytes > space.avail / 2 && w.bytes > allowed => {
            (Severity::Crit, format!("half of the {} of free space", bytes(space.avail)))
        }
        _ if w.bytes > allowed.saturating_mul(2) => {
            (Severity::Warn, format!("twice the {} of max_wal_size and wal_keep_size", bytes(allowed)))
        }
        _ => return None,
    };
    let message = format!("the WAL of {} has {} in {} files, limit {limit}", judged.target.name, bytes(w.bytes), w.files);
    Some(e.server.finding(&WAL_SIZE, severity, judged.target, message).weight(w.bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::Kind;

    use super::*;

    const GIB: i64 = 1 << 30;

    fn slot(name: &str, retained: i64) -> Slot {
        let restart_lsn = (retained > 0).then(|| "0/16B3748".to_owned());
        let status = Some(if retained > 0 { "extended" } else { "lost" }.to_owned());
        Slot { name: name.to_owned(), kind: "physical".into(), status, restart_lsn, retained: Some(retained), ..Slot::default() }
    }

    /// The plan of the fix for the slot `gone`, the first of these slots.
    fn drop_first(e: &Evidence) -> Result<Plan, Refusal> {
        let check = Wal { settings: Settings::default() };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = check.judge(&judged, e).findings;
        let finding = findings.iter().find(|f| f.part == "slot gone").unwrap();
        check.plan(DROP_SLOT.id, finding, &judged, e)
    }

    fn with(slots: Vec<Slot>) -> Evidence {
        Evidence { slots, ..Evidence::default() }
    }

    #[test]
    fn slot_that_alone_retains_wal_is_dropped() {
        let plan = drop_first(&with(vec![slot("gone", 4 * GIB), slot("used", GIB)])).unwrap();
        assert!(plan.blast.iter().any(|effect| effect.contains("removed at the next checkpoint")), "{:?}", plan.blast);
        let lost = drop_first(&with(vec![slot("gone", 0)])).unwrap();
        assert!(lost.blast.iter().any(|effect| effect.contains("no WAL is freed")), "{:?}", lost.blast);
    }

    #[test]
    fn slot_whose_wal_another_retains_is_kept() {
        let refused = |e: &Evidence| drop_first(e).unwrap_err().to_string();
        let frozen = Slot { active: true, ..slot("frozen", 4 * GIB) };
        assert!(refused(&with(vec![slot("gone", 4 * GIB), frozen])).contains("the active slot frozen retains 4 GiB too"));
        assert!(refused(&with(vec![slot("gone", 4 * GIB), slot("older", 5 * GIB)])).contains("the inactive slot older"));
        let archive = Archive { failing: true, mode: "on".into(), ..Archive::default() };
        let e = Evidence { archive: Some(archive), waiting: Some(300), ..with(vec![slot("gone", 4 * GIB)]) };
        assert!(refused(&e).contains("dropping gone would free nothing: the archiver fails"));
    }

    #[test]
    fn slot_in_use_is_kept() {
        let e = with(vec![slot("gone", 4 * GIB)]);
        let check = Wal { settings: Settings::default() };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let finding = check.judge(&judged, &e).findings.remove(0);
        let used = with(vec![Slot { active: true, ..slot("gone", 4 * GIB) }]);
        assert!(check.plan(DROP_SLOT.id, &finding, &judged, &used).unwrap_err().to_string().contains("is in use again"));
        assert!(check.plan(DROP_SLOT.id, &finding, &judged, &with(vec![])).is_err());
    }
}
