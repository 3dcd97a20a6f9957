use serde::{Deserialize, Serialize};

/// What a job was made with, and what the provider still lets its user do about it. All of it as far as the provider says
/// it; texts are cut to [`JobDetails::MAX_TEXT_BYTES`]. In journals, as [`Job`](super::Job) is: what is added needs
/// `#[serde(default)]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobDetails {
    /// The model, by the provider's name; an agent's models with commas between them.
    pub model: Option<String>,
    /// As the provider writes it, such as `2K`; else width and height in pixels, such as `1366x768`.
    pub resolution: Option<String>,
    /// Such as `16:9`.
    pub aspect_ratio: Option<String>,
    /// Of the video or song, in seconds.
    pub duration: Option<f64>,
    /// Shared by the images that one call created.
    pub batch_id: Option<String>,
    /// Whether a moderated job can be appealed.
    pub can_appeal: Option<bool>,
    /// Whether a failed job can be retried at the provider.
    pub can_retry: Option<bool>,
}

impl JobDetails {
    /// The longest text, in bytes.
    pub const MAX_TEXT_BYTES: usize = 128;

    /// Takes over what `said` says; what it does not say stays.
    pub fn merge(&mut self, said: &Self) {
        fn take<T: Clone>(known: &mut Option<T>, said: &Option<T>) {
            if said.is_some() {
                known.clone_from(said);
            }
        }
        let Self { model, resolution, aspect_ratio, duration, batch_id, can_appeal, can_retry } = self;
        take(model, &said.model);
        take(resolution, &said.resolution);
        take(aspect_ratio, &said.aspect_ratio);
        take(duration, &said.duration);
        take(batch_id, &said.batch_id);
        take(can_appeal, &said.can_appeal);
        take(can_retry, &said.can_retry);
    }
}
