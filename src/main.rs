//! The `replyvault` command.
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    let jobs = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(8);
    let r = replyvault::app::demo(replyvault::app::DemoOptions {
        jobs,
        keep: std::env::args().nth(2).map(Into::into),
        serve: false,
    })
    .await;
    println!("{r:?}");
}
