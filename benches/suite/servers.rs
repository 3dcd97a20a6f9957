//! What stands around replyvault: nginx as the CDN, garage as the bucket.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::process::{Process, find, free_address};
use crate::vault::Settings;

/// nginx that serves a folder.
pub(crate) struct Cdn {
    _process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) root: PathBuf,
}

/// A garage with one bucket.
pub(crate) struct Garage {
    pub(crate) process: Process,
    pub(crate) endpoint: String,
}

pub(crate) const BUCKET: &str = "bench";
const ACCESS_KEY: &str = "GK000000000000000000000000";
const SECRET_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const REGION: &str = "garage";

/// nginx's settings but for where and what.
pub(crate) const NGINX: &str = "daemon off; pid nginx.pid; worker_processes 1; error_log stderr error; user root;
events { worker_connections 4096; }
http {
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    types { video/mp4 mp4; }
";

impl Cdn {
    /// Serves the files below `dir/files`. `None` where nginx is not installed.
    pub(crate) fn start(dir: &Path) -> Result<Option<Self>, Failure> {
        let root = dir.join("files");
        fs::create_dir_all(&root)?;
        let address = free_address()?;
        let server = format!("server {{ listen {address}; root {}; }}", root.display());
        let process = nginx(dir, address, &server)?;
        Ok(process.map(|process| Self { _process: process, address, root }))
    }

    pub(crate) fn url(&self, file: &str) -> String {
        format!("http://{}/{file}", self.address)
    }
}

/// nginx with one server. `None` where it is not installed.
pub(crate) fn nginx(dir: &Path, address: SocketAddr, server: &str) -> Result<Option<Process>, Failure> {
    let Some(program) = find("nginx") else { return Ok(None) };
    fs::write(dir.join("nginx.conf"), format!("{NGINX}{server}\n}}\n"))?;
    let mut command = Command::new(program);
    command.arg("-p").arg(dir).args(["-c", "nginx.conf", "-e", "stderr"]);
    Ok(Some(Process::start(&mut command, dir)?.listening(address)?))
}

impl Garage {
    /// Starts one that has nothing yet. `None` where it is not installed. Media do not get smaller, so it is told not to
    /// try, unless what it gets is not like media.
    pub(crate) fn start(dir: &Path, compress: bool) -> Result<Option<Self>, Failure> {
        let Some(program) = find("garage") else { return Ok(None) };
        let (s3, rpc) = (free_address()?, free_address()?);
        let compression = if compress { "1" } else { "\"none\"" };
        let config = format!(
            "metadata_dir = \"meta\"\ndata_dir = \"data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
             compression_level = {compression}\nrpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\n\
             rpc_secret = \"{SECRET_KEY}\"\n[s3_api]\napi_bind_addr = \"{s3}\"\ns3_region = \"{REGION}\"\n"
        );
        fs::write(dir.join("garage.toml"), config)?;
        let mut command = Command::new(program);
        command.args(["-c", "garage.toml", "server", "--single-node", "--default-bucket"]).current_dir(dir);
        command.env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY).env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY);
        command.env("GARAGE_DEFAULT_BUCKET", BUCKET).env("RUST_LOG", "warn");
        let process = Process::start(&mut command, dir)?.listening(s3)?;
        Ok(Some(Self { process, endpoint: format!("http://{s3}") }))
    }

    /// Has replyvault put its objects there.
    pub(crate) fn configure(&self, settings: &mut Settings) {
        settings.set("STORAGE__URL", format!("s3://{BUCKET}"));
        settings.set("STORAGE__ENDPOINT", &self.endpoint);
        settings.set("STORAGE__REGION", REGION);
        settings.set("STORAGE__ALLOW_HTTP", true);
        settings.set("STORAGE__ACCESS_KEY_ID", ACCESS_KEY);
        settings.set("STORAGE__SECRET_ACCESS_KEY", SECRET_KEY);
    }

    /// Has rclone know it as `garage:`.
    pub(crate) fn configure_rclone(&self, command: &mut Command) {
        let settings = [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("ENDPOINT", self.endpoint.as_str()),
            ("REGION", REGION),
            ("ACCESS_KEY_ID", ACCESS_KEY),
            ("SECRET_ACCESS_KEY", SECRET_KEY),
            ("FORCE_PATH_STYLE", "true"),
            ("NO_CHECK_BUCKET", "true"),
        ];
        // It does not start with a bundle of certificates in the environment.
        command.env("RCLONE_CONFIG", "/dev/null").env_remove("AWS_CA_BUNDLE");
        command.envs(settings.map(|(key, value)| (format!("RCLONE_CONFIG_GARAGE_{key}"), value)));
    }

    /// Has the bare loop know it.
    pub(crate) fn configure_bare(&self, command: &mut Command) {
        command.env("ENDPOINT", &self.endpoint).env("BUCKET", BUCKET).env("REGION", REGION);
        command.env("ACCESS_KEY_ID", ACCESS_KEY).env("SECRET_ACCESS_KEY", SECRET_KEY);
    }
}
