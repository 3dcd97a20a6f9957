//! stub
use crate::{bucket::Bucket, intake::Intake};
#[derive(Clone, Debug)]
pub struct Config {
    pub tokens: Vec<Token>,
    pub data_dir: std::path::PathBuf,
    pub min_free_bytes: u64,
}
#[derive(Clone, Debug)]
pub struct Token {
    pub name: String,
    pub token: secrecy::SecretString,
    pub scope: Scope,
}
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    Read,
    Admin,
}
pub struct Api;
impl Api {
    pub fn new(_: Config, _: Intake, _: Bucket) -> Self {
        Api
    }
}
pub fn routes(c: &mut actix_web::web::ServiceConfig) {
    c.route("/api/v1/jobs/{id}", web::get().to(job));
}
use actix_web::web;
async fn job(id: web::Path<String>, intake: web::Data<Intake>) -> actix_web::HttpResponse {
    let s = intake.ledger().state();
    match s.job(&id.parse().unwrap()).unwrap() {
        Some(r) => actix_web::HttpResponse::Ok()
            .json(crate::domain::JobView::new(&r.job, |a| s.is_fetching(r.sequence, &a.slot))),
        None => actix_web::HttpResponse::NotFound().finish(),
    }
}
