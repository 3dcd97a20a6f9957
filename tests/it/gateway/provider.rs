//! A provider that notes what it is asked and answers what a test tells it to.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use replyvault::egress::{self, AllowedHosts};
use replyvault::gateway;
use serde_json::Value;

use crate::support::stand_in;
use crate::support::vault::{TOKEN, Vault};

/// The token that the vault has for the provider.
pub(crate) const PROVIDER_TOKEN: &str = "provider-token-of-the-vault";
/// A provider token of a caller's own.
pub(crate) const CALLERS_TOKEN: &str = "provider-token-of-a-caller";

type Script = dyn Fn(&Asked) -> HttpResponse + Send + Sync;

/// A request as the provider got it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }
}

pub(crate) struct Provider {
    pub(crate) base_url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Provider {
    pub(crate) fn start(script: impl Fn(&Asked) -> HttpResponse + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, script): (_, Arc<Script>) = (asked.clone(), Arc::new(script));
        let server = HttpServer::new(move || {
            let (noted, script) = (noted.clone(), script.clone());
            App::new().app_data(web::PayloadConfig::new(64 << 20)).default_service(web::to(
                move |request: HttpRequest, body: Bytes| {
                    let headers = request.headers().iter();
                    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
                    let asked = Asked {
                        method: request.method().to_string(),
                        target: request.uri().to_string(),
                        headers: headers.collect(),
                        body,
                    };
                    let answer = script(&asked);
                    noted.lock().unwrap().push(asked);
                    std::future::ready(answer)
                },
            ))
        });
        tokio::spawn(stand_in(server).listen(listener).unwrap().run());
        Self { base_url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What it was asked last.
    pub(crate) fn last(&self) -> Asked {
        self.asked().pop().expect("nothing was asked")
    }
}

pub(crate) fn loopback() -> egress::Config {
    egress::Config {
        allowed_hosts: AllowedHosts::Only(vec!["127.0.0.1".parse().unwrap()]),
        allow_http: true,
        allow_private_addresses: true,
    }
}

/// How the vault's gateway reaches a provider.
pub(crate) fn gateway(base_url: &str) -> gateway::Config {
    gateway::Config {
        base_url: base_url.parse().unwrap(),
        egress: loopback(),
        api_tokens: vec![TOKEN.into()],
        provider_token: Some(PROVIDER_TOKEN.into()),
        provider_tokens: vec![CALLERS_TOKEN.into()],
        adopt_listed: false,
    }
}

/// A vault with a gateway to a provider, which it does not ask anything by itself.
pub(crate) async fn vault(base_url: &str) -> Vault {
    Vault::start_with(|settings| settings.gateway = Some(gateway(base_url))).await
}
