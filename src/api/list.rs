use serde::Serialize;

use super::ApiError;
use super::extract;
use crate::state::Page;

/// One page of a list, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct List<T> {
    /// What is on it.
    items: Vec<T>,
    /// What to give as `cursor` for the next page; null at the end.
    next_cursor: Option<String>,
}

impl<T> List<T> {
    pub(super) fn new(items: Vec<T>, next_cursor: Option<String>) -> Self {
        Self { items, next_cursor }
    }

    pub(super) fn of_page<R>(page: Page<R>, view: impl Fn(R) -> T) -> Self {
        let items = page.items.into_iter().map(view).collect();
        Self::new(items, page.next.map(|number| format!("{number:016x}")))
    }
}

/// Which page of a list is asked for.
pub(super) struct PageParams {
    pub(super) limit: usize,
    /// The number that `nextCursor` was made of.
    pub(super) before: Option<u64>,
}

impl PageParams {
    pub(super) fn read(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, ApiError> {
        let before = match extract::non_empty(cursor) {
            None => None,
            Some(cursor) => Some(number(cursor).ok_or_else(bad_cursor)?),
        };
        Ok(Self { limit: read_limit(limit)?, before })
    }
}

pub(super) fn bad_cursor() -> ApiError {
    ApiError::invalid("cursor: expected a nextCursor of this list")
}

pub(super) fn read_limit(limit: Option<&str>) -> Result<usize, ApiError> {
    const DEFAULT: usize = 50;
    const MAX: usize = 200;
    let Some(limit) = extract::non_empty(limit) else { return Ok(DEFAULT) };
    let digits = limit.bytes().all(|byte| byte.is_ascii_digit());
    let number = limit.parse().ok().filter(|number| digits && (1..=MAX).contains(number));
    number.ok_or_else(|| ApiError::invalid(format!("limit: expected a number from 1 to {MAX}")))
}

fn number(cursor: &str) -> Option<u64> {
    let is_ours = cursor.len() == 16 && cursor.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then(|| u64::from_str_radix(cursor, 16).ok())?
}
