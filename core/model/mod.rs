//! Pure data and traits, one concept per file. Nothing here performs I/O or reads a clock.

mod action;
pub mod address;
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
pub mod log;
mod measure;
mod object;
mod pick;
pub mod quantity;
mod report;
mod reported;
mod role;
mod runbook;
pub mod setting;
mod subnet;
mod table;
mod text;
mod verdict;

pub use action::{Action, FileIdentity};
pub use change::{Change, ChangeKind, Changes, EVERYTHING};
pub use check::{AnyCheck, BoxFuture, Check, CheckSpec, EvidenceError, Judged, Judgement};
pub use code::Code;
pub use course::{FindingHistory, FindingStatus, History, Recovered};
pub use evidence::{EvidenceText, Outcome, Record, Sample, grown};
pub use finding::{Cited, Confidence, Finding};
pub use fix::{FixSpec, Plan, Refusal, Risk, fix_command, with_part};
pub use inventory::{
    CeleryRole, CertificateRef, CertificateSource, ContainerRef, EndpointRef, EngineRef, EngineState, Inventory, MountRef,
    Product, ServerProcess, ServerRef, StartTls, SystemdRef, SystemdState, UnitRef, has_own_network,
};
pub use limits::{Limits, Side};
pub use link::{Cause, Key, KeyKind, Link, links, named};
pub use measure::{Measure, Trend, Unit};
pub use object::{Kind, Object};
pub use pick::{Gaps, Pick};
pub use report::{Build, CheckRow, FixOffer, HostInfo, JournalHead, REPORT_SCHEMA_VERSION, Report};
pub use reported::Reported;
pub use role::{DependsOn, Impact, Role};
pub use runbook::Runbook;
pub use subnet::Subnet;
pub use table::Table;
pub use text::{ends, printable, shell_word};
pub use verdict::{Severity, Verdict};
