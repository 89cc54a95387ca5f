//! Heart-rate readings from a Kinesis stream → OpenSearch, and the sums of their minutes.
//!
//! ```text
//! Kinesis ──batch──▶ event ──lines──▶ line ──documents──▶ bulk ──▶ OpenSearch hr-readings-YYYY.MM[.DD]
//!                                       │                             │
//!                                 window: which minutes?              ▼
//!                                       └──at the window's end──▶ query ──▶ minutes ──▶ hr-minutes-YYYY.MM
//! ```
//!
//! What must always hold:
//!
//! * One document per `reading_id`: it is the document's `_id`, and a later copy overwrites.
//! * Each line of a batch is written, or set aside with its position in the log, or its record is
//!   reported to Lambda, which brings it again. Nothing else happens to a line.
//! * Only a line's own fault sets it aside; whatever may pass on a later try is tried again, within the
//!   invocation while there is time, and after that by Lambda.
//! * A minute is summed from what the index holds, never from what passed by: late and repeated
//!   readings, and a window that is closed twice, leave exact numbers. What the retention took stays counted.
//! * No heart rate, name or key is logged: positions, counts and reasons are.
//!
//! Decisions are pure, with time passed in; [`opensearch`] alone speaks HTTP. The modules, in the order
//! of understanding them.

pub mod handler;

pub mod event;
pub mod index;
pub mod line;

pub mod transform;

pub mod bulk;
pub mod counted;
pub mod intake;
pub mod minutes;
pub mod query;
pub mod stored;
pub mod window;

pub mod aggregation;
pub mod deadline;
pub mod function;
pub mod opensearch;
pub mod writing;
