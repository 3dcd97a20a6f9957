//! What the calls to the APIs are to whoever stands between a caller and the provider: a table for each API.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::apis::{self, Adapter};
use super::json;
use super::list::{self, JobMention};
use crate::domain::JobId;

/// What a call is to the gateway, by the provider's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Creates jobs, which are made to call back here.
    Create(Created),
    /// Its answer is about one job, and may name finished media.
    Job,
    /// Its answer lists jobs, and may name finished media.
    List,
    /// Its answer may show a replyUrl, and names no media.
    MentionsJobs,
    /// Its answer has the token of a speech stream.
    SpeechToken,
    /// A WebSocket.
    WebSocket,
    /// Nothing to know about.
    Other,
}

/// What the answer to a call that creates jobs is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It has the jobs' ids.
    Ids,
    /// It is a stream of events, some with the job's id.
    Events,
    /// It is a job, perhaps a finished one, or has jobs' ids.
    Job,
}

impl Endpoint {
    /// Whether JSON in its answer is read.
    pub const fn is_read(self) -> bool {
        !matches!(self, Self::Other | Self::WebSocket)
    }
}

/// A row of an API's table: the method, `WSS` for a WebSocket; the path below the API's base; what such a call is.
///
/// Each segment of a path has alternatives between `|`; `*` is any segment, `gen4*` any that begins so.
pub(super) struct Row(pub(super) &'static str, pub(super) &'static str, pub(super) Endpoint);

impl Row {
    fn fits(&self, method: &str, path: &[&str]) -> bool {
        let fits = |(pattern, segment): (&str, &&str)| {
            pattern.split('|').any(|one| match one.strip_suffix('*') {
                Some(beginning) => segment.starts_with(beginning),
                None => *segment == one,
            })
        };
        let wanted = self.1.split('/');
        self.0 == method && wanted.clone().count() == path.len() && wanted.zip(path).all(fits)
    }
}

/// What a path in normal form has as it is, and some APIs want encoded.
const IN_IDS: &AsciiSet = &CONTROLS
    .add(b'!')
    .add(b'$')
    .add(b'&')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b'+')
    .add(b',')
    .add(b'=')
    .add(b':')
    .add(b'@');

/// One of the provider's APIs, as its calls are seen.
#[derive(Clone, Copy)]
pub struct Api(&'static Adapter);

impl Api {
    /// Every API.
    pub fn all() -> impl Iterator<Item = Self> {
        apis::all().map(Self)
    }

    /// The API whose base a request's path begins with, and the path behind that.
    pub fn of_path(path: &str) -> Option<(Self, &str)> {
        Self::all().find_map(|api| {
            let rest = path.strip_prefix('/')?.strip_prefix(&*api.base())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((api, rest))
        })
    }

    /// Its name, as in jobs' `provider`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What its paths begin with, without slashes around.
    pub fn base(self) -> String {
        self.0.base()
    }

    /// A path below its base, in normal form, as the provider wants it.
    pub fn sent_path(self, path: &str) -> String {
        if !self.0.encodes_ids() {
            return path.to_owned();
        }
        let encoded = path.split('/').map(|part| utf8_percent_encode(part, IN_IDS).to_string());
        encoded.collect::<Vec<_>>().join("/")
    }

    /// Whether its pages say that calls without a replyUrl use the account's; else only the account's page does.
    pub fn uses_account_default(self) -> bool {
        self.0.uses_account_default()
    }

    /// Whether calls name the provider's accounts as its jobs' ids do.
    pub fn names_accounts(self) -> bool {
        self.0.names_accounts()
    }

    /// Tells what `method` does at `path`, which is the provider's without the API's base, in normal form. Some servers take
    /// names in either case.
    pub fn endpoint(self, method: &str, path: &str, is_websocket: bool) -> Endpoint {
        let path = path.to_ascii_lowercase();
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let find = |method: &str| self.0.endpoints().iter().find(|row| row.fits(method, &path)).map(|row| row.2);
        let socket = (is_websocket && method == "GET").then(|| find("WSS")).flatten();
        socket.or_else(|| find(method)).unwrap_or(Endpoint::Other)
    }

    /// Every job that the answer to a call that creates jobs names, in its order, at most [`super::MAX_JOBS`].
    pub fn created(self, body: &[u8]) -> Vec<JobId> {
        let mut jobs: Vec<JobId> = list::mentioned_jobs(body).into_iter().map(|JobMention { job, .. }| job).collect();
        let object = json::parse_object(body).ok().flatten().unwrap_or_default();
        for job in self.0.created_in(&object) {
            if jobs.len() < super::MAX_JOBS && !jobs.contains(&job) {
                jobs.push(job);
            }
        }
        jobs
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(name: &str) -> Api {
        Api::all().find(|api| api.name() == name).unwrap()
    }

    #[test]
    fn a_call_is_known_by_its_method_and_path() {
        let of = |method: &str, path: &str| api("minimax").endpoint(method, path, false);
        assert_eq!(of("POST", "/videos/create"), Endpoint::Create(Created::Ids));
        assert_eq!(of("POST", "/videos/create/"), Endpoint::Create(Created::Ids));
        assert_eq!(of("GET", "/videos/create"), Endpoint::Job);
        assert_eq!(of("GET", "/videos/"), Endpoint::List);
        assert_eq!(of("DELETE", "/videos/user:1-minimax:2-video:3"), Endpoint::Other);
        assert_eq!(of("GET", "/agent/jobs"), Endpoint::MentionsJobs);
        assert_eq!(of("GET", "/audio/voices"), Endpoint::Other);
        assert_eq!(of("GET", ""), Endpoint::Other);
        assert_eq!(of("POST", "/Videos/CREATE"), Endpoint::Create(Created::Ids));
        assert_eq!(api("minimax").endpoint("GET", "/audio/wss", true), Endpoint::WebSocket);
        assert_eq!(api("runwayml").endpoint("POST", "/gen4turbo/create", false), Endpoint::Create(Created::Job));
        assert_eq!(api("runwayml").endpoint("POST", "/assets", false), Endpoint::Other);
    }

    #[test]
    fn the_longest_base_is_the_only_one_that_fits() {
        let of = |path| Api::of_path(path).map(|(api, rest)| (api.name(), rest));
        assert_eq!(of("/v1/minimax/videos/"), Some(("minimax", "/videos/")));
        assert_eq!(of("/v2/pixverse"), Some(("pixverse", "")));
        for path in ["/v1/minimaxx", "/v1/pixverse/videos", "/v1/other", "/V1/minimax/videos", "", "/", "v1/minimax"] {
            assert_eq!(of(path), None, "{path}");
        }
    }

    /// Ids in answers that hold nothing else of a job.
    #[test]
    fn the_answer_to_a_call_names_its_jobs() {
        let created = |name: &str, body: &str| {
            api(name).created(body.as_bytes()).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(created("kling", r#"{"task":{"id":285018472933,"status":5}}"#), ["kling:285018472933"]);
        let image = |number: u8| format!("user:1-pixverse:a@b.c-image:{number}");
        let pictures = format!(r#"{{"success_ids":["{}","{}",7]}}"#, image(1), image(2));
        assert_eq!(created("pixverse", &pictures), [image(1), image(2)]);
        let song = |own: &str| format!("user:1-tempolor:2-job:{own}");
        let songs = format!(r#"{{"jobs":["{}","{}"]}}"#, song("9f31"), song("9f32"));
        assert_eq!(created("tempolor", &songs), [song("9f31"), song("9f32")]);
        assert_eq!(created("kling", r#"{"error":"no credits"}"#), [""; 0]);
    }

    /// The rows of the document: method, path, what is done.
    fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
        let rows = include_str!("../../docs/endpoints.md").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (endpoint, what) = (cells.next()?, cells.next()?);
            let (method, path) = endpoint.split_once(" `")?;
            Some((method, path.trim_end_matches('`'), what))
        });
        rows.collect()
    }

    #[test]
    fn the_document_says_of_every_endpoint_what_is_done() {
        assert_eq!(rows().len(), 45);
        for (method, path, what) in rows() {
            let is_websocket = method == "WSS";
            let method = if is_websocket { "GET" } else { method };
            let endpoint = api("minimax").endpoint(method, path, is_websocket);
            let is_so = match what {
                "as is" => endpoint == Endpoint::Other,
                "as is, but for replyUrl" => endpoint == Endpoint::MentionsJobs,
                "observed" => matches!(endpoint, Endpoint::Job | Endpoint::List),
                "made to call back" => endpoint == Endpoint::Create(Created::Ids),
                "made to call back, observed" => endpoint == Endpoint::Create(Created::Job),
                "made to call back; the stream's events tell of the job" => {
                    endpoint == Endpoint::Create(Created::Events)
                }
                "as is; its token opens the WebSocket" => endpoint == Endpoint::SpeechToken,
                _ => endpoint == Endpoint::WebSocket,
            };
            assert!(is_so, "{method} {path}: {what}, but {endpoint:?}");
        }
    }

    /// The second table: base, calls that create jobs, calls that are observed.
    #[test]
    fn the_document_says_of_every_api_what_is_done() {
        let mut found = 0;
        for line in include_str!("../../docs/endpoints.md").lines() {
            let Some(base) = line.strip_prefix("| `/") else { continue };
            let cells: Vec<&str> = base.split(" | ").collect();
            let (api, _) = Api::of_path(&format!("/{}", cells[0].trim_end_matches('`'))).unwrap();
            found += 1;
            let paths = |cell: &'static str| cell.split('`').skip(1).step_by(2);
            for path in paths(cells[1]) {
                let endpoint = api.endpoint("POST", path, false);
                assert_eq!(endpoint, Endpoint::Create(Created::Job), "{api:?} POST {path}");
            }
            for path in paths(cells[2]) {
                let endpoint = api.endpoint("GET", path.split('?').next().unwrap(), false);
                assert!(matches!(endpoint, Endpoint::Job | Endpoint::List), "{api:?} GET {path}: {endpoint:?}");
            }
            let creates = api.0.endpoints().iter().filter(|row| matches!(row.2, Endpoint::Create(_)));
            let listed: Vec<_> = paths(cells[1]).collect();
            for Row(method, path, _) in creates {
                let is_listed = |listed: &&&str| {
                    Row(method, path, Endpoint::Other).fits("POST", &listed.split('/').collect::<Vec<_>>())
                };
                assert!(listed.iter().any(|path| is_listed(&path)), "{api:?} {path} is not in the document");
            }
        }
        assert_eq!(found, apis::names().count() - 1);
    }
}
