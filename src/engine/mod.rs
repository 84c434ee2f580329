//! The engine: schedules probes, enforces deadlines, runs the judgement of checks, and builds the report.

mod assess;
mod collect;
mod confined;
mod partial;
mod progress;
mod recording;
mod session;

pub use assess::{Assessment, Judging, Offer, Pending, assess};
pub use partial::{Partial, Run, Step};
pub use progress::Progress;
pub use recording::{RECORDING_SCHEMA_VERSION, Recording, RecordingError};
pub use session::{Managers, OwnChangesSource, OwnerOf, Recheck, Selection, Session, Setup};
