use std::sync::Arc;

use super::{Settings, StartError};
use crate::bucket::Bucket;
use crate::cluster::Cluster;
use crate::fetch::{self, Fetcher};
use crate::intake::Intake;
use crate::provider;
use crate::reconcile::Reconciler;
use crate::repair::open_event_log;
use crate::state::EventLog;
use crate::worker::{self, ProviderMedia, Worker};

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
            let cluster = settings.cluster.clone().map(|url| Cluster::new(url, &data_dir)).transpose()?;
            move || open_event_log(&data_dir, &bucket, keys, cluster, Intake::parse_callback)
        };
        let log = tokio::task::spawn_blocking(opening).await.map_err(StartError::Cancelled)??;
        let client = settings.provider.as_ref().map(provider::Client::new).transpose()?;
        let spool = settings.data_dir.join("spool");
        let intake = Intake::new(settings.intake.clone(), settings.reply_urls.clone(), log.clone(), &spool);
        let reconciler = client.clone().map(|client| Reconciler::new(settings.reconcile, intake.clone(), client));
        let fresh_links = reconciler.clone().map(refresh);
        let with_token = provider_media(settings, client.as_ref())?;
        let (config, log_of_worker) = (settings.worker.clone(), log.clone());
        let worker = Worker::new(config, log_of_worker, bucket.clone(), fetcher.clone(), fresh_links, with_token);
        Ok(Self { bucket, fetcher, log, client, intake, reconciler, worker })
    }
}

/// What carries the provider's token to the provider, and to nobody else.
fn provider_media(settings: &Settings, client: Option<&provider::Client>) -> Result<Option<ProviderMedia>, StartError> {
    let Some((config, client)) = settings.provider.as_ref().zip(client) else { return Ok(None) };
    let Some(authorization) = config.authorization() else { return Ok(None) };
    let fetch = fetch::Config { egress: config.egress.clone(), ..settings.fetch.clone() };
    let fetcher = Fetcher::with_authorization(&fetch, authorization)?;
    Ok(Some(ProviderMedia { client: client.clone(), fetcher }))
}

fn refresh(reconciler: Reconciler) -> worker::Refresh {
    Arc::new(move |job| {
        let reconciler = reconciler.clone();
        Box::pin(async move { reconciler.refresh(&job).await })
    })
}
