//! The configuration of accounts, and what an account can do. The secrets in it are made up.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::Shared;
use crate::account_data::Account;

use super::fields::Fields;
use super::{Answer, ApiError};

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/accounts", web::get().to(all))
        .route("/accounts", web::post().to(create))
        .route("/accounts/{account}", web::get().to(one))
        .route("/accounts/{account}", web::delete().to(delete))
        .route("/features", web::get().to(features));
}

fn shown(account: &Account) -> Value {
    let (number, made) = (&account.account, account.made);
    let expires = made.after(MONTH);
    let seconds = |millis: u64| millis as f64 / 1000.0;
    json!({
        "account": number, "maxJobs": account.max_jobs, "supportVideo": true, "supportChat": true,
        "supportAudio": true, "supportMusic": true,
        "jwt": {
            "token": "ey1…secured…zQ", "host": "hailuoai.video", "iat": seconds(made.millis()),
            "exp": seconds(expires.millis()), "iat_Issued": made, "exp_Expire": expires,
            "searchParams": "device_platform=web&app_id=3001&os_name=Linux&browser_name=firefox",
            "user": {"deviceID": "300112233", "id": number, "isAnonymous": false, "name": "", "avatar": ""},
        },
    })
}

async fn all(shared: web::Data<Shared>) -> Answer {
    let accounts = shared.belongings.accounts.all();
    if accounts.is_empty() {
        return Err(ApiError::NotFound);
    }
    let shown: BTreeMap<_, _> = accounts.iter().map(|account| (&account.account, shown(account))).collect();
    Ok(HttpResponse::Ok().json(shown))
}

async fn one(number: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    let account = shared.belongings.accounts.find(|account| account.account == *number).ok_or(ApiError::NotFound)?;
    Ok(HttpResponse::Ok().json(shown(&account)))
}

/// A token stands for one account: given again, it changes that one.
async fn create(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    fields.required("url")?;
    let token = fields.required("token")?;
    let max_jobs = fields.required("maxJobs")?.parse().ok().filter(|number| (1..=10).contains(number));
    let max_jobs = max_jobs.ok_or_else(|| ApiError::BadRequest("Parameter maxJobs is from 1 to 10".into()))?;
    let number = (100_000_000 + shared.dice.number("account", token, 0) % 900_000_000).to_string();
    let account = Account { account: number, max_jobs, made: shared.clock.now() };
    shared.belongings.accounts.remove(|known| known.account == account.account);
    shared.belongings.accounts.add(|_| account.clone());
    Ok(HttpResponse::Created().json(shown(&account)))
}

async fn delete(number: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    if !shared.belongings.accounts.remove(|account| account.account == *number) {
        return Err(ApiError::NotFound);
    }
    Ok(HttpResponse::NoContent().finish())
}

async fn features(shared: web::Data<Shared>) -> HttpResponse {
    let ends = shared.clock.started().after(MONTH).millis();
    let credits = shared.faults.credits().unwrap_or(100_000).saturating_sub(shared.stats.snapshot().jobs);
    let model = |id: &str, cost: u64| {
        json!({
            "modelId": id, "videoCost": cost, "isMember": false, "freeCount": 0, "durations": [], "resolutions": [],
            "modes": [], "videoCosts": [],
        })
    };
    HttpResponse::Ok().json(json!({
        "privilegeType": 0, "totalCredits": credits, "expireText": "", "videoCost": 1, "queueLength": 3,
        "memberText": "Subscribe", "memberHoverText": "", "expireTime": 0, "isNewUser": false, "questionText": "",
        "trialExpireTime": 0, "trialText": 0, "memberName": "Free", "newUserVersion": 0,
        "creditExpireText": [{"credit": credits, "endTime": ends}],
        "modelControl": [model("image-01", 1), model("23000", 30), model("23021", 45)], "supportModes": [],
        "imageQueueLength": 5, "totalCreditsStr": credits.to_string(), "isPaidSubscription": false,
        "canManagePlan": true,
        "audio": {
            "total_credit": credits, "base_resp": {},
            "sub_credits": [{
                "credit_type": 3, "end_time": ends, "credit": credits, "text": "", "coin_type": 0,
                "record": [{"credit": credits, "endTime": ends}],
            }],
        },
    }))
}
