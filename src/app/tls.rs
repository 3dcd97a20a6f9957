//! HTTPS: the certificate and its key, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// The certificate's key, in PEM.
    pub key: PathBuf,
}

/// Why there is no HTTPS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate's file is none.
    #[error("{path}: expected a certificate chain in PEM: {problem}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The key's file is none, or belongs to another certificate.
    #[error("{path}: expected the certificate's private key in PEM: {problem}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// rustls does not want to.
    #[error("HTTPS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// What the files say.
#[derive(PartialEq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl TlsFiles {
    fn read(&self) -> Result<Content, TlsError> {
        let certificate = std::fs::read(&self.certificate).map_err(|error| self.bad_certificate(error))?;
        let key = std::fs::read(&self.key).map_err(|error| self.bad_key(error))?;
        Ok(Content { certificate, key })
    }

    fn parse(&self, content: &Content) -> Result<CertifiedKey, TlsError> {
        let chain = CertificateDer::pem_slice_iter(&content.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| self.bad_certificate(error))?;
        if chain.is_empty() {
            return Err(self.bad_certificate("there is none in it"));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key).map_err(|error| self.bad_key(error))?;
        let provider = ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InvalidCertificate(_) => self.bad_certificate(error),
            error => self.bad_key(error),
        })
    }

    fn bad_certificate(&self, problem: impl ToString) -> TlsError {
        TlsError::Certificate { path: self.certificate.clone(), problem: problem.to_string() }
    }

    fn bad_key(&self, problem: impl ToString) -> TlsError {
        TlsError::Key { path: self.key.clone(), problem: problem.to_string() }
    }

    /// Whether HTTPS can be served with them.
    ///
    /// # Errors
    /// When it can't.
    pub fn check(&self) -> Result<(), TlsError> {
        self.parse(&self.read()?).map(drop)
    }
}

/// The server's own certificate in a chain's file.
///
/// # Errors
/// When there is none.
pub fn own_certificate(path: &Path) -> Result<CertificateDer<'static>, TlsError> {
    let problem = |problem: String| TlsError::Certificate { path: path.to_owned(), problem };
    let mut chain = CertificateDer::pem_file_iter(path).map_err(|error| problem(error.to_string()))?;
    match chain.next() {
        Some(certificate) => certificate.map_err(|error| problem(error.to_string())),
        None => Err(problem("there is none in it".to_owned())),
    }
}

/// The certificate that is served now.
pub(super) struct Certificate {
    files: TlsFiles,
    content: Content,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    pub(super) fn read(files: TlsFiles) -> Result<Self, TlsError> {
        let content = files.read()?;
        let current = Arc::new(Current(RwLock::new(Arc::new(files.parse(&content)?))));
        Ok(Self { files, content, current })
    }

    /// What serves it, and from then on whatever replaces it.
    pub(super) fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        Ok(config.with_no_client_auth().with_cert_resolver(self.current.clone()))
    }

    /// Reads the files again and again; goes on until dropped. What can't be used leaves the certificate as it is.
    pub(super) async fn watch(mut self) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            // Both are small, and a change of time alone does not say that a file is whole.
            let reload = tokio::task::spawn_blocking(move || {
                let reloaded = self.reload();
                (self, reloaded)
            });
            let Ok((this, reloaded)) = reload.await else { return };
            self = this;
            match reloaded {
                Ok(true) => tracing::info!("serving the new certificate"),
                Ok(false) => {}
                // Said once, not every time.
                Err(error) if error.to_string() == said => continue,
                Err(error) => {
                    said = error.to_string();
                    tracing::warn!(%error, "the certificate stays as it was");
                    continue;
                }
            }
            said.clear();
        }
    }

    fn reload(&mut self) -> Result<bool, TlsError> {
        let content = self.files.read()?;
        if content == self.content {
            return Ok(false);
        }
        let new = Arc::new(self.files.parse(&content)?);
        *self.current.0.write() = new;
        self.content = content;
        Ok(true)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}
