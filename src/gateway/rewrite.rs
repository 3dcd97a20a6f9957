//! Sets `replyUrl`, and where the caller gave none `replyRef`, in the bodies of calls that create jobs. All other fields,
//! their order and the numbers in them stay as they came.

mod callback_params;
pub(super) mod form;
pub(super) mod json;
pub(super) mod multipart;

pub(super) use callback_params::{CallbackParams, Given, Plan};

/// What a call is to carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Callback {
    /// The ref's signed URL.
    pub(super) reply_url: String,
    /// The reference made for the caller, who gave none.
    pub(super) made_ref: Option<String>,
}
