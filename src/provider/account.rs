//! The provider's accounts. Their configuration holds secrets: nothing of it is kept but what stands here.

use super::json;
use super::list::is_account;
use crate::domain::Timestamp;

/// An account and when its login ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountLogin {
    /// Its number.
    pub account: String,
    /// `jwt.exp_Expire`.
    pub expires_at: Option<Timestamp>,
}

/// Reads the answer of `GET accounts`: an object with a member for each account.
pub(super) fn logins(body: &[u8]) -> Result<Vec<AccountLogin>, &'static str> {
    let accounts = json::parse_object(body).map_err(|_| "it is not JSON")?.ok_or("it shows no accounts")?;
    let logins = accounts.values().take(super::MAX_JOBS).filter_map(|account| {
        let account = account.object()?;
        let jwt = account.object("jwt").unwrap_or_default();
        let expires_at = jwt.text("exp_Expire").as_deref().and_then(Timestamp::parse_rfc3339);
        Some(AccountLogin { account: account.text("account").filter(|text| is_account(text))?, expires_at })
    });
    Ok(logins.collect())
}

/// Reads the answer of `GET features`.
pub(super) fn credits(body: &[u8]) -> Result<Option<u64>, &'static str> {
    let features = json::parse_object(body).map_err(|_| "it is not JSON")?.ok_or("it is no object")?;
    Ok(features.integer("totalCredits").and_then(|credits| u64::try_from(credits).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_show_when_their_logins_expire_and_nothing_else_is_read() {
        let body = br#"{"7": {"account": "7", "jwt": {"token": "secret", "exp_Expire": "2026-12-01T00:00:00.000Z"}},
            "8": {"account": 8}, "9": {"account": "9&x"}, "10": 3}"#;
        let logins = logins(body).unwrap();
        let shown: Vec<_> = logins.iter().map(|login| (login.account.as_str(), login.expires_at.is_some())).collect();
        assert_eq!(shown, [("7", true), ("8", false)]);
        assert_eq!(super::logins(b"[]"), Err("it shows no accounts"));
        assert_eq!(credits(br#"{"totalCredits": "120"}"#), Ok(Some(120)));
        assert_eq!((credits(b"{}"), credits(br#"{"totalCredits": -1}"#)), (Ok(None), Ok(None)));
    }
}
