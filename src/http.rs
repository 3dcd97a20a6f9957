//! What every module that speaks HTTP needs: the error as it is answered, a body within bounds, what `Retry-After` asks for.

mod api_error;
mod body;
mod retry_after;

pub use api_error::{ApiError, ErrorBody, ErrorDetail};
pub use body::{BodyError, read_body};
pub use retry_after::retry_after;
