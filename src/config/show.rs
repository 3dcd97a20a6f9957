use std::fmt::Write as _;

use super::source::Sources;
use super::{Config, keys};

/// The settings as TOML, in the order of the structs. [`super::Secret`] masks itself.
pub(super) fn show(config: &Config, sources: &Sources) -> String {
    let table = toml::Table::try_from(config).unwrap_or_default();
    let mut text = String::new();
    for (section, keys) in keys::sections() {
        let space = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{space}[{section}]");
        for key in keys {
            let Some(value) = table.get(section).and_then(|section| section.get(key)) else { continue };
            let place = sources.place(&format!("{section}.{key}"));
            let place = place.map(|place| format!("  # {}", crate::telemetry::escaped(place))).unwrap_or_default();
            let _ = writeln!(text, "{key} = {value}{place}");
        }
    }
    text
}
