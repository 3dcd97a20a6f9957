//! What is told of jobs to whoever wants to know: which events there are, whom each goes to, and what became of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use super::{Digest, Job, JobId, JobState, Kind, RefId, Timestamp};

/// What an event says of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// All of its files and its manifest are in the bucket.
    #[serde(rename = "job.archived")]
    Archived,
    /// It ended without media.
    #[serde(rename = "job.failed")]
    Failed,
    /// A file cannot be had without someone's help.
    #[serde(rename = "job.stuck")]
    Stuck,
    /// A link to a file that is not stored dies within the hour.
    #[serde(rename = "job.expiring")]
    Expiring,
    /// It runs, and the provider said how far it is.
    #[serde(rename = "job.running")]
    Running,
    /// Nothing happened: somebody tries out whether events arrive.
    #[serde(rename = "test")]
    Test,
}

impl EventType {
    /// Those that can be subscribed to.
    pub const ALL: [Self; 5] = [Self::Archived, Self::Failed, Self::Stuck, Self::Expiring, Self::Running];
    /// Those that are sent unless others are asked for.
    pub const DEFAULT: [Self; 4] = [Self::Archived, Self::Failed, Self::Stuck, Self::Expiring];
    /// `job.expiring` tells of links that die within this time.
    pub const EXPIRES_WITHIN: Duration = Duration::from_secs(3600);

    /// Its name in payloads and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Archived => "job.archived",
            Self::Failed => "job.failed",
            Self::Stuck => "job.stuck",
            Self::Expiring => "job.expiring",
            Self::Running => "job.running",
            Self::Test => "test",
        }
    }

    /// What is told when a job comes to be in this state.
    pub const fn of_end(state: JobState) -> Option<Self> {
        match state {
            JobState::Archived => Some(Self::Archived),
            JobState::Failed => Some(Self::Failed),
            JobState::Stuck => Some(Self::Stuck),
            JobState::Running | JobState::Archiving => None,
        }
    }
}

/// Which events go to an endpoint of the configuration. In journals: what is added needs `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The endpoint's name.
    pub endpoint: String,
    /// The events it gets.
    pub events: Vec<EventType>,
    /// Of these providers alone; of all when there are none.
    pub providers: Vec<String>,
    /// Of jobs of these kinds alone; of all when there are none.
    pub kinds: Vec<Kind>,
    /// Of jobs whose ref has all of these labels.
    pub labels: BTreeMap<String, String>,
}

impl Route {
    /// The most routes there can be: an event's number is made of its place among them.
    pub const MAX: usize = 24;

    /// Whether an event about `job`, whose ref has `labels`, goes there.
    pub fn takes(&self, event: EventType, job: &Job, labels: &BTreeMap<String, String>) -> bool {
        self.events.contains(&event)
            && (self.providers.is_empty() || self.providers.contains(&job.id.provider()))
            && (self.kinds.is_empty() || self.kinds.contains(&job.kind()))
            && self.labels.iter().all(|(name, text)| labels.get(name) == Some(text))
    }
}

/// Whom an event goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    /// The endpoint of the configuration with this name.
    #[serde(rename = "endpoint")]
    Endpoint(String),
    /// The `notifyUrl` of this ref.
    #[serde(rename = "ref")]
    Ref(RefId),
}

impl Destination {
    /// What tells destinations apart; no two have the same.
    pub fn name(&self) -> String {
        match self {
            Self::Endpoint(name) => format!("endpoint:{name}"),
            Self::Ref(id) => id.as_str().to_owned(),
        }
    }
}

/// Names one event on its way to one destination, for good: `webhook-id`. It follows from the job, from how many events there
/// were about it before, and from the destination, so that whoever works this out again finds the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId([u8; 16]);

impl NotificationId {
    const PREFIX: &'static str = "msg_";

    /// Names the event after `earlier` others about `job`.
    pub fn new(job: &JobId, event: EventType, earlier: u32, destination: &Destination) -> Self {
        let (job, destination) = (job.as_str(), destination.name());
        // None of the parts but the last can have a line end in it.
        let text = format!("replyvault:event:v1:{job}\n{}\n{earlier}\n{destination}", event.as_str());
        let mut half = [0; 16];
        half.copy_from_slice(&Digest::of(text.as_bytes()).as_bytes()[..16]);
        Self(half)
    }

    /// One like no other, for an event about nothing.
    pub const fn of_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes behind it.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        hex::decode_to_slice(text.strip_prefix(Self::PREFIX)?, &mut bytes).ok().filter(|()| is_lower)?;
        Some(Self(bytes))
    }
}

impl fmt::Display for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, hex::encode(self.0))
    }
}

impl fmt::Debug for NotificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for NotificationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for NotificationId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 16]>::deserialize(deserializer).map(Self);
        }
        Self::parse(&String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("expected a notification's id"))
    }
}

/// How far an event is on its way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotificationState {
    /// It is to be sent, or sent again.
    Pending,
    /// The destination took it.
    Delivered,
    /// It is not sent any more, although nobody took it. Somebody may ask for another try.
    Dead,
}

impl NotificationState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// Its name in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// An event on its way to one destination. In journals: what is added needs `#[serde(default)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Its name.
    pub id: NotificationId,
    /// What it says.
    pub event: EventType,
    /// When that came about.
    pub at: Timestamp,
    /// Of which job.
    pub job_id: JobId,
    /// Whom it goes to.
    pub destination: Destination,
    /// How far it is.
    pub state: NotificationState,
    /// How often it was sent, whatever came of it.
    pub attempts: u32,
    /// What the last attempt failed with.
    pub last_error: Option<String>,
    /// Why it is dead, by a stable name.
    pub reason: Option<String>,
    /// When that was, or when it was delivered.
    pub last_attempt_at: Option<Timestamp>,
    /// When it is sent again at the latest, unless a start comes first.
    pub next_attempt_at: Option<Timestamp>,
    /// The job as it was then, without its files; `None` once it is delivered.
    pub job: Option<Box<Job>>,
}

impl Notification {
    /// The longest description of a failure that is kept, in bytes.
    pub const MAX_ERROR_BYTES: usize = 256;

    /// Whose it is: that of the ref that it goes to, or that claimed its job; `None` where nobody did.
    pub fn owner(&self) -> Option<&RefId> {
        match &self.destination {
            Destination::Ref(id) => Some(id),
            Destination::Endpoint(_) => {
                let job = self.job.as_deref()?;
                job.ref_id.as_ref().filter(|_| job.claimed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> JobId {
        "user:1-minimax:2-video:3".parse().unwrap()
    }

    #[test]
    fn ids_follow_from_what_they_name_and_can_be_read() {
        let endpoint = Destination::Endpoint("a".to_owned());
        let first = NotificationId::new(&id(), EventType::Archived, 0, &endpoint);
        assert_eq!(first, NotificationId::new(&id(), EventType::Archived, 0, &endpoint));
        for other in [
            NotificationId::new(&id(), EventType::Failed, 0, &endpoint),
            NotificationId::new(&id(), EventType::Archived, 1, &endpoint),
            NotificationId::new(&id(), EventType::Archived, 0, &Destination::Endpoint("b".to_owned())),
        ] {
            assert_ne!(first, other);
        }
        let text = first.to_string();
        assert_eq!((NotificationId::parse(&text), text.len()), (Some(first), 36));
        for bad in ["", "msg_", &text[4..], &text[..35], &text.to_uppercase(), "msg_.."] {
            assert_eq!(NotificationId::parse(bad), None, "{bad}");
        }
        let json = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<NotificationId>(&json).unwrap(), first);
    }

    #[test]
    fn an_event_is_its_refs_or_of_who_claimed_its_job() {
        let [told, claimed] = [1, 2].map(|number| RefId::parse(&format!("ref_{number:026}")).unwrap());
        let at = Timestamp::from_millis_clamped(0);
        let mut job = Job { ref_id: Some(claimed.clone()), claimed: true, ..Job::new(id(), at) };
        let about = |job: &Job, destination: Destination| Notification {
            id: NotificationId::new(&id(), EventType::Failed, 0, &destination),
            event: EventType::Failed,
            at,
            job_id: id(),
            destination,
            state: NotificationState::Pending,
            attempts: 0,
            last_error: None,
            reason: None,
            last_attempt_at: None,
            next_attempt_at: None,
            job: Some(Box::new(job.clone())),
        };
        let endpoint = || Destination::Endpoint("a".to_owned());
        assert_eq!(about(&job, Destination::Ref(told.clone())).owner(), Some(&told));
        assert_eq!(about(&job, endpoint()).owner(), Some(&claimed));
        job.claimed = false;
        assert_eq!(about(&job, endpoint()).owner(), None, "anybody may have named the ref");
    }

    #[test]
    fn a_route_takes_what_all_of_its_selectors_name() {
        let all = Route {
            endpoint: "a".to_owned(),
            events: EventType::DEFAULT.to_vec(),
            providers: Vec::new(),
            kinds: Vec::new(),
            labels: BTreeMap::new(),
        };
        let labels = |text: &str| BTreeMap::from([("team".to_owned(), text.to_owned())]);
        let job = Job::new(id(), Timestamp::from_millis_clamped(0));
        let takes = |route: &Route| route.takes(EventType::Archived, &job, &labels("films"));
        assert!(takes(&all) && !all.takes(EventType::Running, &job, &BTreeMap::new()));
        assert!(takes(&Route { kinds: vec![Kind::Video], providers: vec!["minimax".to_owned()], ..all.clone() }));
        assert!(takes(&Route { labels: labels("films"), ..all.clone() }));
        for not in [
            Route { labels: labels("games"), ..all.clone() },
            Route { kinds: vec![Kind::Image], ..all.clone() },
            Route { providers: vec!["kling".to_owned()], ..all.clone() },
        ] {
            assert!(!takes(&not), "{not:?}");
        }
    }
}
