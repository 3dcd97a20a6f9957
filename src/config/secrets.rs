//! `secrets.toml` in the data directory: what was made on the first start because nothing was configured.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::Secret;
use super::data_dir::{DataDirError, make};
use crate::notify::SigningKeys;

/// The secrets that were made and not configured.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// An admin token of the API.
    pub api_token: Option<SecretString>,
    /// A key of reply URLs.
    pub reply_secret: Option<SecretString>,
    /// What signs events to the `notifyUrl` of a ref, as Standard Webhooks writes it.
    pub notify_secret: Option<SecretString>,
    /// What archived segments of the journal are encrypted with. The first encrypts, all decrypt.
    pub journal_keys: Vec<SecretString>,
    /// True when the API token or the reply secret was made just now: it has never been shown to anyone.
    pub made: bool,
}

/// Which secrets there have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// [`Secrets::api_token`].
    pub api_token: bool,
    /// [`Secrets::reply_secret`].
    pub reply_secret: bool,
    /// [`Secrets::notify_secret`].
    pub notify_secret: bool,
    /// [`Secrets::journal_keys`].
    pub journal_keys: bool,
}

impl Wanted {
    /// None of them.
    pub const NOTHING: Self = Self { api_token: false, reply_secret: false, notify_secret: false, journal_keys: false };
}

/// Why there are no secrets. Holds none.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Its directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// It can't be read or written.
    #[error("{path}: it cannot be {action}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path}: expected a file that only its owner can read (mode 0600), found mode {mode:04o}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what was written.
    #[error(
        "{path}: expected nothing but api_token, reply_secret, notify_secret and a list of journal_keys, each a text that is not empty"
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    api_token: Option<Secret>,
    reply_secret: Option<Secret>,
    notify_secret: Option<Secret>,
    #[serde(default)]
    journal_keys: Vec<Secret>,
}

impl Secrets {
    /// Reads the secrets in `dir`, and makes those that are wanted and not there.
    ///
    /// # Errors
    /// When the file can't be read or written, others may read it, or it is damaged.
    pub fn load_or_create(dir: &Path, wanted: Wanted) -> Result<Self, SecretsError> {
        if wanted == Wanted::NOTHING {
            return Ok(Self::default());
        }
        make(dir)?;
        // Two processes that start at a time must not each make their own. Where a directory can't be locked, the
        // second still reads what it wrote itself.
        let lock = File::open(dir).ok();
        let _ = lock.as_ref().map(File::lock);
        let path = dir.join("secrets.toml");
        let mut secrets = Self::load(&path)?;
        for (wanted, secret) in
            [(wanted.api_token, &mut secrets.api_token), (wanted.reply_secret, &mut secrets.reply_secret)]
        {
            if wanted && secret.is_none() {
                *secret = Some(random());
                secrets.made = true;
            }
        }
        let wants_notify = wanted.notify_secret && secrets.notify_secret.is_none();
        if wants_notify {
            secrets.notify_secret = Some(SigningKeys::generate());
        }
        let wants_key = wanted.journal_keys && secrets.journal_keys.is_empty();
        if wants_key {
            secrets.journal_keys.push(random());
        }
        if secrets.made || wants_key || wants_notify {
            secrets.save(dir, &path)?;
        }
        Ok(secrets)
    }

    pub(super) fn load(path: &Path) -> Result<Self, SecretsError> {
        let fail = |source| SecretsError::Io { path: path.to_owned(), action: "read", source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(fail(error)),
        };
        let mode = file.metadata().map_err(fail)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretsError::Exposed { path: path.to_owned(), mode });
        }
        let content: Content = toml::from_str(&io::read_to_string(file).map_err(fail)?)
            .map_err(|_| SecretsError::Content { path: path.to_owned() })?;
        let plain = |secret: Option<Secret>| secret.map(|secret| secret.0);
        Ok(Self {
            api_token: plain(content.api_token),
            reply_secret: plain(content.reply_secret),
            notify_secret: plain(content.notify_secret),
            journal_keys: content.journal_keys.into_iter().map(|key| key.0).collect(),
            made: false,
        })
    }

    /// Writes the file so that it is there wholly or not at all, and stays.
    fn save(&self, dir: &Path, path: &Path) -> Result<(), SecretsError> {
        let fail = |source| SecretsError::Io { path: path.to_owned(), action: "written", source };
        let mut text = "# Made by replyvault because the configuration names none. Whoever has the reply secret can\n\
                        # make callbacks; without it, reply URLs handed out so far no longer work. Receivers behind a\n\
                        # notifyUrl verify events with the notify secret. What is below\n\
                        # _journal/ in the bucket can be read with a key of journal_keys and not without: keep a copy.\n"
            .to_owned();
        for (key, secret) in [
            ("api_token", &self.api_token),
            ("reply_secret", &self.reply_secret),
            ("notify_secret", &self.notify_secret),
        ] {
            if let Some(secret) = secret {
                text += &format!("{key} = {}\n", toml::Value::from(secret.expose_secret()));
            }
        }
        if !self.journal_keys.is_empty() {
            let keys = self.journal_keys.iter().map(|key| toml::Value::from(key.expose_secret())).collect();
            text += &format!("journal_keys = {}\n", toml::Value::Array(keys));
        }
        let temporary = dir.join(format!("secrets.toml.{}", rand::random::<u32>()));
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            fail(error)
        })
    }
}

fn random() -> SecretString {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const BOTH: Wanted = Wanted { api_token: true, reply_secret: true, ..Wanted::NOTHING };

    fn texts(secrets: &Secrets) -> [Option<&str>; 2] {
        [&secrets.api_token, &secrets.reply_secret].map(|secret| secret.as_ref().map(ExposeSecret::expose_secret))
    }

    #[test]
    fn secrets_are_made_once_and_stay() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("data");
        let reply = Secrets::load_or_create(&dir, Wanted { reply_secret: true, ..Wanted::NOTHING }).unwrap();
        assert!(reply.made && reply.api_token.is_none());
        let both = Secrets::load_or_create(&dir, BOTH).unwrap();
        assert!(both.made);
        assert_eq!(texts(&both)[1], texts(&reply)[1]);
        assert!(texts(&both).iter().all(|secret| secret.unwrap().len() == 43));
        let again = Secrets::load_or_create(&dir, BOTH).unwrap();
        assert!(!again.made);
        assert_eq!(texts(&again), texts(&both));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("secrets.toml"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert!(!format!("{both:?}").contains(texts(&both)[0].unwrap()));
    }

    #[test]
    fn a_journal_key_is_added_to_what_an_earlier_version_made() {
        let directory = tempfile::tempdir().unwrap();
        let before = Secrets::load_or_create(directory.path(), BOTH).unwrap();
        let wanted = Wanted { journal_keys: true, ..BOTH };
        let with_key = Secrets::load_or_create(directory.path(), wanted).unwrap();
        assert!(!with_key.made, "nothing to show");
        assert_eq!(texts(&with_key), texts(&before));
        let [key] = with_key.journal_keys.as_slice() else { panic!("one key") };
        assert_eq!(key.expose_secret().len(), 43);
        let again = Secrets::load_or_create(directory.path(), wanted).unwrap();
        assert_eq!(again.journal_keys[0].expose_secret(), key.expose_secret());
    }

    #[test]
    fn processes_that_start_at_a_time_share_them() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("data");
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let dir = dir.clone();
                std::thread::spawn(move || Secrets::load_or_create(&dir, BOTH).unwrap())
            })
            .collect();
        let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(all.iter().all(|secrets| texts(secrets) == texts(&all[0])));
        assert_eq!(all.iter().filter(|secrets| secrets.made).count(), 1);
    }

    #[test]
    fn a_file_that_is_exposed_or_damaged_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        let path = dir.join("secrets.toml");
        Secrets::load_or_create(dir, BOTH).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Secrets::load_or_create(dir, BOTH).unwrap_err().to_string();
        assert!(
            error.ends_with("expected a file that only its owner can read (mode 0600), found mode 0640"),
            "{error}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for content in ["api_token = \"\"", "api_tokens = \"hidden\"", "api_token = 5", "hidden", "[api_token]"] {
            fs::write(&path, content).unwrap();
            let error = Secrets::load_or_create(dir, BOTH).unwrap_err();
            assert!(matches!(error, SecretsError::Content { .. }), "{error}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }
}
