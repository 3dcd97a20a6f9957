use actix_web::http::Method;

/// What all paths of the provider's API begin with.
pub(super) const PREFIX: &str = "/v1/minimax";

/// What a call is to the gateway, by the provider's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
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
pub(super) enum Created {
    /// It has the jobs' ids.
    Ids,
    /// It is a stream of events, some with the job's id.
    Events,
    /// It is a job, perhaps a finished one.
    Job,
}

impl Endpoint {
    /// Tells what `method` does at `path`, which is the provider's without [`PREFIX`], in normal form. Some servers take
    /// names in either case.
    pub(super) fn of(method: &Method, path: &str, is_websocket: bool) -> Self {
        let path = path.to_ascii_lowercase();
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (method, &path[..]) {
            (&Method::POST, ["videos" | "images" | "speech" | "music", "create"]) => Self::Create(Created::Ids),
            (&Method::POST, ["videos", "agent-create"]) => Self::Create(Created::Events),
            (&Method::POST, ["agent"]) => Self::Create(Created::Job),
            (&Method::POST, ["audio", "create-stream"]) => Self::SpeechToken,
            (&Method::POST, ["audio", "create-mp3"]) | (&Method::GET, ["music", "create"]) => Self::Job,
            (&Method::GET, ["audio", "wss"]) if is_websocket => Self::WebSocket,
            (&Method::GET, ["scheduler"] | ["scheduler", "available"] | ["agent", "jobs"]) => Self::MentionsJobs,
            (&Method::GET, ["videos", "agent-templates" | "characters"] | ["music", "styles"])
            | (&Method::GET, ["audio", "config" | "voices" | "wss"]) => Self::Other,
            (&Method::GET, ["videos" | "images" | "agent" | "music" | "audio" | "speech", _]) => Self::Job,
            (&Method::GET, ["videos" | "images" | "music" | "audio" | "speech"]) => Self::List,
            _ => Self::Other,
        }
    }

    /// Whether JSON in its answer is read.
    pub(super) const fn is_read(self) -> bool {
        !matches!(self, Self::Other | Self::WebSocket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_method_and_path() {
        let of = |method: &str, path: &str| Endpoint::of(&method.parse().unwrap(), path, false);
        assert_eq!(of("POST", "/videos/create"), Endpoint::Create(Created::Ids));
        assert_eq!(of("POST", "/videos/create/"), Endpoint::Create(Created::Ids));
        assert_eq!(of("GET", "/videos/create"), Endpoint::Job);
        assert_eq!(of("GET", "/videos/"), Endpoint::List);
        assert_eq!(of("DELETE", "/videos/user:1-minimax:2-video:3"), Endpoint::Other);
        assert_eq!(of("GET", "/agent/jobs"), Endpoint::MentionsJobs);
        assert_eq!(of("GET", "/audio/voices"), Endpoint::Other);
        assert_eq!(of("GET", ""), Endpoint::Other);
        assert_eq!(of("POST", "/Videos/CREATE"), Endpoint::Create(Created::Ids));
        assert_eq!(Endpoint::of(&Method::GET, "/audio/wss", true), Endpoint::WebSocket);
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
            let method = if is_websocket { Method::GET } else { method.parse().unwrap() };
            let endpoint = Endpoint::of(&method, path, is_websocket);
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
}
