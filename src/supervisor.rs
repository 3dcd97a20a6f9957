//! Notices that something which must run has ended.
//!
//! A thread or task that the service cannot do without carries a [`Guard`]. However it ends, by returning, by a panic or by
//! being dropped, the supervisor hears of it, and the process ends with the reason instead of living on without that part.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

/// Hears of the first part that ends. Cheap to clone; all clones hear the same.
#[derive(Clone, Debug)]
pub struct Supervisor {
    ended: watch::Sender<Option<Ended>>,
}

/// A part that has ended although it must run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {name} has ended: {reason}")]
pub struct Ended {
    /// What the part is called, such as `journal thread`.
    pub name: &'static str,
    /// What is known of the reason.
    pub reason: String,
}

impl Supervisor {
    /// Supervises nothing yet.
    pub fn new() -> Self {
        Self { ended: watch::Sender::new(None) }
    }

    /// Tells of `name` as ended when it is dropped.
    pub fn guard(&self, name: &'static str) -> Guard {
        Guard { name, reason: None, ended: self.ended.clone() }
    }

    /// Runs `work` on a thread of its own that must not end. `shared` is what other threads wait on: it goes only after the
    /// end was reported, so that none of them ends first and is taken for the cause.
    ///
    /// # Errors
    /// When the system refuses another thread.
    pub fn thread<S: Send + 'static>(
        &self,
        name: &'static str,
        shared: S,
        work: impl FnOnce(&S) + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        if is_refused(name) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let guard = self.guard(name);
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let shared = shared;
            let _guard = guard;
            if !is_cut_short(name) {
                work(&shared);
            }
        })
    }

    /// `work`, which must not end, for a task to run.
    pub fn watch<E: ToString, W: Future<Output = Result<(), E>> + Send>(
        &self,
        name: &'static str,
        work: W,
    ) -> impl Future<Output = ()> + Send + use<E, W> {
        let guard = self.guard(name);
        async move {
            let mut guard = guard;
            if is_cut_short(name) {
                return;
            }
            if let Err(error) = work.await {
                guard.reason = Some(error.to_string());
            }
        }
    }

    /// Resolves when a part has ended. All parts end when the service stops, so nobody should ask from then on.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(ended)) => ended.clone(),
            // There is a sender as long as there is a supervisor.
            _ => std::future::pending().await,
        }
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

/// Belongs to whatever must not end, and lives as long.
#[derive(Debug)]
pub struct Guard {
    name: &'static str,
    reason: Option<String>,
    ended: watch::Sender<Option<Ended>>,
}

impl Guard {
    /// Tells of the part as ended, and why.
    pub fn end(mut self, reason: String) {
        self.reason = Some(reason);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let reason = self
            .reason
            .take()
            .unwrap_or_else(|| if thread::panicking() { "it panicked".to_owned() } else { "it returned".to_owned() });
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(Ended { name: self.name, reason });
            is_first
        });
    }
}

/// The failure point of each part is called `supervisor.` and the part's name.
fn is_cut_short(name: &str) -> bool {
    fail::has_failpoints() && fail::eval(&format!("supervisor.{name}"), |_| ()).is_some()
}

/// The failure point at which the system refuses a thread is called `thread.` and the part's name.
fn is_refused(name: &str) -> bool {
    fail::has_failpoints() && fail::eval(&format!("thread.{name}"), |_| ()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn however_a_part_ends_the_supervisor_hears_of_it() {
        for (end, reason) in [
            ((|| Ok(())) as fn() -> Result<(), &'static str>, "it returned"),
            (|| panic!("struck by lightning"), "it panicked"),
            (|| Err("the disk is gone"), "the disk is gone"),
        ] {
            let supervisor = Supervisor::new();
            let _ = tokio::spawn(supervisor.watch("part", async move { end() })).await;
            assert_eq!(supervisor.ended().await, Ended { name: "part", reason: reason.to_owned() });
        }
        let supervisor = Supervisor::new();
        drop(supervisor.watch("part", std::future::pending::<Result<(), String>>()));
        assert_eq!(supervisor.ended().await.reason, "it returned");
    }

    #[tokio::test]
    async fn the_part_that_ended_first_is_the_one_told_of() {
        let supervisor = Supervisor::new();
        let _ = supervisor.thread("first", (), |()| panic!("struck by lightning")).unwrap().join();
        let _ = supervisor.thread("second", (), |()| ()).unwrap().join();
        assert_eq!(supervisor.ended().await.to_string(), "the first has ended: it panicked");
    }
}
