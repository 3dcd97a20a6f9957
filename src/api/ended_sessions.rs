use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use actix_web::web;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::auth::SessionId;
use super::cookie::LASTS;
use crate::cluster::{Cluster, ClusterError, Note};
use crate::disk::write_durably;

/// Sessions that were ended before their time, in memory and in a file, so that a restart brings none back.
#[derive(Debug)]
pub(super) struct EndedSessions {
    path: PathBuf,
    /// Locked for every request with a cookie, so never while anything is written.
    known: Mutex<Known>,
    /// The number of the last change that the file has. Locked while it is written, so that it never goes back.
    written: Arc<tokio::sync::Mutex<u64>>,
}

#[derive(Debug)]
struct Known {
    /// By the key of the token that they were opened with.
    tokens: BTreeMap<String, OfToken>,
    /// How often they have changed.
    changes: u64,
    clock: SteadyClock,
}

/// Tells whether the time that callers give goes as time does.
#[derive(Debug)]
struct SteadyClock {
    since: Instant,
    /// In seconds since 1970 UTC.
    at: u64,
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
        let clock = SteadyClock { since: Instant::now(), at: now };
        Self { path, known: Mutex::new(Known { tokens: kept, changes: 0, clock }), written: Arc::default() }
    }

    /// Whether a session was ended.
    pub(super) fn contain(&self, session: &SessionId) -> bool {
        self.known.lock().contain(session)
    }

    /// Ends sessions at once, and waits until that is written down.
    ///
    /// # Errors
    /// When it cannot be; they are ended until the next start all the same.
    pub(super) async fn end(&self, sessions: &[SessionId], now: u64) -> io::Result<()> {
        if sessions.is_empty() {
            return Ok(());
        }
        let change = self.known.lock().end(sessions, now);
        let mut written = self.written.clone().lock_owned().await;
        if *written >= change {
            return Ok(());
        }
        let (bytes, change) = {
            let known = self.known.lock();
            (serde_json::to_vec(&known.tokens)?, known.changes)
        };
        let path = self.path.clone();
        // It is written although nobody waits any more: whoever is next waits for that.
        let writing = web::block(move || write_durably(&path, &bytes).map(|()| *written = change));
        writing.await.map_err(io::Error::other)?
    }

    /// All of the token's sessions that end by then are ended; in seconds since 1970 UTC.
    fn all_until(&self, token: &str) -> u64 {
        self.known.lock().tokens.get(token).map_or(0, |of_token| of_token.until)
    }
}

impl Known {
    fn contain(&self, session: &SessionId) -> bool {
        // Earlier versions wrote them under the token's name. No two sessions have one id.
        let are_all_ended = |key: &str| self.tokens.get(key).is_some_and(|of_token| session.expires <= of_token.until);
        are_all_ended(&session.token)
            || are_all_ended(&session.name)
            || self.tokens.values().any(|of_token| of_token.sessions.contains_key(&session.id))
    }

    /// Ends those that are not; the number of the change that they are ended with.
    fn end(&mut self, sessions: &[SessionId], now: u64) -> u64 {
        // By a clock that is ahead for a moment all have expired, and would be open again.
        if self.clock.is_steady(now, Instant::now()) {
            self.forget_expired(now);
        }
        for session in sessions {
            if self.contain(session) {
                continue;
            }
            let of_token = self.tokens.entry(session.token.to_string()).or_default();
            of_token.sessions.insert(session.id.clone(), session.expires);
            if of_token.sessions.len() > MAX_OF_TOKEN {
                *of_token = OfToken { until: now + LASTS, ..OfToken::default() };
            }
            self.changes += 1;
        }
        self.changes
    }

    fn forget_expired(&mut self, now: u64) {
        for of_token in self.tokens.values_mut() {
            of_token.sessions.retain(|_, expires| *expires > now);
        }
        self.tokens.retain(|_, of_token| of_token.until > now || !of_token.sessions.is_empty());
    }
}

impl SteadyClock {
    /// Whether it has gone as far as time has for an hour, being `now` at `instant`. Where it has jumped, it is watched
    /// anew.
    fn is_steady(&mut self, now: u64, instant: Instant) -> bool {
        const WATCHED: u64 = 3600;
        const TOLERANCE: u64 = 600;
        let passed = instant.duration_since(self.since).as_secs();
        if now.abs_diff(self.at.saturating_add(passed)) > TOLERANCE {
            *self = Self { since: instant, at: now };
            return false;
        }
        passed >= WATCHED
    }
}

/// Notes of the kind have the key of a token and the id of a session; or `*` and, as their text, until when all are ended.
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
    // Replicas of earlier versions give the token's name.
    let keys = [&session.token, &session.name].map(|token| [note_key(token, "*"), note_key(token, &session.id)]);
    let notes = cluster.notes(NOTE, &keys.as_flattened().iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let is_ended =
        |note: &Note| !note.key.ends_with("/*") || note.body.parse().is_ok_and(|until: u64| until >= session.expires);
    Ok(notes.iter().any(is_ended))
}

fn read(path: &Path) -> io::Result<BTreeMap<String, OfToken>> {
    let file = File::open(path)?;
    if file.metadata()?.len() > MAX_FILE_BYTES {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "expected at most 4 MiB"));
    }
    Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, now: u64) -> EndedSessions {
        EndedSessions::open(dir, ["one", "two"].map(str::to_owned).into_iter(), now)
    }

    fn session(token: &str, id: &str, expires: u64) -> SessionId {
        SessionId { token: token.into(), name: "api_tokens[0]".into(), id: id.to_owned(), expires }
    }

    #[test]
    fn what_was_ended_under_the_name_of_a_token_stays_ended() {
        let dir = tempfile::tempdir().unwrap();
        let kept = r#"{"api_tokens[0]": {"until": 200, "sessions": {}}, "old": {"until": 0, "sessions": {"a": 300}}}"#;
        std::fs::write(dir.path().join("sessions.json"), kept).unwrap();
        let ended = open(dir.path(), 100);
        let ends = |id: &str, expires| ended.contain(&session("key", id, expires));
        assert!(ends("never seen", 200) && ends("a", 300) && !ends("b", 300));
    }

    #[tokio::test]
    async fn an_ended_session_stays_ended_after_a_restart_and_others_are_let_be() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), 100).end(&[session("one", "a", 200), session("two", "b", 200)], 100).await.unwrap();
        let again = open(dir.path(), 101);
        assert!(again.contain(&session("one", "a", 200)) && again.contain(&session("two", "b", 200)));
        assert!(!again.contain(&session("one", "c", 200)) && !again.contain(&session("two", "d", 200)));
    }

    #[tokio::test]
    async fn a_clock_that_is_ahead_for_a_moment_brings_no_ended_session_back() {
        let dir = tempfile::tempdir().unwrap();
        let ended = open(dir.path(), 100);
        ended.end(&[session("one", "a", 200)], 100).await.unwrap();
        ended.end(&[session("one", "b", 90_300)], 90_000).await.unwrap();
        for ended in [ended, open(dir.path(), 101)] {
            assert!(ended.contain(&session("one", "a", 200)) && ended.contain(&session("one", "b", 90_300)));
        }
    }

    #[test]
    fn what_has_expired_is_forgotten_once_the_clock_was_steady_for_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let ended = open(dir.path(), 100);
        let mut known = ended.known.lock();
        known.end(&[session("one", "a", 200), session("two", "b", 9000)], 100);
        let begun = known.clock.since;
        let after = |seconds| begun + std::time::Duration::from_secs(seconds);
        assert!(!known.clock.is_steady(3699, after(3599)));
        assert!(known.clock.is_steady(3701, after(3600)));
        // Set forward by a day, and watched from then on.
        assert!(!known.clock.is_steady(90_101, after(3601)) && !known.clock.is_steady(93_000, after(6500)));
        assert!(known.clock.is_steady(93_701, after(7201)));
        known.forget_expired(201);
        assert!(!known.contain(&session("one", "a", 200)) && known.contain(&session("two", "b", 9000)));
        assert!(!known.tokens.contains_key("one"));
    }

    #[tokio::test]
    async fn more_than_are_kept_end_all_of_their_token_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let ended = open(dir.path(), 100);
        ended.end(&[session("two", "x", 200)], 100).await.unwrap();
        let many: Vec<_> = (0..=MAX_OF_TOKEN).map(|number| session("one", &number.to_string(), 200)).collect();
        ended.end(&many, 100).await.unwrap();
        let ends = |token: &str, id: &str, expires| ended.contain(&session(token, id, expires));
        assert!(ends("one", "0", 200) && ends("one", "never seen", 100 + LASTS));
        assert!(!ends("one", "opened later", 101 + LASTS));
        assert!(ends("two", "x", 200) && !ends("two", "y", 200));
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_when_it_is_ended_again() {
        let dir = tempfile::tempdir().unwrap();
        let ended = open(dir.path(), 100);
        let draft = dir.path().join("sessions.json.new");
        std::fs::create_dir(&draft).unwrap();
        ended.end(&[session("one", "a", 200)], 100).await.unwrap_err();
        assert!(ended.contain(&session("one", "a", 200)));
        std::fs::remove_dir(&draft).unwrap();
        ended.end(&[session("one", "a", 200)], 100).await.unwrap();
        assert!(open(dir.path(), 100).contain(&session("one", "a", 200)));
        // What is written is not written again.
        std::fs::remove_file(dir.path().join("sessions.json")).unwrap();
        ended.end(&[session("one", "a", 200)], 100).await.unwrap();
        assert!(!dir.path().join("sessions.json").exists());
    }

    #[test]
    fn a_damaged_file_ends_every_session_that_is_open() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sessions.json"), "{").unwrap();
        let ended = open(dir.path(), 100);
        assert!(ended.contain(&session("one", "a", 100 + LASTS)) && !ended.contain(&session("one", "a", 101 + LASTS)));
    }
}
