use std::time::Instant;

use serde_json::Value;

use replyvault_domain::{Digest, Timestamp};

use super::bounded_list::Shelf;

/// What callers have put at the provider besides jobs.
#[derive(Debug)]
pub(super) struct Belongings {
    /// Configured accounts by their number.
    pub(super) accounts: Shelf<Account>,
    pub(super) uploads: Shelf<Upload>,
    pub(super) chats: Shelf<Chat>,
    /// Cloned voices, as lists show them.
    pub(super) voices: Shelf<Value>,
    pub(super) streams: Shelf<StreamToken>,
}

impl Belongings {
    /// One account that was configured at `made`, and nothing else.
    pub(super) fn new(made: Timestamp) -> Self {
        let accounts = Shelf::new(100);
        accounts.add(|_| Account { account: super::job::ACCOUNT.into(), max_jobs: 5, made });
        Self {
            accounts,
            uploads: Shelf::new(10_000),
            chats: Shelf::new(1_000),
            voices: Shelf::new(100),
            streams: Shelf::new(1_000),
        }
    }
}

/// A configured account; its secrets are made up.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) account: String,
    pub(super) max_jobs: usize,
    pub(super) made: Timestamp,
}

/// A file that a caller uploaded. Only its sum is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// The id that the answer gave.
    pub file_id: String,
    /// As the caller said.
    pub content_type: String,
    /// Its length.
    pub bytes: u64,
    /// The digest of its bytes.
    pub sha256: Digest,
}

/// A chat with the language model.
#[derive(Clone, Debug)]
pub(super) struct Chat {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) title: String,
    pub(super) made: Timestamp,
    pub(super) messages: Vec<Message>,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) from_user: bool,
    pub(super) content: String,
    pub(super) files: usize,
}

/// What lets a WebSocket in, for a day.
#[derive(Clone, Debug)]
pub(super) struct StreamToken {
    pub(super) token: String,
    pub(super) account: String,
    pub(super) made: Instant,
}
