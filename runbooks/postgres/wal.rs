//! Write-ahead log: replication slots, size and archiving.

use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Object, Plan, Product, Refusal,
    Risk, Sample, Severity, grown,
    quantity::{bytes, seconds},
};
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::session::{row, rows, session};
use super::slot_reader::{MIN_STILL_S, Reader, position, position_metric, still_s};
use super::{Settings, disk};
use crate::shared::servers::Server;

const SLOTS: Code = Code {
    id: "postgres.slots",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "an inactive replication slot retains {slot_warn_bytes} of WAL (warn), or a quarter of the available space, or is about to be lost (crit); a slot is lost (warn); a slot is inactive (info); the reader of an active slot has not replied for a minute, or not advanced for 10 min, and the slot retains that much (warn or crit), or the WAL that exceeds its limit (warn)",
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

/// The reader of an active slot is a walsender, or the session that calls `pg_logical_slot_get_changes`.
const SLOT_ROWS: &str = "SELECT slot_name AS name, slot_type AS kind, active, temporary, wal_status AS status, safe_wal_size AS safe, \
    a.usename AS role, a.application_name AS app, coalesce(a.client_addr::text, 'local') AS client, s.active_pid AS pid, r.state, \
    extract(epoch FROM clock_timestamp() - r.reply_time)::float8 AS reply_s, \
    restart_lsn::text AS restart_lsn, \
    pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS retained, \
    age(s.xmin) AS xmin_age, age(s.catalog_xmin) AS catalog_xmin_age FROM pg_replication_slots AS s \
    LEFT JOIN pg_stat_activity AS a ON a.pid = s.active_pid LEFT JOIN pg_stat_replication AS r ON r.pid = s.active_pid";

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
    pub(super) restart_lsn: Option<String>,
    retained: Option<i64>,
    xmin_age: Option<i64>,
    catalog_xmin_age: Option<i64>,
    /// The reader of an active slot.
    #[serde(flatten)]
    reader: Reader,
    /// The position of the oldest run within an hour.
    pub(super) before: Option<Sample>,
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
        let object = server.object(target);
        for slot in e.slots.iter_mut().filter(|s| s.active) {
            slot.before = cx.history.oldest(&object, &position_metric(&slot.name), 3600);
        }
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
        let object = e.server.object(judged.target);
        let position = |s: &Slot| {
            let value = position(s.restart_lsn.as_deref()?)?;
            Some(Sample { object: object.clone(), metric: position_metric(&s.name), at: judged.taken_at, value })
        };
        let positions = e.slots.iter().filter(|s| s.active && !s.temporary).take(MAX_SAMPLED_SLOTS).filter_map(position);
        let failed = e
            .archive
            .as_ref()
            .map(|a| Sample::count(e.server.object(judged.target), "archive_failed", judged.taken_at, a.failed));
        Judgement {
            findings: findings.collect(),
            gaps: e.gaps.clone(),
            facts: (!e.gaps.iter().any(|gap| gap.contains(SLOTS_READ))).then(|| SLOTS_READ.to_owned()).into_iter().collect(),
            samples: failed.into_iter().chain(positions).collect(),
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

/// Active slots with a remembered position (judgement).
const MAX_SAMPLED_SLOTS: usize = 32;

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
    /// A slot with a reader that does not advance. A reader that replies is not judged by its lag alone: it may catch up after a
    /// bulk load.
    fn active_slot(&self, judged: &Judged<'_>, e: &Evidence, s: &Slot) -> Option<Finding> {
        let (name, held) = (&s.name, s.retained());
        let state = s.reader.silence().or_else(|| {
            let still = still_s(s, judged.taken_at).filter(|still| *still >= MIN_STILL_S)?;
            Some(format!("has not advanced the slot for {}", seconds(still)))
        });
        let capacity = e.space.as_ref().map(|f| held.saturating_add(f.avail));
        let much = capacity.is_some_and(|capacity| held >= capacity / 4 && held >= MIN_RETAINED_BYTES);
        let exceeds = wal_size(judged, e).is_some() && e.wal.as_ref().is_some_and(|w| held.saturating_mul(2) >= w.bytes);
        let severity = match (&state, s.status.as_deref()) {
            (_, Some("unreserved")) => Severity::Crit,
            (Some(_), _) if much => Severity::Crit,
            (Some(_), _) if held >= self.settings.slot_warn_bytes => Severity::Warn,
            _ if exceeds && held >= MIN_RETAINED_BYTES => Severity::Warn,
            (Some(_), _) if held >= MIN_RETAINED_BYTES => Severity::Info,
            _ => return None,
        };
        let state = state.unwrap_or_else(|| "replies and is behind".to_owned());
        let reader = s.reader.label();
        let message = format!("the active slot {name} retains {} of WAL: its reader {reader} {state}", bytes(held));
        let finding = e.server.finding(&SLOTS, severity, judged.target, message).weight(held).part("slot", name).fact(SLOTS_READ);
        let finding = finding.cite("slot", name).cite("kind", &s.kind).cite_opt("state of its walsender", s.reader.state.clone());
        Some(finding.cite_opt("free space for WAL", e.space.as_ref().map(|f| bytes(f.avail))).hint(
            "check its reader: stopped, blocked, or it confirms only changes of its own tables (Debezium: heartbeat.interval.ms); the slot cannot be dropped while it is in use",
        ))
    }

    fn slot(&self, judged: &Judged<'_>, e: &Evidence, s: &Slot) -> Option<Finding> {
        if s.active {
            return self.active_slot(judged, e, s);
        }
        if s.temporary {
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

    /// Severity and message of an active slot that retains 118 MiB, with this much free space.
    fn active(reader: Reader, still_s: Option<i64>, wal: Option<WalDir>) -> Option<(Severity, String)> {
        let before = still_s.and_then(|s| {
            let at = jiff::Timestamp::from_second(-s).ok()?;
            Some(Sample { object: "db".into(), metric: position_metric("cdc"), at, value: position("0/16B3748")? })
        });
        let slot = Slot { active: true, reader, before, ..slot("cdc", 118 << 20) };
        let e = Evidence { wal, ..with(vec![slot]) };
        let target = Object::named(Kind::Postgres, "db");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = Wal { settings: Settings::default() }.judge(&judged, &e).findings;
        findings.into_iter().find(|f| f.code == SLOTS.id).map(|f| (f.severity, f.message))
    }

    #[test]
    fn reader_of_an_active_slot_that_does_not_reply() {
        let large = || Some(WalDir { files: 10, bytes: 160 << 20, max_bytes: 64 << 20, keep_bytes: 0 });
        let reader = |reply_s| Reader {
            role: Some("repl".into()),
            app: Some("debezium".into()),
            client: "10.0.0.3".into(),
            pid: Some(812),
            reply_s: Some(reply_s),
            ..Reader::default()
        };
        let (severity, message) = active(reader(900.0), None, large()).unwrap();
        assert_eq!(severity, Severity::Warn);
        assert!(message.contains("its reader repl (debezium, pid 812) from 10.0.0.3 has not replied for"), "{message}");
        assert_eq!(active(reader(900.0), None, None).unwrap().0, Severity::Info);
        // DBZ-892: replies, and confirms only changes of its own tables
        assert!(active(reader(2.0), Some(1800), large()).unwrap().1.contains("has not advanced the slot for"));
        assert!(active(reader(2.0), None, large()).unwrap().1.contains("replies and is behind"));
        assert_eq!(active(reader(2.0), None, None), None, "it catches up");
        assert_eq!(active(Reader::default(), None, None), None);
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
