use super::{Settings, StartError, refresh};
use crate::bucket::Bucket;
use crate::fetch::Fetcher;
use crate::intake::Intake;
use crate::provider;
use crate::reconcile::Reconciler;
use crate::repair::open_event_log;
use crate::state::EventLog;
use crate::worker::Worker;

/// What archives, whoever tells it of jobs: the service without its doors.
pub(super) struct Services {
    pub(super) bucket: Bucket,
    pub(super) fetcher: Fetcher,
    pub(super) log: EventLog,
    pub(super) client: Option<provider::Client>,
    pub(super) intake: Intake,
    pub(super) reconciler: Option<Reconciler>,
    pub(super) worker: Worker,
}

impl Services {
    /// Opens journal, state and bucket. Nothing is done yet.
    pub(super) async fn open(settings: &Settings) -> Result<Self, StartError> {
        let bucket = Bucket::open_for_vault(&settings.bucket, &settings.data_dir.join("bucket.json"))?;
        let fetcher = Fetcher::new(&settings.fetch)?;
        let opening = {
            let (data_dir, bucket) = (settings.data_dir.clone(), bucket.clone());
            let keys = settings.journal_keys.clone();
            move || open_event_log(&data_dir, &bucket, keys, Intake::parse_callback)
        };
        let log = tokio::task::spawn_blocking(opening).await.map_err(StartError::Cancelled)??;
        let client = settings.provider.as_ref().map(provider::Client::new).transpose()?;
        let intake = Intake::new(settings.intake.clone(), settings.reply_urls.clone(), log.clone());
        let reconciler = client.clone().map(|client| Reconciler::new(settings.reconcile, intake.clone(), client));
        let fresh_links = reconciler.clone().map(refresh);
        let worker = Worker::new(settings.worker.clone(), log.clone(), bucket.clone(), fetcher.clone(), fresh_links);
        Ok(Self { bucket, fetcher, log, client, intake, reconciler, worker })
    }
}
