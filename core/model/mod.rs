//! Pure data and traits, one concept per file. Nothing here performs I/O or reads a clock.

mod change;
mod check;
mod code;
mod course;
mod evidence;
mod finding;
mod fix;
mod inventory;
mod limits;
mod link;
mod measure;
pub mod quantity;
mod report;
mod role;
mod runbook;
pub mod setting;
mod table;
mod target;
mod text;
mod verdict;

pub use change::{Change, ChangeKind, Changes, EVERYTHING};
pub use check::{AnyCheck, BoxFuture, Check, CheckSpec, EvidenceError, Judged, Judgement};
pub use code::Code;
pub use course::{FindingHistory, FindingStatus, History, Recovered};
pub use evidence::{EvidenceText, Outcome, Record, Sample, grown};
pub use finding::{Cited, Confidence, Finding};
pub use fix::{Action, FileIdentity, FixSpec, Plan, Refusal, Risk};
pub use inventory::{
    CeleryRole, CertificateRef, CertificateSource, ContainerRef, EndpointRef, EngineRef, EngineState, Inventory, MountRef,
    Product, ServerProcess, ServerRef, StartTls, SystemdRef, SystemdState, UnitRef, has_own_network,
};
pub use limits::{Limits, Side};
pub use link::{Cause, Key, KeyKind, Link, links, named};
pub use measure::{Measure, Trend, Unit};
pub use report::{Build, CheckRow, FixOffer, HostInfo, JournalHead, REPORT_SCHEMA_VERSION, Report};
pub use role::{DependsOn, Impact, Role};
pub use runbook::Runbook;
pub use table::Table;
pub use target::{Kind, Subject, Target};
pub use text::{printable, shell_word};
pub use verdict::{Severity, Verdict};
