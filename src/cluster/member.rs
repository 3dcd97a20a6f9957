//! Being a member: saying so, expelling who does not, taking a fair share of the work, and asking how far the log is.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::types::Type;

use super::connect::Connection;
use super::shares::SHARDS;
use super::{Cluster, ClusterError, log, notes};

/// Between two signs of life. One that gives none for 20 s, which the statements below say, is expelled.
const BEAT: Duration = Duration::from_secs(3);
/// Nothing new is begun after so long without one: others may have taken the work over.
const SUSPEND: Duration = Duration::from_secs(12);
/// Who could not reach the database itself does not judge others at once.
const MERCY: Duration = Duration::from_secs(10);

/// Shards that were taken, and how far the view must be before they are worked on: as far as whoever had them got.
#[derive(Debug)]
struct Taken {
    epoch: u64,
    shards: Vec<u32>,
    position: u64,
}

struct Member {
    cluster: Cluster,
    /// Since when the database has answered.
    answers_since: Instant,
    last_beat: Instant,
    taken: Vec<Taken>,
}

impl Cluster {
    /// Keeps this replica a member for as long as it runs. The log's thread makes the tables and joins: before that, there is
    /// nothing to ask.
    pub async fn run(&self) {
        let _ = self.inner.runtime.set(tokio::runtime::Handle::current());
        let readers = self.inner.reader_queue.lock().take();
        let Some(mut readers) = readers else { return };
        let mut epochs = self.inner.epoch.subscribe();
        tokio::select! {
            joined = epochs.wait_for(Option::is_some) => drop(joined),
            () = refuse(&mut readers) => return,
        }
        let now = Instant::now();
        let mut member = Member { cluster: self.clone(), answers_since: now, last_beat: now, taken: Vec::new() };
        loop {
            let connecting = self.inner.url.connect();
            let connected = tokio::select! {
                connected = connecting => connected,
                () = refuse(&mut readers) => return,
            };
            match connected {
                Ok(connection) => {
                    member.answers_since = Instant::now();
                    if let Err(error) = member.serve(&connection, &mut readers).await {
                        tracing::warn!(%error, "the cluster cannot be asked: work waits");
                    }
                }
                Err(error) => tracing::debug!(%error, "the cluster cannot be asked yet"),
            }
            member.suspend_if_late();
            tokio::select! {
                () = sleep(Duration::from_millis(500)) => {}
                () = refuse(&mut readers) => return,
            }
        }
    }
}

/// Answers readers while the log cannot be asked.
async fn refuse(readers: &mut mpsc::Receiver<oneshot::Sender<bool>>) {
    while let Some(reader) = readers.recv().await {
        let _ = reader.send(false);
    }
}

impl Member {
    async fn serve(
        &mut self,
        connection: &Connection,
        readers: &mut mpsc::Receiver<oneshot::Sender<bool>>,
    ) -> Result<(), ClusterError> {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut epochs, mut applied) = (self.cluster.inner.epoch.subscribe(), self.cluster.inner.applied.subscribe());
        loop {
            tokio::select! {
                _ = beats.tick() => self.beat(connection).await?,
                _ = epochs.changed() => beats.reset_immediately(),
                _ = applied.changed(), if !self.taken.is_empty() => self.grant(),
                Some(reader) = readers.recv() => {
                    let mut waiting = vec![reader];
                    while let Ok(reader) = readers.try_recv() {
                        waiting.push(reader);
                    }
                    let head = log::head(connection).await;
                    let position = *head.as_ref().unwrap_or(&0);
                    self.cluster.answer_readers(head.is_ok(), position, waiting);
                    head?;
                }
            }
        }
    }

    fn suspend_if_late(&self) {
        if self.last_beat.elapsed() > SUSPEND {
            self.cluster.shares().suspend(true);
        }
    }

    async fn beat(&mut self, connection: &Connection) -> Result<(), ClusterError> {
        let Some(epoch) = *self.cluster.inner.epoch.borrow() else { return Ok(()) };
        let began = Instant::now();
        if !self.is_alive(connection, epoch).await? {
            tracing::warn!(epoch, "this replica was expelled: what it had under way counts no more");
            self.cluster.shares().lose();
            self.taken.clear();
            self.cluster.inner.epoch.send_if_modified(|known| known.take_if(|known| *known == epoch).is_some());
            return Ok(());
        }
        self.last_beat = began;
        self.cluster.shares().suspend(false);
        if self.answers_since.elapsed() > MERCY {
            for expelled in expel(connection, self.cluster.id()).await? {
                tracing::warn!(replica = expelled, "a replica gives no sign of life: its work is taken over");
            }
        }
        self.balance(connection, epoch).await?;
        self.grant();
        if self.cluster.shares().list().contains(&0) {
            notes::remove_expired(connection).await?;
        }
        Ok(())
    }

    /// Says that this replica lives. False when its epoch is over.
    async fn is_alive(&self, connection: &Connection, epoch: u64) -> Result<bool, ClusterError> {
        let (id, epoch) = (self.cluster.id(), epoch.cast_signed());
        let applied = self.cluster.applied().cast_signed();
        let waiting = self.cluster.health().waiting.cast_signed();
        let rows = connection
            .query(
                "UPDATE replyvault_replica SET until = clock_timestamp() + interval '20 s', applied = $3, waiting = $4
                 WHERE id = $1 AND epoch = $2 RETURNING 1",
                &[(&id, Type::TEXT), (&epoch, Type::INT8), (&applied, Type::INT8), (&waiting, Type::INT8)],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// Gives back what is too much, and takes what is free.
    async fn balance(&mut self, connection: &Connection, epoch: u64) -> Result<(), ClusterError> {
        let rows = connection.query("SELECT count(*) FROM replyvault_replica WHERE until IS NOT NULL", &[]).await?;
        let members = rows.first().map_or(1, |row| row.get::<_, i64>(0)).clamp(1, SHARDS.into());
        let fair = SHARDS.div_ceil(u32::try_from(members).unwrap_or(1));
        let waiting =
            u32::try_from(self.taken.iter().map(|taken| taken.shards.len()).sum::<usize>()).unwrap_or_default();
        self.cluster.shares().release_idle((self.cluster.shares().count() + waiting).saturating_sub(fair));
        let mut known: Vec<i32> = self.cluster.shares().list().into_iter().map(u32::cast_signed).collect();
        known.extend(self.taken.iter().flat_map(|taken| &taken.shards).map(|shard| shard.cast_signed()));
        let held = u32::try_from(known.len()).unwrap_or(SHARDS);
        let (id, signed_epoch) = (self.cluster.id(), epoch.cast_signed());
        // With what was just released goes what an answer that was lost gave or took back: nobody works on that.
        connection
            .query(
                "UPDATE replyvault_lease SET holder = NULL, epoch = NULL
                 WHERE holder = $2 AND epoch = $3 AND shard <> ALL ($1)",
                &[(&known, Type::INT4_ARRAY), (&id, Type::TEXT), (&signed_epoch, Type::INT8)],
            )
            .await?;
        if held < fair {
            let most = i64::from(fair - held);
            let rows = connection
                .query(
                    "UPDATE replyvault_lease SET holder = $1, epoch = $2 WHERE shard IN (
                         SELECT shard FROM replyvault_lease AS lease WHERE NOT EXISTS (
                             SELECT FROM replyvault_replica AS replica
                             WHERE replica.id = lease.holder AND replica.epoch = lease.epoch
                         ) ORDER BY shard LIMIT $3 FOR UPDATE SKIP LOCKED
                     ) RETURNING shard",
                    &[(&id, Type::TEXT), (&signed_epoch, Type::INT8), (&most, Type::INT8)],
                )
                .await?;
            let shards: Vec<u32> = rows.iter().map(|row| row.get::<_, i32>(0).cast_unsigned()).collect();
            if !shards.is_empty() {
                // All that whoever had them appended stands before it.
                let position = log::head(connection).await?;
                tracing::info!(shards = shards.len(), epoch, "work is taken over");
                self.taken.push(Taken { epoch, shards, position });
                self.cluster.inner.poke.notify_one();
            }
        }
        Ok(())
    }

    fn grant(&mut self) {
        let applied = self.cluster.applied();
        let (ready, later) = std::mem::take(&mut self.taken).into_iter().partition(|taken| taken.position <= applied);
        self.taken = later;
        let ready: Vec<Taken> = ready;
        for Taken { epoch, shards, .. } in ready {
            if *self.cluster.inner.epoch.borrow() == Some(epoch) {
                self.cluster.shares().grant(epoch, shards);
            }
        }
    }
}

/// Ends the epochs of those that gave no sign of life in time. This waits for what they are just appending.
async fn expel(connection: &Connection, but: &str) -> Result<Vec<String>, ClusterError> {
    let rows = connection
        .query(
            "UPDATE replyvault_replica SET epoch = epoch + 1, until = NULL
             WHERE until < clock_timestamp() AND id <> $1 RETURNING name",
            &[(&but, Type::TEXT)],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

impl Cluster {
    /// Answers readers once the view is at `position`.
    fn answer_readers(&self, is_known: bool, position: u64, readers: Vec<oneshot::Sender<bool>>) {
        let answer = |readers: Vec<oneshot::Sender<bool>>, fresh| {
            for reader in readers {
                let _ = reader.send(fresh);
            }
        };
        if !is_known || self.applied() >= position {
            return answer(readers, is_known);
        }
        let mut applied = self.inner.applied.subscribe();
        self.inner.poke.notify_one();
        tokio::spawn(async move {
            let reached = timeout(Self::READ_PATIENCE, applied.wait_for(|applied| *applied >= position)).await;
            answer(readers, matches!(reached, Ok(Ok(_))));
        });
    }
}
