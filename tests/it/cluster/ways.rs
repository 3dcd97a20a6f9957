//! Ways to PostgreSQL: over TLS, and through a pool.

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::{Replicas, cluster_check, nothing_waits, seen, until};
use crate::support::postgres::pgbouncer;
use crate::support::vault::{completed, video_id};

/// With a certificate of an authority that is named, the way to PostgreSQL is encrypted; with that of another, nothing is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn over_tls_the_certificate_decides_whether_a_replica_joins() {
    let Some(mut replicas) = Replicas::prepare(1).await else { return };
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    replicas.postgres.use_tls(&cert.pem(), &signing_key.serialize_pem()).await;
    let dir = replicas.programs[0].dir.clone();
    let other = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let url = replicas.postgres.url();
    for (file, certificate) in [("right.pem", cert.pem()), ("wrong.pem", other.cert.pem())] {
        std::fs::write(dir.join(file), certificate).unwrap();
        let root = dir.join(file).display().to_string();
        replicas.programs[0].set("CLUSTER__POSTGRES", format!("{url}?sslmode=verify-full&sslrootcert={root}"));
        let process = replicas.programs[0].start().await;
        if file == "right.pem" {
            nothing_waits(&process).await;
            let used = "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                        WHERE application_name = 'replyvault'";
            assert_eq!(replicas.postgres.run(used).await, ["t"]);
        } else {
            until("it says why not", || async {
                cluster_check(&process).await.is_some_and(|said| said.contains("cannot be reached"))
            })
            .await;
            until("the log says which certificate", || async { process.log().contains("invalid peer certificate") })
                .await;
        }
        process.terminate().await;
    }
}

/// PgBouncer gives each statement whichever connection is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_pgbouncer_in_transaction_mode_all_is_as_without() {
    let Some(mut replicas) = Replicas::prepare(2).await else { return };
    if pgbouncer().is_none() {
        assert!(std::env::var_os("REPLYVAULT_TEST_CLIENTS").is_none(), "PgBouncer is not installed");
        return eprintln!("skipped: PgBouncer is not installed (apt-get install pgbouncer)");
    }
    let port = crate::support::free_address().port();
    let _pool = replicas.postgres.pool(port);
    for program in &mut replicas.programs {
        program.set("CLUSTER__POSTGRES", format!("postgres://postgres@127.0.0.1:{port}/postgres"));
    }
    let processes = replicas.start().await;
    for number in 0..30 {
        let url = replicas.media.generated(number, 1000);
        processes[number as usize % 2].post_until_accepted(&completed(number, &url)).await;
        seen(&processes[(number as usize + 1) % 2], &processes[number as usize % 2], number).await;
    }
    for number in 0..30 {
        processes[0].job_in(&video_id(number), "archived").await;
    }
    assert_eq!(replicas.objects().len(), 60);
}
