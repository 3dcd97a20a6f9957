use std::time::Duration;

use super::MediaUrl;
use crate::Timestamp;

/// The provider's clock is China's, by the numbers beside the hours in the names it gives to files.
const AHEAD: Duration = Duration::from_secs(8 * 3600);

impl MediaUrl {
    /// The hour in which the provider put the file there, by a segment of the path such as `2026-11-20-09`.
    pub fn hour(&self) -> Option<Timestamp> {
        let hour = self.0.path_segments()?.find_map(|segment| {
            let (date, hour) = segment.rsplit_once('-').filter(|_| segment.len() == "2026-11-20-09".len())?;
            Timestamp::parse_rfc3339(&format!("{date}T{hour}:00:00Z"))
        });
        Timestamp::from_millis(hour?.millis().checked_sub(u64::try_from(AHEAD.as_millis()).ok()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_is_read_from_the_path_alone() {
        let hour = |url: &str| MediaUrl::parse(url).unwrap().hour().map(|hour| hour.to_string());
        // The provider's own page shows this path with 1732171514479796864 as the file's name, which are nanoseconds.
        let shown = "https://cdn.hailuoai.video/moss/staging/2024-11-21-14/moss-audio/1732171514479796864.png";
        assert_eq!(hour(shown).unwrap(), "2024-11-21T06:00:00.000Z");
        assert_eq!(hour("https://h/2026-01-01-03/v.mp4").unwrap(), "2025-12-31T19:00:00.000Z");
        for none in [
            "https://h/v.mp4?x=/2026-11-20-09/",
            "https://h/2026-13-20-09/v",
            "https://h/2026-11-20-24/v",
            "https://h/",
            "https://h/1970-01-01-00/v",
        ] {
            assert_eq!(hour(none), None, "{none}");
        }
    }
}
