//! What the provider says of many jobs at once.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Client, ProviderError};
use crate::domain::JobId;
use crate::provider::Answer;
use crate::provider::account::{self, AccountLogin};
use crate::provider::apis::FIRST_API_PATH as FIRST;
use crate::provider::list::{self, JobMention};

/// A list of finished and running jobs that the provider keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobList {
    /// `GET videos/`
    Videos,
    /// `GET images/`
    Images,
}

impl JobList {
    /// The name used in commands and in the API, which is the provider's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Videos => "videos",
            Self::Images => "images",
        }
    }

    const fn last(self) -> &'static str {
        match self {
            Self::Videos => "lastVideoId",
            Self::Images => "lastImageId",
        }
    }
}

/// A page of one of the provider's lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage {
    /// The jobs on it, in its order; their bodies share its memory.
    pub jobs: Vec<Answer>,
    /// Whether there is another page, where the provider says it.
    pub has_next: Option<bool>,
}

impl Client {
    /// The page of a list that follows the job `after`, or its first. With several accounts the provider wants to know
    /// whose: [`Client::accounts`].
    ///
    /// # Errors
    /// When there is no such page.
    pub async fn list(
        &self,
        list: JobList,
        account: Option<&str>,
        after: Option<&JobId>,
    ) -> Result<ListPage, ProviderError> {
        let (name, last) = (list.as_str(), list.last());
        let account_query = account.map(|account| format!("account={account}"));
        let after = after.map(|after| format!("{last}={after}"));
        let query = account_query.into_iter().chain(after).collect::<Vec<_>>().join("&");
        let path = format!("{FIRST}/{name}/{}{query}", if query.is_empty() { "" } else { "?" });
        self.ask(account.unwrap_or_default(), &path, |status, body| {
            status?;
            list::page(&body).map_err(ProviderError::Unreadable)
        })
        .await
    }

    /// The videos and images that the provider works on, whoever asked for them.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn scheduler(&self) -> Result<Vec<JobMention>, ProviderError> {
        self.told(&format!("{FIRST}/scheduler/")).await
    }

    /// The agent jobs that the provider works on.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn agent_jobs(&self) -> Result<Vec<JobMention>, ProviderError> {
        self.told(&format!("{FIRST}/agent/jobs")).await
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

    async fn told(&self, path: &str) -> Result<Vec<JobMention>, ProviderError> {
        self.ask("", path, |status, body| {
            status?;
            Ok(list::mentioned_jobs(&body))
        })
        .await
    }
}
