//! What the parts of a callback's way cost, each alone: `cargo bench --manifest-path benches/Cargo.toml`.

#[path = "suite/callback.rs"]
#[allow(dead_code, reason = "the suite needs more of it")]
mod callback;
#[path = "suite/failure.rs"]
mod failure;
#[path = "suite/history.rs"]
#[allow(dead_code, reason = "the suite needs more of it")]
mod history;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use replyvault::domain::{Digest, Target};
use replyvault::intake::{Intake, ReplyKeys, ReplyUrls};
use replyvault::journal::{Durability, Entry, Journal, Writer};
use replyvault::provider;
use replyvault::state::EventLog;
use secrecy::SecretString;

use self::callback::{Callback, ONE_REF};
use self::history::History;

fn main() {
    divan::main();
}

fn nowhere() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

/// What the provider says, as an observation.
mod parsing {
    use super::*;

    #[divan::bench]
    fn progress(bencher: Bencher<'_, '_>) {
        read(bencher, Callback::progress(nowhere(), "/reply", ONE_REF).body(7));
    }

    #[divan::bench]
    fn completed(bencher: Bencher<'_, '_>) {
        let url = "https://cdn.hailuoai.video/moss/prod/2026-11-20-09/video/boat.mp4";
        read(bencher, Callback::completed(nowhere(), "/reply", ONE_REF, url).body(7));
    }

    #[divan::bench]
    fn agent(bencher: Bencher<'_, '_>) {
        read(bencher, include_bytes!("../fuzz/seeds/payload/agent-completed.json").to_vec());
    }

    fn read(bencher: Bencher<'_, '_>, body: Vec<u8>) {
        bencher.counter(BytesCount::of_slice(&body)).bench(|| provider::read(black_box(&body)));
    }
}

#[divan::bench]
fn signature(bencher: Bencher<'_, '_>) {
    let secret: SecretString = "bench-reply-secret".into();
    let keys = ReplyKeys::new([&secret]).expect("there is a key");
    let urls = ReplyUrls::new("http://127.0.0.1/".parse().expect("a URL"), keys);
    let url = urls.reply_url(&Target::Channel);
    let signature = url.rsplit('/').next().unwrap_or_default();
    bencher.bench(|| urls.verify(black_box("minimax"), black_box(signature)));
}

/// So many callbacks in one write, and one sync or none.
mod journal_append {
    use super::*;

    #[divan::bench(args = [1, 64, 256])]
    fn written(bencher: Bencher<'_, '_>, callbacks: u64) {
        append(bencher, callbacks, Durability::Buffered);
    }

    #[divan::bench(args = [1, 64, 256], max_time = 3)]
    fn synced(bencher: Bencher<'_, '_>, callbacks: u64) {
        append(bencher, callbacks, Durability::Synced);
    }

    fn append(bencher: Bencher<'_, '_>, callbacks: u64, durability: Durability) {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut writer = Writer::new(Journal::open(dir.path()).expect("a journal"), 0).expect("a writer");
        let callback = Callback::progress(nowhere(), "/reply", ONE_REF);
        let entries: Vec<Entry> = (0..callbacks).map(|number| history::callback(callback.body(number))).collect();
        bencher.counter(ItemsCount::new(callbacks)).bench_local(|| writer.append(&entries, durability).map(drop));
    }
}

/// A journal's entries folded into a new state: parsing included.
#[divan::bench(args = [0, 19], sample_count = 5, sample_size = 1)]
fn state_apply(bencher: Bencher<'_, '_>, progress: u64) {
    let history = History { jobs: 10_000 / (progress + 1), progress };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let written = || {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        history.write(dir.path()).map_err(|failure::Failure(text)| text).expect("a history");
        dir
    };
    bencher.counter(ItemsCount::new(history.callbacks())).with_inputs(written).bench_local_values(|dir| {
        let journal = Journal::open(&dir.path().join("journal")).expect("a journal");
        let log = EventLog::open(journal, &dir.path().join("state"), Intake::parse_callback).expect("a state");
        runtime.block_on(log.recovered());
        log.close();
        dir
    });
}

#[divan::bench(args = [4 << 10, 1 << 20])]
fn hash(bencher: Bencher<'_, '_>, bytes: usize) {
    let bytes = vec![b'x'; bytes];
    bencher.counter(BytesCount::of_slice(&bytes)).bench(|| Digest::of(black_box(&bytes)));
}
