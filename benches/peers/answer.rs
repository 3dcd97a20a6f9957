//! The least that an actix-web server can do with a callback: it answers, looks at nothing and writes nothing.

use actix_web::{App, HttpResponse, HttpServer, web};

/// As long as what replyvault answers.
const ANSWER: &str = concat!(
    r#"{"accepted":true,"jobId":"user:4821-minimax:730015522-video:418200000000000017","replyRef":"boat-0017","#,
    r#""state":"running","final":false}"#
);

/// The body is taken in, or the connection would be closed.
async fn answer(_body: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(ANSWER)
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(8081);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    HttpServer::new(|| App::new().default_service(web::to(answer)))
        .workers(threads)
        .backlog(4096)
        .bind(("127.0.0.1", port))?
        .run()
        .await
}
