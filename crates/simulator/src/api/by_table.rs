//! The APIs of the table: one handler for all of their calls.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode};
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Map, Value, json};

use replyvault_domain::{JobId, Timestamp};

use super::fields::Fields;
use super::{Answer, ApiError, admit, authorize, fault_middleware, list, read};
use crate::Shared;
use crate::apis::{self, Api, Create, Created, List, MediaCall, Paging, Rendition, Row, Spelling};
use crate::cdn;
use crate::job::{Job, Links, Offer, Outcome, Stage};
use crate::payload;

/// Mounts all but the first API.
pub(super) fn configure(app: &mut web::ServiceConfig) {
    for api in apis::ALL.into_iter().filter(|api| api.name != JobId::FIRST_API) {
        let handler = move |http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>| {
            serve(api, http, payload, shared)
        };
        let scope = web::scope(api.base).wrap(from_fn(authorize)).wrap(from_fn(fault_middleware::apply));
        app.service(scope.default_service(web::to(handler)));
    }
}

/// Mounts what of the first API is in the table.
pub(super) fn first(scope: &mut web::ServiceConfig) {
    let Some(api) = apis::of(JobId::FIRST_API) else { return };
    let handler =
        move |http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>| serve(api, http, payload, shared);
    for create in api.creates {
        scope.route(&format!("/{}", create.path), web::post().to(handler));
    }
    for list in api.lists {
        scope.route(&format!("/{}", list.path), web::get().to(handler));
    }
}

async fn serve(api: &'static Api, http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let below = http.uri().path().strip_prefix(api.base).unwrap_or_default().trim_matches('/').to_owned();
    match *http.method() {
        Method::POST => {
            let call = api.creates.iter().find(|create| create.path == below).ok_or(ApiError::NotFound)?;
            create(api, call, &http, payload, &shared).await
        }
        Method::GET => get(api, &below, &http, &shared),
        _ => Err(ApiError::NotFound),
    }
}

async fn create(
    api: &Api,
    call: &Create,
    http: &HttpRequest,
    payload: web::Payload,
    shared: &web::Data<Shared>,
) -> Answer {
    let fields = Fields::read(http, payload).await?;
    let wanted = fields.get(call.by);
    let form = call.forms.iter().find(|(name, _)| wanted.is_none_or(|wanted| name.is_empty() || *name == wanted));
    let (_, form) = form.ok_or_else(|| ApiError::BadRequest(format!("Parameter {} is not known", call.by)))?;
    let mut request = fields.by_table(form, shared.video_bytes)?;
    admit(shared, &mut request, call.count)?;
    let busy = ApiError::Busy(form.kind);
    let jobs = shared.clone().into_inner().create(request, call.count).ok_or(busy)?;
    let job = jobs.first().ok_or(ApiError::Internal)?;
    let record = || apis::body(job, form, &Stage::Running(Default::default()), &shared.links, api.shows_reply);
    let body = match call.answer {
        Created::Record => record(),
        Created::Member(name) => {
            let member = record().get(name).cloned().unwrap_or_default();
            Value::Object(Map::from_iter([(name.to_owned(), member)]))
        }
        Created::Id(name) => json!({name: job.id.as_sent()}),
        Created::Ids(name) => json!({name: jobs.iter().map(|job| job.id.as_sent()).collect::<Vec<_>>()}),
    };
    Ok(HttpResponse::build(StatusCode::from_u16(call.status).unwrap_or(StatusCode::OK)).json(body))
}

fn get(api: &Api, below: &str, http: &HttpRequest, shared: &web::Data<Shared>) -> Answer {
    let query = http.query_string();
    if let Some(call) = &api.media_call
        && below.starts_with(call.prefix)
    {
        return media(api, call, below, http, shared);
    }
    let with_query = format!("{below}?{query}");
    let forms = api.creates.iter().flat_map(|create| create.forms).map(|(_, form)| form);
    let mut prefixes = forms.map(|form| form.one);
    let asked = prefixes.find_map(|one| {
        let rest = if one.contains('?') { with_query.strip_prefix(one) } else { below.strip_prefix(one) };
        Some((one, rest.filter(|rest| !rest.is_empty())?))
    });
    if let Some((one, spelled)) = asked {
        let job = job(api, one, spelled, shared)?;
        return read::answer(job.filter(|job| !job.is_gone()), ApiError::NotFound, shared);
    }
    let found = api.lists.iter().find(|list| list.path == below).ok_or(ApiError::NotFound)?;
    list::refused(shared)?;
    page(api, found, &Fields::from_pairs(query.as_bytes()), shared)
}

/// The job of an id as it stands in a path, below the place where its kind is asked for.
fn job(api: &Api, one: &str, spelled: &str, shared: &Shared) -> Result<Option<Arc<Job>>, ApiError> {
    let is_encoded = spelled.contains('%');
    let is_refused = match api.spelling {
        Spelling::Any => false,
        Spelling::Raw => is_encoded,
        Spelling::Encoded => spelled.contains([':', '@']),
    };
    if is_refused {
        return Err(ApiError::BadRequest("Invalid job ID format".into()));
    }
    let sent = decoded(spelled);
    let is_there = |job: &Arc<Job>| job.request.form.is_some_and(|form| form.one == one);
    let ids = [sent.clone(), format!("{}:{sent}", api.name)];
    Ok(ids.iter().find_map(|id| shared.store.get(id)).filter(|job| job.is_of(api.name) && is_there(job)))
}

fn decoded(text: &str) -> String {
    let pairs = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pairs.as_bytes()).next().map(|(_, text)| text.into_owned()).unwrap_or_default()
}

/// The file that a call with the token gives, or its link.
fn media(api: &Api, call: &MediaCall, below: &str, http: &HttpRequest, shared: &web::Data<Shared>) -> Answer {
    let fields = Fields::from_pairs(http.query_string().as_bytes());
    let pairs: Vec<_> =
        call.parameters.iter().map(|name| format!("{name}={}", fields.get(name).unwrap_or_default())).collect();
    let mark = if pairs.is_empty() { "" } else { "?" };
    let asked = format!("{}{mark}{}", decoded(below), pairs.join("&"));
    let (job, place) = shared.store.called(api.name, &asked).ok_or(ApiError::NoRecord)?;
    let asset = job.assets.get(place).ok_or(ApiError::NoRecord)?;
    if job.outcome() != Outcome::Completed || !job.is_final() {
        return Err(ApiError::BadRequest("Generation is not completed yet (0)".into()));
    }
    if job.stage() == (Stage::Final { whole: false }) {
        return Err(ApiError::NoRecord);
    }
    let spec = job.request.form.and_then(|form| form.files.get(place)).ok_or(ApiError::NoRecord)?;
    if spec.rendition == Rendition::Clean && job.plan.offer != Offer::Clean {
        return Err(ApiError::NoPlan);
    }
    let published = match spec.rendition {
        Rendition::Clean => &asset.clean,
        Rendition::Marked => &asset.marked,
        _ => &asset.plain,
    };
    let Some(answer) = call.answer else {
        let fault = cdn::fault(shared, &published.path);
        return Ok(cdn::content(http, shared, Arc::clone(&published.file), fault));
    };
    let body = answer.replace("{link}", &shared.links.url(published));
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

fn page(api: &Api, list: &List, fields: &Fields, shared: &Shared) -> Answer {
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<usize>().ok());
    let mut jobs = shared.store.all();
    jobs.retain(|job| {
        let is_shown = match list.row {
            Row::Job => job.is_listed(),
            Row::Running | Row::Mention(_) => job.is_tracked(),
            Row::Other(_) => job.is_listed() && job.is_final() && job.outcome() == Outcome::Completed,
        };
        // A list of running jobs shows all that there are.
        let is_here = |form: &apis::Form| form.list == list.path || matches!(list.row, Row::Running | Row::Mention(_));
        job.is_of(api.name) && is_shown && job.request.form.is_some_and(is_here)
    });
    jobs.reverse();
    let (mut from, mut size) = (0, list.size);
    match list.paging {
        Paging::None => {}
        Paging::Offset(_, required) => {
            if required && (number("offset").is_none() || number("limit").is_none()) {
                return Err(ApiError::BadRequest("Parameters offset and limit are required".into()));
            }
            (from, size) = (number("offset").unwrap_or(0), number("limit").unwrap_or(size));
        }
        Paging::Before => {
            let before =
                fields.get("createdBefore").and_then(|text| text.parse().ok()).and_then(Timestamp::from_millis);
            jobs.retain(|job| before.is_none_or(|before| job.created < before));
            size = number("pageSize").unwrap_or(size);
        }
        Paging::Cursor => from = number("cursor").unwrap_or(0),
        Paging::Page => {
            size = number("page_size").unwrap_or(size);
            from = number("page").unwrap_or(1).saturating_sub(1).saturating_mul(size);
        }
    }
    let from = from.min(jobs.len());
    let to = from.saturating_add(size).min(jobs.len());
    let rows: Vec<Value> = jobs[from..to].iter().map(|job| row(job, list, shared)).collect();
    if list.rows.is_empty() {
        return Ok(HttpResponse::Ok().json(rows));
    }
    let mut body = Map::from_iter([(list.rows.to_owned(), rows.into())]);
    let more = to < jobs.len();
    match list.paging {
        Paging::Offset(name, _) if !name.is_empty() => {
            body.insert(name.to_owned(), if more { json!(to) } else { Value::Null });
            body.insert("total".to_owned(), json!(jobs.len()));
        }
        Paging::Cursor => {
            drop(body.insert("cursor".to_owned(), if more { json!(to.to_string()) } else { Value::Null }))
        }
        Paging::Page => drop(body.insert("has_more".to_owned(), json!(more))),
        _ => {}
    }
    Ok(HttpResponse::Ok().json(body))
}

fn row(job: &Job, list: &List, shared: &Shared) -> Value {
    match (&list.row, job.request.form) {
        (Row::Mention(id), _) => apis::mention(job, id),
        (Row::Other(template), Some(form)) => apis::written(job, form, template, &shared.links, false),
        _ => payload::answer(job, &job.stage(), &shared.links),
    }
}
