//! What is said of refs and of bodies kept aside, in the journal as in the state.

use serde::{Deserialize, Serialize};

/// How a ref came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Somebody registered it.
    Registered,
    /// A callback named it first.
    Adopted,
    /// Made for one call through the gateway. Several may have the same replyRef, and none of them answers to it.
    Gateway,
}

/// Why a body is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineReason {
    /// No known shape of a job.
    UnknownShape,
    /// An id of unknown form.
    UnknownId,
    /// A replyRef longer than the provider allows.
    InvalidReplyRef,
    /// Its replyRef is not the one its URL was made for.
    ReplyRefMismatch,
    /// Its job belongs to another ref.
    JobOfAnotherRef,
    /// Its replyRef is absent or nobody registered it, and such are not adopted.
    UnknownReplyRef,
    /// Its ref was deleted while it was being recorded.
    RefRemoved,
    /// A final callback that the provider itself did not confirm.
    NotConfirmed,
    /// It names more files or longer URLs than a job can have. What fits was taken into account.
    OverBudget,
    /// What takes callbacks in came upon a defect of its own.
    InternalError,
}

/// Why bodies left quarantine without having been understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineRemoval {
    /// Somebody asked for it.
    Asked,
    /// There was more than there may be.
    Quota,
    /// They had been there for as long as they may be.
    Age,
}

impl QuarantineReason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::UnknownShape,
        Self::UnknownId,
        Self::InvalidReplyRef,
        Self::ReplyRefMismatch,
        Self::JobOfAnotherRef,
        Self::UnknownReplyRef,
        Self::RefRemoved,
        Self::NotConfirmed,
        Self::OverBudget,
        Self::InternalError,
    ];

    /// The name used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownShape => "unknown_shape",
            Self::UnknownId => "unknown_id",
            Self::InvalidReplyRef => "invalid_reply_ref",
            Self::ReplyRefMismatch => "reply_ref_mismatch",
            Self::JobOfAnotherRef => "job_of_another_ref",
            Self::UnknownReplyRef => "unknown_reply_ref",
            Self::RefRemoved => "ref_removed",
            Self::NotConfirmed => "not_confirmed",
            Self::OverBudget => "over_budget",
            Self::InternalError => "internal_error",
        }
    }
}
