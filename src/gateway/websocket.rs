//! Speech over a WebSocket, which carries no header but a token in its query.

use std::io;
use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::http::header::{CONNECTION, UPGRADE};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use moka::sync::Cache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use url::form_urlencoded;

use super::Gateway;
use super::answer::builder;
use super::body::{Outgoing, Pump};
use super::call::Call;
use super::forward::unanswered;
use crate::egress::header::{self, HeaderMap, HeaderValue};
use crate::egress::{StatusCode, Upgraded};
use crate::intake::Problem;

/// What is read of the provider's side at a time, in bytes.
const PIECE: usize = 16 << 10;

/// The tokens that answers gave here, as digests, for as long as the provider takes them.
pub(super) struct StreamTokens(Cache<[u8; 32], ()>);

impl Default for StreamTokens {
    fn default() -> Self {
        const LIVES: Duration = Duration::from_secs(24 * 60 * 60);
        const MOST: u64 = 100_000;
        Self(Cache::builder().max_capacity(MOST).time_to_live(LIVES).build())
    }
}

impl StreamTokens {
    /// Remembers the token in an answer of `create-stream`.
    pub(super) fn learn(&self, body: &[u8]) {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        if let Ok(Answer { token }) = serde_json::from_slice(body)
            && !token.is_empty()
        {
            self.0.insert(Sha256::digest(token.as_bytes()).into(), ());
        }
    }

    /// Whether the request's query has such a token.
    pub(super) fn knows(&self, request: &HttpRequest) -> bool {
        let mut pairs = form_urlencoded::parse(request.query_string().as_bytes());
        let token = pairs.find(|(name, _)| name == "token");
        token.is_some_and(|(_, token)| self.0.contains_key(&<[u8; 32]>::from(Sha256::digest(token.as_bytes()))))
    }
}

/// Whether a request asks to go on as a WebSocket.
pub(super) fn is_asked_for(request: &HttpRequest) -> bool {
    let has = |name, wanted: &str| {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

impl Gateway {
    /// Connects the caller's WebSocket with the provider's: once both have agreed, every byte passes as it is.
    ///
    /// # Errors
    /// When the provider cannot be reached, or does not answer.
    pub(super) async fn speak(
        &self,
        request: &HttpRequest,
        payload: Payload,
        mut headers: HeaderMap,
    ) -> Result<HttpResponse, Problem> {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        let exchange = self.forward(request, headers, Outgoing::default()).await?;
        if exchange.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return self.answer(Call::Other, None, exchange).await;
        }
        let mut head = builder(&exchange.response);
        let (read, write) = split(exchange.response.upgraded().await.map_err(|error| unanswered(&error))?);
        let back = Speaking { read, pump: Some(Box::pin(carry(payload, write))) };
        Ok(head.upgrade("websocket").body(BodyStream::new(unfold(back, Speaking::next).boxed_local())))
    }
}

/// What the provider says, while what the caller says is carried over.
struct Speaking {
    read: ReadHalf<Upgraded>,
    pump: Option<Pump>,
}

impl Speaking {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let mut piece = vec![0; PIECE];
        let read = loop {
            match &mut self.pump {
                Some(pump) => tokio::select! {
                    read = self.read.read(&mut piece) => break read,
                    () = pump => self.pump = None,
                },
                None => break self.read.read(&mut piece).await,
            }
        };
        match read {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(piece.into()), self))
            }
            Err(error) => Some((Err(error), self)),
        }
    }
}

async fn carry(mut payload: Payload, mut write: WriteHalf<Upgraded>) {
    while let Some(Ok(piece)) = payload.next().await {
        if write.write_all(&piece).await.is_err() || write.flush().await.is_err() {
            return;
        }
    }
    // The provider is told, and ends its side.
    let _ = write.shutdown().await;
}
