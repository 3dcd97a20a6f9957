use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{Object, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response};
use utoipa::{Modify, OpenApi};

use super::{
    cookie, events, health, jobs, manifest, media, metrics, notifications, quarantine, refs, session, stats, tasks,
};
use crate::intake;

#[derive(OpenApi)]
#[openapi(
    info(title = "replyvault", description = "The replyUrl target that keeps AI media."),
    paths(
        intake::reply,
        refs::create,
        refs::list,
        refs::show,
        refs::delete,
        jobs::list,
        jobs::days,
        jobs::zip::zip,
        manifest::show,
        jobs::show,
        jobs::retry,
        media::list,
        media::show,
        media::content,
        media::thumbnail::show,
        media::thumbnail::keep,
        quarantine::list,
        quarantine::show,
        quarantine::replay,
        quarantine::delete,
        quarantine::delete_all,
        notifications::list,
        notifications::retry,
        stats::stats,
        tasks::verify::verify,
        tasks::reconcile::reconcile,
        tasks::backfill::backfill,
        tasks::list,
        tasks::show,
        events::events,
        session::open,
        session::show,
        session::close,
        document,
        health::healthz,
        health::readyz,
        metrics::metrics,
    ),
    modifiers(&Access)
)]
struct Document;

/// What the handlers cannot say each for itself.
struct Access;

impl Modify for Access {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(cookie::NAME)));
        components.add_security_scheme("session", cookie);
        let csrf = ApiKeyValue::with_description(cookie::CSRF_HEADER, "the session's `csrfToken`");
        components.add_security_scheme("csrf", SecurityScheme::ApiKey(ApiKey::Header(csrf)));
        for (path, PathItem { get, head, post, delete, .. }) in &mut document.paths.paths {
            for operation in [&mut *get, &mut *post, &mut *delete].into_iter().flatten() {
                name(operation);
            }
            if path.starts_with("/api/") {
                get.iter_mut().for_each(may_be_stale);
                get.iter_mut().for_each(has_its_share);
                get.iter_mut().for_each(|operation| guard(operation, COOKIE_SUFFICES, None));
                // Any token opens a session and no session does; one ends by its cookie alone.
                let (to_post, to_delete, forbidden) = match path == cookie::SESSION_PATH {
                    true => (TOKEN_ALONE, COOKIE_SUFFICES, None),
                    false => (COOKIE_AND_CSRF, COOKIE_AND_CSRF, Some("the token or session is for reading")),
                };
                post.iter_mut().for_each(|operation| guard(operation, to_post, forbidden));
                delete.iter_mut().for_each(|operation| guard(operation, to_delete, forbidden));
            }
            // No body is an empty object.
            if let Some(Operation { request_body: Some(RefOr::T(body)), .. }) = post
                && matches!(path.as_str(), "/api/v1/refs" | "/api/v1/tasks/reconcile" | "/api/v1/tasks/verify")
            {
                body.required = Some(Required::False);
            }
            if path.ends_with("/content") {
                *head = get.clone();
                head.iter_mut().for_each(|operation| operation.operation_id = Some("media_content_head".to_owned()));
            }
        }
    }
}

/// Handlers are called alike in several modules; an operation's id stands for one alone.
fn name(operation: &mut Operation) {
    let tag = operation.tags.iter().flatten().next();
    if let (Some(tag), Some(id)) = (tag, &operation.operation_id)
        && tag != id
    {
        operation.operation_id = Some(format!("{tag}_{id}"));
    }
}

/// Says of every good answer that it may come from a replica that cannot ask the others.
fn may_be_stale(operation: &mut Operation) {
    let description =
        "`true` where replicas share a log and it cannot be reached: this is what the replica knows by itself";
    let header = HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(Schema::Object(Object::with_type(Type::String))))
        .build();
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && status.starts_with('2')
        {
            response.headers.insert("replyvault-stale".to_owned(), header.clone().into());
        }
    }
}

/// Says of what is read that a token has its share of all that is sent at a time.
fn has_its_share(operation: &mut Operation) {
    let refused = refused("too many large answers or files are being sent, or too many answers wait, for this token");
    operation.responses.responses.entry("429".to_owned()).or_insert(refused);
}

/// What a caller has to show, by the names of the schemes: all of one of these.
type Requirements = &'static [&'static [&'static str]];

const TOKEN_ALONE: Requirements = &[&["token"]];
const COOKIE_SUFFICES: Requirements = &[&["token"], &["session"]];
const COOKIE_AND_CSRF: Requirements = &[&["token"], &["session", "csrf"]];

fn guard(operation: &mut Operation, requirements: Requirements, forbidden: Option<&str>) {
    let requirement = |schemes: &&[&str]| {
        let none = SecurityRequirement::default();
        schemes.iter().fold(none, |all, scheme| all.add(*scheme, Vec::<String>::new()))
    };
    operation.security = Some(requirements.iter().map(requirement).collect());
    operation.responses.responses.insert("401".to_owned(), refused("no token, or none that is known here"));
    if let Some(description) = forbidden {
        operation.responses.responses.insert("403".to_owned(), refused(description));
    }
}

fn refused(description: &str) -> RefOr<Response> {
    let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
    RefOr::T(ResponseBuilder::new().description(description).content("application/json", body).build())
}

/// This description, as OpenAPI.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "openapi",
    responses((status = 200, description = "this", body = Object))
)]
pub(super) async fn document() -> HttpResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| Document::openapi().to_json().unwrap_or_default());
    HttpResponse::Ok().insert_header(ContentType::json()).body(TEXT.as_str())
}
