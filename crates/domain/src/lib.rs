//! Types that are valid once built, and the job state machine.
//!
//! Nothing here does I/O or is async: every rule about what a callback means for a job can be tested, replayed and
//! reasoned about without a clock, a disk or a network.

mod digest;
mod duration;
pub mod escapes;
mod file_name;
mod job;
mod job_details;
mod job_id;
mod media_url;
mod notification;
mod observation;
mod quarantine;
pub mod redact;
mod reply_ref;
mod time;
mod view;

pub use digest::{Digest, DigestParseError};
pub use duration::parse_duration;
pub use file_name::{FileName, FileNameParseError};
pub use job::{
    Asset, AssetState, AttemptFailure, Change, Job, JobState, Outcome, StoredFile, StuckReason, UnconfirmedFinal,
    Withdrawal,
};
pub use job_details::JobDetails;
pub use job_id::{JobId, JobIdParseError, JobIdParts, Kind};
pub use media_url::{MediaUrl, MediaUrlError, is_same_url};
pub use notification::{Destination, EventType, Notification, NotificationId, NotificationState, Route};
pub use observation::{Access, AssetId, AssetSource, Candidate, MissingReason, Observation, Role, Status, Variant};
pub use quarantine::{Origin, QuarantineReason, QuarantineRemoval};
pub use reply_ref::{RefId, ReplyRef, Target, TextIdError};
pub use time::Timestamp;
pub use view::{AssetLinks, AssetProgress, AssetView, JobView, StatusView};
