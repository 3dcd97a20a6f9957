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
pub fn routes(_: &mut actix_web::web::ServiceConfig) {}
