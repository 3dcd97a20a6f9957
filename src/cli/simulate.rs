use std::net::SocketAddr;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, print};
use crate::simulator::{Config, Faults, Simulator};

/// Runs the simulator until a signal.
pub(super) async fn run(listen: SocketAddr, faults: Faults, seed: Option<u64>) -> Result<(), Failure> {
    // Heard from before it listens, so that whoever started it can end it properly at once.
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::runtime)?;
    // Short enough to type again.
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    let shown = Some(faults.to_string()).filter(|text| !text.is_empty()).unwrap_or_else(|| "none".to_owned());
    // A pace at which a person can watch.
    let pace = std::time::Duration::from_secs(3);
    let config = Config { listen, faults, seed, pace, ..Config::default() };
    let simulator = Simulator::start(config).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::usage(format!("--listen: {error}{cause}"))
    })?;
    let base = simulator.base_url();
    print(format!(
        "The provider simulator is at {base} (seed {seed}, faults {shown}). Ctrl-C ends it.\n\
         \n\
         Any bearer token will do. To make a video whose callbacks go to your replyUrl:\n\
         \n  \
           curl {base}/v1/minimax/videos/create -H 'Authorization: Bearer any' \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"prompt\": \"a boat\", \"replyRef\": \"boat-17\", \"replyUrl\": \"'\"$(replyvault reply-url)\"'\"}}'\n\
         \n\
         A replyvault that takes its media needs these:\n\
         \n  \
           REPLYVAULT_FETCH__ALLOWED_HOSTS='[\"{host}\"]'\n  \
           REPLYVAULT_FETCH__ALLOW_HTTP=true\n  \
           REPLYVAULT_FETCH__ALLOW_PRIVATE_ADDRESSES=true\n",
        host = host(&base),
    ))?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    simulator.stop().await;
    Ok(())
}

fn host(base: &str) -> String {
    url::Url::parse(base).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}
