//! Whether the provider says the same as a callback.

use std::collections::HashSet;

use crate::domain::{AssetSource, MediaUrl, Observation, Outcome, UnconfirmedFinal};

/// What the provider's answer means for a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It says the same.
    Same,
    /// It says that the job still runs, or nothing: a callback can be faster than what GET reads from.
    NotYet(String),
    /// It says something else.
    Different(String),
}

/// Compares how the job ended, and where its files come from: every URL of the callback must be of a host and port that
/// the answer names too. Paths and queries may differ, since links are signed anew for each answer.
pub(super) fn compare(callback: &UnconfirmedFinal, answer: &Observation) -> Verdict {
    let said = &callback.observation;
    let name = |outcome: Option<Outcome>| outcome.map_or("running", Outcome::as_str);
    if said.job != answer.job {
        return Verdict::Different(format!("the provider speaks of {}", answer.job));
    }
    if answer.outcome.is_none() {
        return Verdict::NotYet("the provider says that it is running".to_owned());
    }
    if said.outcome != answer.outcome {
        return Verdict::Different(format!(
            "the callback says {}, the provider {}",
            name(said.outcome),
            name(answer.outcome)
        ));
    }
    let known: HashSet<_> = urls(&answer.assets).map(origin).collect();
    match urls(&said.assets).find(|url| !known.contains(&origin(url))) {
        Some(url) => Verdict::Different(format!("the provider names no file of the host {}", url.host())),
        None => Verdict::Same,
    }
}

fn urls(assets: &[AssetSource]) -> impl Iterator<Item = &MediaUrl> {
    assets.iter().flat_map(|asset| &asset.candidates).map(|candidate| &candidate.url)
}

fn origin(url: &MediaUrl) -> (&str, Option<u16>) {
    (url.host(), url.expose().port_or_known_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Target, Timestamp};
    use crate::provider::{self, Parsed};

    fn observation(body: &Value) -> Box<Observation> {
        match provider::read(body.to_string().as_bytes()).unwrap() {
            Parsed::Job(observation) => observation,
            Parsed::Unrecognised(unclear) => panic!("{unclear:?}"),
        }
    }

    fn compared(callback: &Value, answer: &Value) -> Verdict {
        let callback = UnconfirmedFinal {
            position: 64,
            quarantine_as: 64,
            at: Timestamp::now(),
            target: Target::Channel,
            sidecars: false,
            bytes: 0,
            observation: observation(callback),
        };
        compare(&callback, &observation(answer))
    }

    fn video(id: u64, status: u64, url: &str) -> Value {
        json!({"videoId": format!("user:1-minimax:2-video:{id}"), "status": status, "downloadURL": url})
    }

    #[test]
    fn id_status_and_hosts_must_be_the_same_and_nothing_else() {
        let said = video(1, 2, "https://cdn.hailuoai.video/a.mp4?Signature=1");
        let same = [
            video(1, 2, "https://cdn.hailuoai.video/a.mp4?Signature=2"),
            json!({"videoId": "user:1-minimax:2-video:1", "status": 2, "videoURL": "https://CDN.hailuoai.video:443/b.mp4"}),
        ];
        for answer in same {
            assert_eq!(compared(&said, &answer), Verdict::Same, "{answer}");
        }
        let different = [
            video(2, 2, "https://cdn.hailuoai.video/a.mp4"),
            video(1, 3, ""),
            video(1, 5, ""),
            video(1, 2, ""),
            video(1, 2, "https://cdn.hailuoai.com/a.mp4"),
            video(1, 2, "https://cdn.hailuoai.video:8443/a.mp4"),
            video(1, 2, "http://cdn.hailuoai.video/a.mp4"),
        ];
        for answer in different {
            assert!(matches!(compared(&said, &answer), Verdict::Different(_)), "{answer}");
        }
        assert!(matches!(compared(&said, &video(1, 1, "")), Verdict::NotYet(_)));
        assert_eq!(compared(&video(1, 3, ""), &video(1, 3, "")), Verdict::Same);
    }

    #[test]
    fn one_foreign_host_among_many_spoils_the_callback() {
        let said = json!({"imageId": "user:1-minimax:2-image:1", "status": 2, "downloadURL": "https://a.example/1.png",
            "videoURLs": {"downloadURLWithWatermark": "https://b.example/2.png"}});
        let answer = json!({"imageId": "user:1-minimax:2-image:1", "status": 2, "videoURL": "https://a.example/1.png"});
        assert!(matches!(compared(&said, &answer), Verdict::Different(said) if said.contains("b.example")));
    }
}
