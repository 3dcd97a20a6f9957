use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::args::NewRefArguments;
use super::{Failure, client, print};
use crate::config::{Config, DataDir, DataDirError};
use crate::domain::{Origin, Target};
use crate::egress::Policy;
use crate::intake::{Intake, NewRef, ReplyUrls};
use crate::repair::open_event_log;
use crate::state::RefRecord;

/// A ref as the API shows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefView {
    ref_id: String,
    reply_ref: String,
    reply_url: String,
    origin: String,
    state: String,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    notify_url: Option<String>,
    created_at: String,
}

/// Registers a ref: by the running service, else in its stead.
pub(super) async fn add(config: &Config, arguments: NewRefArguments) -> Result<(), Failure> {
    let mut labels = BTreeMap::new();
    for (key, value) in arguments.labels {
        if labels.insert(key.clone(), value).is_some() {
            return Err(Failure::usage(format!("--label: expected each key only once, found {key:?} again")));
        }
    }
    let new = NewRef { reply_ref: Some(arguments.reply_ref), notify_url: arguments.notify_url, labels };
    let view = match DataDir::lock(&config.data.dir) {
        Ok(held) => {
            super::cluster::expect_alone(config)?;
            // Events obey the policy of callbacks that are passed on.
            let receivers = Policy::new(config.relay().egress);
            new.check(|url| receivers.check_url(url)).map_err(Failure::usage)?;
            let urls = config.reply_urls().map_err(Failure::usage)?;
            register(config, &held, &urls, new).await?
        }
        Err(DataDirError::Held(_)) => {
            let credentials = config.credentials().map_err(Failure::usage)?;
            let body = json!({"replyRef": new.reply_ref, "notifyUrl": new.notify_url, "labels": new.labels});
            let answer = client::post(config, &credentials, "/api/v1/refs", &body).await?;
            serde_json::from_value(answer).map_err(|_| Failure::runtime("the service's answer is not a ref"))?
        }
        Err(error) => return Err(Failure::usage(config.error("data.dir", error))),
    };
    let text = serde_json::to_string_pretty(&view).map_err(Failure::runtime)?;
    print(format!("{text}\n"))
}

async fn register(config: &Config, held: &DataDir, urls: &ReplyUrls, new: NewRef) -> Result<RefView, Failure> {
    let bucket = config.open_bucket().map_err(Failure::usage)?;
    let keys = config.journal_keys().map_err(Failure::usage)?;
    let opened =
        tokio::task::block_in_place(|| open_event_log(held.path(), &bucket, keys, None, Intake::parse_callback));
    let log = opened.map_err(Failure::runtime)?;
    log.recovered().await;
    let intake = Intake::new(config.intake(), urls.clone(), log.clone(), &config.data.dir.join("spool"));
    let registered = intake.register(new).await;
    tokio::task::block_in_place(|| log.close());
    let (record, _) = registered.map_err(Failure::runtime)?;
    Ok(view(record, urls))
}

fn view(record: RefRecord, urls: &ReplyUrls) -> RefView {
    let origin = match record.origin {
        Origin::Registered => "registered",
        Origin::Adopted => "adopted",
        Origin::Gateway => "gateway",
    };
    RefView {
        reply_url: urls.reply_url(&Target::Ref(record.id.clone())),
        ref_id: record.id.to_string(),
        reply_ref: record.reply_ref.to_string(),
        origin: origin.to_owned(),
        state: "active".to_owned(),
        labels: record.labels,
        notify_url: record.notify_url,
        created_at: record.created_at.to_string(),
    }
}
