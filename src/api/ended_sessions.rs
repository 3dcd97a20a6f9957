use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use super::auth::SessionId;
use super::cookie::LASTS;
use crate::cluster::{Cluster, ClusterError, Note};

/// Sessions that were ended before their time, in memory and in a file, so that a restart brings none back.
#[derive(Debug)]
pub(super) struct EndedSessions {
    path: PathBuf,
    /// By the name of the token that they were opened with.
    tokens: Mutex<BTreeMap<String, OfToken>>,
}

/// How many are kept of one token's. Of more, all that are open are ended.
const MAX_OF_TOKEN: usize = 1000;
/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct OfToken {
    /// All that end by then are ended; in seconds since 1970 UTC.
    until: u64,
    /// When each would have ended by itself, by its id.
    sessions: BTreeMap<String, u64>,
}

impl EndedSessions {
    /// Reads what is kept in `dir`. When that cannot be read, every session of `tokens` is taken for ended.
    pub(super) fn open(dir: &Path, tokens: impl Iterator<Item = String>, now: u64) -> Self {
        let path = dir.join("sessions.json");
        let kept = match read(&path) {
            Ok(kept) => kept,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "which sessions were ended is not known, so all are");
                let of_token = OfToken { until: now + LASTS, ..OfToken::default() };
                tokens.map(|token| (token, of_token.clone())).collect()
            }
        };
        Self { path, tokens: Mutex::new(kept) }
    }

    /// Whether a session was ended.
    pub(super) fn contain(&self, token: &str, id: &str, expires: u64) -> bool {
        let tokens = self.lock();
        let of_token = tokens.get(token);
        of_token.is_some_and(|of_token| expires <= of_token.until || of_token.sessions.contains_key(id))
    }

    /// Ends a session. Blocks.
    ///
    /// # Errors
    /// When that cannot be written down; it is ended until the next start all the same.
    pub(super) fn end(&self, token: &str, id: &str, expires: u64, now: u64) -> io::Result<()> {
        let mut tokens = self.lock();
        let of_token = tokens.entry(token.to_owned()).or_default();
        of_token.sessions.retain(|_, expires| *expires > now);
        of_token.sessions.insert(id.to_owned(), expires);
        if of_token.sessions.len() > MAX_OF_TOKEN {
            *of_token = OfToken { until: now + LASTS, ..OfToken::default() };
        }
        tokens.retain(|_, of_token| of_token.until > now || !of_token.sessions.is_empty());
        // Under the lock, so that the file never goes back.
        write(&self.path, &serde_json::to_vec(&*tokens)?)
    }

    /// All of the token's sessions that end by then are ended; in seconds since 1970 UTC.
    fn all_until(&self, token: &str) -> u64 {
        self.lock().get(token).map_or(0, |of_token| of_token.until)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OfToken>> {
        self.tokens.lock()
    }
}

/// Notes of the kind have the name of a token and the id of a session; or `*` and, as their text, until when all are ended.
const NOTE: &str = "ended-session";

fn note_key(token: &str, session: &str) -> String {
    format!("{token}/{session}")
}

/// Tells the other replicas that a session was ended, which is known here.
///
/// # Errors
/// When PostgreSQL does not answer.
pub(super) async fn end_elsewhere(
    ended: &EndedSessions,
    cluster: &Cluster,
    session: &SessionId,
) -> Result<(), ClusterError> {
    const LASTS_SECONDS: u32 = LASTS as u32;
    let until = ended.all_until(&session.token);
    if until >= session.expires {
        let key = note_key(&session.token, "*");
        return cluster.put_note(NOTE, &key, &until.to_string(), LASTS_SECONDS).await;
    }
    cluster.put_note(NOTE, &note_key(&session.token, &session.id), "", LASTS_SECONDS).await
}

/// Whether a replica has told that a session was ended.
///
/// # Errors
/// When PostgreSQL does not answer.
pub(super) async fn is_ended_elsewhere(cluster: &Cluster, session: &SessionId) -> Result<bool, ClusterError> {
    let (of_all, of_this) = (note_key(&session.token, "*"), note_key(&session.token, &session.id));
    let notes = cluster.notes(NOTE, &[&of_all, &of_this]).await?;
    let is_ended =
        |note: &Note| note.key != of_all || note.body.parse().is_ok_and(|until: u64| until >= session.expires);
    Ok(notes.iter().any(is_ended))
}

fn read(path: &Path) -> io::Result<BTreeMap<String, OfToken>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_FILE_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "expected at most 4 MiB"));
    }
    Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

/// Whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, now: u64) -> EndedSessions {
        EndedSessions::open(dir, ["one", "two"].map(str::to_owned).into_iter(), now)
    }

    #[test]
    fn an_ended_session_stays_ended_after_a_restart_and_others_are_let_be() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 100).end("one", "a", 200, 100).unwrap();
        let again = open(dir.path(), 101);
        assert!(again.contain("one", "a", 200));
        assert!(!again.contain("one", "b", 200) && !again.contain("two", "a", 200));
    }

    #[test]
    fn more_than_are_kept_end_all_of_their_token_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let ended = open(dir.path(), 100);
        ended.end("two", "x", 200, 100).unwrap();
        for number in 0..=MAX_OF_TOKEN {
            ended.lock().entry("one".to_owned()).or_default().sessions.insert(number.to_string(), 200);
        }
        ended.end("one", "last", 200, 100).unwrap();
        assert!(ended.contain("one", "0", 200) && ended.contain("one", "never seen", 100 + LASTS));
        assert!(!ended.contain("one", "opened later", 101 + LASTS));
        assert!(ended.contain("two", "x", 200) && !ended.contain("two", "y", 200));
    }

    #[test]
    fn a_damaged_file_ends_every_session_that_is_open() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sessions.json"), "{").unwrap();
        let ended = open(dir.path(), 100);
        assert!(ended.contain("one", "a", 100 + LASTS) && !ended.contain("one", "a", 101 + LASTS));
    }
}
