//! Calls that create jobs: a ref is registered for each, and its URL put into the body.

use std::cell::OnceCell;
use std::io;
use std::rc::Rc;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;

use super::Gateway;
use super::body::{self, Outgoing};
use super::call::Call;
use super::edit::multipart::Parts;
use super::edit::{Callback, Wish, form, json};
use crate::domain::{RefId, Target};
use crate::egress::header::HeaderMap;
use crate::intake::Problem;

/// The largest body taken that is not a multipart form, in bytes: the provider's prompts have a few thousand characters.
const MAX_BODY: usize = 1 << 20;
/// Multipart forms of up to this many bytes are held, and sent with their length.
const SMALL_FORM: usize = 256 << 10;

/// The ref of a call, as soon as there is one.
type Made = Rc<OnceCell<RefId>>;

impl Gateway {
    /// Sends a call on that creates jobs, and learns of them.
    ///
    /// # Errors
    /// When no ref can be registered for it, its body cannot be read, or the provider does not answer.
    pub(super) async fn create(
        &self,
        request: &HttpRequest,
        payload: Payload,
        headers: HeaderMap,
        call: Call,
    ) -> Result<HttpResponse, Problem> {
        let made = Made::default();
        let outgoing = match (body::is_there(request), kind(request)) {
            (false, _) => Outgoing::default(),
            (true, Kind::Multipart(boundary)) => self.multipart(Parts::new(&boundary), payload, &made).await?,
            (true, Kind::Form) => self.small(payload, &made, |body| Some(form::wish(body)), with_form).await?,
            (true, Kind::Json) => self.small(payload, &made, json::wish, json::with_callback).await?,
        };
        // Without an answer there may be a job all the same, which calls back over its ref.
        let exchange = self.forward(request, headers, outgoing).await?;
        self.answer(call, made.get().cloned(), exchange).await
    }

    /// A body that is held, with the callback set.
    async fn small(
        &self,
        mut payload: Payload,
        made: &Made,
        wish: impl Fn(&[u8]) -> Option<Wish>,
        set: impl Fn(&[u8], &Callback) -> Option<Vec<u8>>,
    ) -> Result<Outgoing, Problem> {
        let body = body::whole(&mut payload, MAX_BODY).await?;
        let callback = match wish(&body) {
            Some(wish) => self.register(wish, made).await?,
            None => None,
        };
        let edited = callback.and_then(|callback| set(&body, &callback));
        Ok(Outgoing::whole(edited.map_or(body, Bytes::from)))
    }

    /// A form, held if it is small, else rewritten on its way.
    async fn multipart(&self, parts: Parts, payload: Payload, made: &Made) -> Result<Outgoing, Problem> {
        let mut form = Rewriting { gateway: self.clone(), parts, payload, made: made.clone(), is_over: false };
        let mut begun = BytesMut::new();
        while let Some(piece) = form.next().await {
            begun.extend_from_slice(&piece?);
            if begun.len() > SMALL_FORM {
                return Ok(Outgoing::streamed(|filling| async move {
                    let mut piece = Some(Ok(begun.freeze()));
                    while filling.send(piece).await {
                        let next = form.next().await;
                        piece = next.map(|next| next.map_err(|problem| io::Error::other(problem.to_string())));
                    }
                }));
            }
        }
        Ok(Outgoing::whole(begun.freeze()))
    }

    /// Registers the ref of a call. `None` when the call is to stay as it is.
    async fn register(&self, wish: Wish, made: &Made) -> Result<Option<Callback>, Problem> {
        let Some(plan) = wish.plan(self.intake().urls()) else { return Ok(None) };
        let has_own = plan.reply_ref.is_some();
        let record = self.intake().register_gateway(plan.reply_ref, plan.pass_on_to).await?;
        let _ = made.set(record.id.clone());
        Ok(Some(Callback {
            reply_url: self.intake().urls().reply_url(&Target::Ref(record.id)),
            made_ref: (!has_own).then(|| record.reply_ref.as_str().to_owned()),
        }))
    }
}

/// A form as it is sent on.
struct Rewriting {
    gateway: Gateway,
    parts: Parts,
    payload: Payload,
    made: Made,
    is_over: bool,
}

impl Rewriting {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Result<Bytes, Problem>> {
        while !self.is_over {
            let piece = match body::next(&mut self.payload).await {
                Some(Ok(piece)) => self.feed(&piece).await,
                Some(Err(error)) => {
                    self.is_over = true;
                    Err(body::incomplete(&error))
                }
                None => {
                    self.is_over = true;
                    Ok(self.parts.finish())
                }
            };
            if !piece.as_ref().is_ok_and(Bytes::is_empty) {
                return Some(piece);
            }
        }
        None
    }

    async fn feed(&mut self, piece: &[u8]) -> Result<Bytes, Problem> {
        let passed = self.parts.feed(piece);
        if !self.parts.is_closing() {
            return Ok(passed);
        }
        let callback = self.gateway.register(self.parts.wish(), &self.made).boxed_local().await;
        let callback = callback.inspect_err(|_| self.is_over = true)?;
        let end = self.parts.close(callback.as_ref());
        Ok([passed, end].concat().into())
    }
}

enum Kind {
    Json,
    Form,
    Multipart(String),
}

/// What a body is, by its head; what says nothing is taken for JSON, which it must be to be changed.
fn kind(request: &HttpRequest) -> Kind {
    let of_head = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = of_head.and_then(|value| value.parse::<mime::Mime>().ok()).and_then(|value| {
        let boundary = value.get_param(mime::BOUNDARY)?.as_str().to_owned();
        (value.type_() == mime::MULTIPART && !boundary.is_empty()).then_some(boundary)
    });
    match boundary {
        Some(boundary) => Kind::Multipart(boundary),
        None if request.content_type().eq_ignore_ascii_case("application/x-www-form-urlencoded") => Kind::Form,
        None => Kind::Json,
    }
}

fn with_form(body: &[u8], callback: &Callback) -> Option<Vec<u8>> {
    Some(form::with_callback(body, callback))
}
