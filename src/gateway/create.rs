//! Calls that create jobs: a ref is registered for each, and its URL put into the body.

use std::cell::OnceCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::FutureExt;

use super::Gateway;
use super::body::{self, HeldBody, MAX_HELD_BYTES, Outgoing};
use super::forward::Onward;
use super::observe::{Caller, Creation, Owner};
use super::rewrite::multipart::MultipartRewriter;
use super::rewrite::{Callback, CallbackParams, Plan, form, json};
use crate::decompress;
use crate::domain::Target;
use crate::egress::header::{self, HeaderMap};
use crate::http::ApiError;
use crate::intake::Intake;
use crate::provider::Endpoint;

/// Multipart forms of up to this many bytes are held, and sent with their length.
const SMALL_FORM: usize = 256 << 10;

/// What is known of a call, as soon as its body is read.
type CreatedRef = Rc<OnceCell<Creation>>;

impl Gateway {
    /// Sends a call on that creates jobs, and learns of them; or one that only prepares a speech stream.
    ///
    /// # Errors
    /// When no ref can be registered for it, its body cannot be read, or the provider does not answer.
    pub(super) async fn create(
        &self,
        request: &HttpRequest,
        payload: Payload,
        mut onward: Onward,
        caller: &Caller,
        endpoint: Endpoint,
    ) -> Result<HttpResponse, ApiError> {
        let making = Making { intake: self.inner.intake.clone(), endpoint, made: CreatedRef::default() };
        let is_encoded = is_encoded(request);
        let held = HeldBody::new(Arc::clone(&self.inner.memory), caller.key, is_encoded);
        let outgoing = match (body::has_body(request), kind(request)) {
            (false, _) => Outgoing::default(),
            (true, kind) if is_encoded => making.encoded(kind, held, payload, &mut onward.headers).await?,
            (true, Kind::Multipart(boundary)) => {
                making.multipart(MultipartRewriter::new(&boundary), held, payload).await?
            }
            (true, kind) => making.buffered(kind, held, payload).await?,
        };
        // Without an answer there may be a job all the same, which calls back over its ref.
        let exchange = self.inner.upstream.forward(onward, outgoing).await?;
        self.inner.answers.answer(endpoint, caller, making.made.get().cloned(), exchange).await
    }
}

/// Makes jobs call back here.
#[derive(Clone)]
struct Making {
    intake: Intake,
    endpoint: Endpoint,
    made: CreatedRef,
}

impl Making {
    /// A body that is held, with the callback set.
    async fn buffered(&self, kind: Kind, mut held: HeldBody, mut payload: Payload) -> Result<Outgoing, ApiError> {
        let body = held.whole(&mut payload).await?;
        let edited = self.edited(&kind, &body).await?;
        Ok(Outgoing::whole(held.into_bytes(edited.unwrap_or(body))))
    }

    /// A compressed body: as it would be without that, with the callback set. What cannot be unpacked goes on as it is.
    async fn encoded(
        &self,
        kind: Kind,
        mut held: HeldBody,
        mut payload: Payload,
        headers: &mut HeaderMap,
    ) -> Result<Outgoing, ApiError> {
        let body = held.whole(&mut payload).await?;
        let coding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(Ok(plain)) = decompress::by_content_encoding(coding, &body, MAX_HELD_BYTES) else {
            return Ok(Outgoing::whole(held.into_bytes(body)));
        };
        headers.remove(header::CONTENT_ENCODING);
        drop(body);
        let edited = self.edited(&kind, &plain).await?;
        Ok(Outgoing::whole(held.into_bytes(edited.unwrap_or(plain))))
    }

    /// `None` when the body is to stay as it is.
    async fn edited(&self, kind: &Kind, body: &[u8]) -> Result<Option<Vec<u8>>, ApiError> {
        match kind {
            Kind::Json => {
                let callback = match json::callback_params(body) {
                    Some(callback_params) => self.register(callback_params).await?,
                    None => None,
                };
                Ok(callback.and_then(|callback| json::with_callback(body, &callback)))
            }
            Kind::Form => {
                let callback = self.register(form::callback_params(body)).await?;
                Ok(callback.map(|callback| form::with_callback(body, &callback)))
            }
            Kind::Multipart(boundary) => {
                let mut parts = MultipartRewriter::new(boundary);
                let passed = parts.feed(body);
                let end = if parts.is_closing() {
                    let callback = self.register(parts.callback_params()).await?;
                    parts.close(callback.as_ref())
                } else {
                    parts.finish()
                };
                Ok(Some([passed, end].concat()))
            }
        }
    }

    /// A form, held if it is small, else rewritten on its way.
    async fn multipart(
        &self,
        parts: MultipartRewriter,
        held: HeldBody,
        payload: Payload,
    ) -> Result<Outgoing, ApiError> {
        let mut form = RewritingBody { making: self.clone(), parts, payload, held: Some(held), is_over: false };
        let mut begun = Vec::new();
        while let Some(piece) = form.next().await {
            begun.extend_from_slice(&piece?);
            if begun.len() > SMALL_FORM {
                let begun = form.held_so_far(begun);
                return Ok(Outgoing::streamed(|filling| async move {
                    let mut piece = Some(Ok(begun));
                    while filling.send(piece).await {
                        let next = form.next().await;
                        piece = next.map(|next| next.map_err(|problem| io::Error::other(problem.to_string())));
                    }
                }));
            }
        }
        Ok(Outgoing::whole(form.held_so_far(begun)))
    }

    /// Registers the ref of a call. `None` when the call is to stay as it is.
    async fn register(&self, callback_params: CallbackParams) -> Result<Option<Callback>, ApiError> {
        let account = callback_params.account.clone();
        let known = |owner| drop(self.made.set(Creation { owner, account }));
        if !matches!(self.endpoint, Endpoint::Create(_)) {
            known(Owner::default());
            return Ok(None);
        }
        let intake = &self.intake;
        let (reply_ref, is_free, forward_url) = match callback_params.plan(intake.urls()) {
            Plan::Set { reply_ref, is_free, forward_url } => (reply_ref, is_free, forward_url),
            Plan::Leave { over: Some(Target::Ref(id)), .. } => {
                known(Owner::Ref { id, made: false });
                return Ok(None);
            }
            Plan::Leave { reply_ref, .. } => {
                known(Owner::Nobody(reply_ref));
                return Ok(None);
            }
        };
        let record = intake.register_gateway(reply_ref, forward_url).await?;
        known(Owner::Ref { id: record.id.clone(), made: true });
        Ok(Some(Callback {
            reply_url: intake.urls().reply_url(&Target::Ref(record.id)),
            made_ref: is_free.then(|| record.reply_ref.as_str().to_owned()),
        }))
    }
}

/// A form as it is sent on.
struct RewritingBody {
    making: Making,
    parts: MultipartRewriter,
    payload: Payload,
    /// Until it is sent on.
    held: Option<HeldBody>,
    is_over: bool,
}

impl RewritingBody {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Result<Bytes, ApiError>> {
        while !self.is_over {
            let piece = match self.read().await {
                Ok(Some(piece)) => self.feed(&piece).await,
                Ok(None) => {
                    self.is_over = true;
                    Ok(self.parts.finish())
                }
                Err(error) => {
                    self.is_over = true;
                    Err(error)
                }
            };
            if !piece.as_ref().is_ok_and(Bytes::is_empty) {
                return Some(piece);
            }
        }
        None
    }

    async fn read(&mut self) -> Result<Option<Bytes>, ApiError> {
        match &mut self.held {
            Some(held) => held.next(&mut self.payload).await,
            None => body::next(&mut self.payload).await.transpose().map_err(ApiError::incomplete),
        }
    }

    /// What is sent on first; the rest is not held.
    fn held_so_far(&mut self, begun: Vec<u8>) -> Bytes {
        match self.held.take() {
            Some(held) => held.into_bytes(begun),
            None => Bytes::from(begun),
        }
    }

    async fn feed(&mut self, piece: &[u8]) -> Result<Bytes, ApiError> {
        let passed = self.parts.feed(piece);
        if !self.parts.is_closing() {
            return Ok(passed);
        }
        let callback = self.making.register(self.parts.callback_params()).boxed_local().await;
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

fn is_encoded(request: &HttpRequest) -> bool {
    let mut codings = request.headers().get_all(CONTENT_ENCODING);
    codings.any(|coding| !matches!(coding.as_bytes().trim_ascii(), b"" | b"identity"))
}
