//! Makes our replyUrl the default of the provider's account, so that every call without one of its own calls back here.

use std::io::{self, BufRead, Write};

use super::{Failure, print};
use crate::config::Config;
use crate::domain::Target;
use crate::intake::ReplyUrls;
use crate::provider::{AccountError, Api, Client, ProviderError};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Make ours the default.
    Connect,
    /// Say what the default is.
    Show,
    /// Have none.
    Clear,
}

/// Does it. Without `yes` somebody is asked before anything changes.
pub(super) async fn run(config: &Config, what: What, yes: bool) -> Result<(), Failure> {
    let Some(provider) = config.provider() else {
        let expected = "expected a token for the provider's API: its account is changed with it";
        return Err(Failure::usage(config.error("provider.api_token", expected)));
    };
    let public_url = &config.server.public_url;
    if what == What::Connect && public_url.is_loopback() && !config.provider.base_url.is_loopback() {
        let expected = format!("expected a URL that the provider can reach, found {}", public_url.as_str());
        return Err(Failure::usage(config.error("server.public_url", expected)));
    }
    let urls = config.reply_urls().map_err(Failure::usage)?;
    let client = Client::new(&provider).map_err(Failure::runtime)?;
    let failed = |error: AccountError| match error.error {
        ProviderError::TokenRefused => {
            Failure::runtime(config.error("provider.api_token", "expected a token that the provider accepts"))
        }
        _ => Failure::runtime(format!("the account's replyUrl: {error}")),
    };
    let before = client.account_default().await.map_err(failed)?;
    let ours = urls.reply_url(&Target::UseApi);
    let is_wanted = |reply_url: &Option<String>| match what {
        What::Connect => reply_url.as_deref() == Some(&*ours),
        What::Show => true,
        What::Clear => reply_url.is_none(),
    };
    print(format!("The account's default replyUrl is {}.\n", shown(&urls, before.reply_url.as_deref())))?;
    if is_wanted(&before.reply_url) {
        return if what == What::Clear { Ok(()) } else { print(scope()) };
    }
    let wanted = (what == What::Connect).then_some(&*ours);
    let question = format!("Change it to {}?", shown(&urls, wanted));
    if !yes && !agrees(&question)? {
        return print("Nothing was changed.\n");
    }
    client.set_account_default(wanted, &before).await.map_err(failed)?;
    // What it took, it shows.
    let after = client.account_default().await.map_err(failed)?;
    if !is_wanted(&after.reply_url) {
        let (expected, found) = (shown(&urls, wanted), shown(&urls, after.reply_url.as_deref()));
        return Err(Failure::runtime(format!("the account's replyUrl: expected {expected}, found {found}")));
    }
    print(format!("It is {} now.\n", shown(&urls, wanted)))?;
    if what == What::Clear { Ok(()) } else { print(scope()) }
}

/// Which calls use the default, as far as that is known.
fn scope() -> String {
    let names = |is_known: bool| {
        let apis = Api::all().filter(|api| api.uses_account_default() == is_known).map(Api::name);
        apis.collect::<Vec<_>>().join(", ")
    };
    format!(
        "Calls that give no replyUrl use it. The pages of these APIs say so: {}.\nFor these only the account's page does: {}. \
         Until you have seen one of their callbacks, give replyUrl in the call.\nThe default has no replyRef: a callback has the \
         one of its call.\n",
        names(true),
        names(false)
    )
}

/// A URL as it may be shown: the signature of one like ours is a secret.
fn shown(urls: &ReplyUrls, url: Option<&str>) -> String {
    let Some(url) = url else { return "not set".to_owned() };
    let whose = match urls.parse(url) {
        Some(target) => format!(" (ours, {})", target.as_str()),
        None => String::new(),
    };
    let signed = url.rsplit_once("/reply/").and_then(|(base, rest)| Some((base, rest.split_once('/')?.0)));
    match signed {
        Some((base, target)) => format!("{base}/reply/{target}/…{whose}"),
        None => format!("{url}{whose}"),
    }
}

/// Asks on stderr, and reads a line from stdin. Its end is no answer, not even no: a script would take that for success.
fn agrees(question: &str) -> Result<bool, Failure> {
    let mut answer = String::new();
    let mut ask = || {
        let mut stderr = io::stderr();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        io::stdin().lock().read_line(&mut answer)
    };
    let read = ask().map_err(|error| Failure::runtime(format!("nobody can be asked: {error}")))?;
    if read == 0 {
        // The failure has a line of its own.
        let _ = writeln!(io::stderr());
        return Err(Failure::usage("--yes: expected where nobody can be asked: stdin ended without an answer"));
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
