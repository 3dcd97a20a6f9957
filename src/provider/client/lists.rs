//! What the provider says of many jobs at once.

use super::{Client, ProviderError};
use crate::domain::JobId;
use crate::provider::Answer;
use crate::provider::account::{self, AccountLogin};
use crate::provider::apis::{FIRST_API_PATH as FIRST, JobList, ListPosition, RunningList};
use crate::provider::list::{self, JobMention};

/// A page of one of the provider's lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage {
    /// The jobs on it, in its order; their bodies share its memory.
    pub jobs: Vec<Answer>,
    /// Where the next page begins, if the list says so.
    pub next: Option<ListPosition>,
    /// Whether there is another page, where the provider says it.
    pub has_next: Option<bool>,
}

impl Client {
    /// The page of a list that begins at `after`, or its first. With several accounts the provider wants to know whose:
    /// [`Client::accounts`].
    ///
    /// # Errors
    /// When there is no such page.
    pub async fn list(
        &self,
        list: JobList,
        account: Option<&str>,
        after: Option<&ListPosition>,
    ) -> Result<ListPage, ProviderError> {
        let asked_of = Self::asked_of(list.provider(), account);
        self.ask(&asked_of, &list.path(account, after), |status, body| {
            status?;
            list.page(after, &body).map_err(ProviderError::Unreadable)
        })
        .await
    }

    /// The jobs that an API works on, whoever asked for them.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn running(&self, list: RunningList) -> Result<Vec<JobMention>, ProviderError> {
        self.ask(&Self::asked_of(list.provider(), None), &list.path(), |status, body| {
            status?;
            Ok(list.mentions(&body))
        })
        .await
    }

    /// The account in whose turn something is asked: another one for each API, so that a hold there holds nothing here up.
    fn asked_of(provider: &str, account: Option<&str>) -> String {
        match account {
            Some(account) => account.to_owned(),
            None if provider == JobId::FIRST_API => String::new(),
            None => format!("{provider}/"),
        }
    }

    /// The accounts that make videos and images; at most [`crate::provider::MAX_JOBS`].
    ///
    /// # Errors
    /// When the provider does not tell.
    pub async fn accounts(&self) -> Result<Vec<String>, ProviderError> {
        self.ask("", &format!("{FIRST}/scheduler/available"), |status, body| {
            status?;
            list::accounts(&body).map_err(ProviderError::Unreadable)
        })
        .await
    }

    /// The accounts that are configured and when their logins expire; at most [`crate::provider::MAX_JOBS`].
    ///
    /// # Errors
    /// When the provider does not tell.
    pub async fn logins(&self) -> Result<Vec<AccountLogin>, ProviderError> {
        self.ask("", &format!("{FIRST}/accounts"), |status, body| {
            status?;
            account::logins(&body).map_err(ProviderError::Unreadable)
        })
        .await
    }

    /// What an account can still spend, if the provider says it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn credits(&self, account: &str) -> Result<Option<u64>, ProviderError> {
        self.ask(account, &format!("{FIRST}/features/?account={account}"), |status, body| {
            status?;
            account::credits(&body).map_err(ProviderError::Unreadable)
        })
        .await
    }
}
