//! Configuration files and the environment, whatever is in them.

use std::ffi::OsString;
use std::path::Path;

use replyvault::config::Config;

const SECRET: &str = "qZ7-SECRET-value_x";

/// A file's text; behind a zero byte lines of `NAME=value`, of which the last gets a secret in its value.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (file, environment) = text.split_once('\0').unwrap_or((&text, ""));
    let pairs: Vec<(&str, &str)> = environment.lines().filter_map(|line| line.split_once('=')).collect();
    let plain: Vec<_> = pairs.iter().map(|(name, value)| variable(name, (*value).to_owned())).collect();
    if text.to_ascii_lowercase().contains(&SECRET.to_ascii_lowercase()) {
        return;
    }
    settings(file, plain.clone());
    let (before, after) = pairs.last().and_then(|(_, value)| value.split_once('*')).unwrap_or(("[\"", "\"]"));
    for key in ["AUTH__API_TOKENS", "AUTH__REPLY_SECRETS", "AUTH__TOKENS", "STORAGE__SECRET_ACCESS_KEY"] {
        let secret = variable(&format!("REPLYVAULT_{key}"), format!("{before}{SECRET}{after}"));
        settings(file, plain.iter().cloned().chain([secret]).collect());
    }
    let line = format!("{file}\n[[auth.tokens]]\nname = \"{before}\"\nscope = \"admin\"\ntoken = \"{SECRET}\"");
    settings(&line, plain);
}

fn variable(name: &str, value: String) -> (OsString, OsString) {
    (name.into(), value.into())
}

fn settings(file: &str, environment: Vec<(OsString, OsString)>) {
    let config = match Config::parse(file, "config.toml", Path::new("/base"), environment) {
        Ok(config) => config,
        Err(error) => {
            let line = error.to_string();
            assert!(!line.chars().any(char::is_control), "more than one line: {line:?}");
            assert!(!line.contains(SECRET) && !format!("{error:?}").contains(SECRET), "{line}");
            return;
        }
    };
    let shown = config.show();
    let warnings = config.warnings().join("\n");
    for text in [&shown, &warnings, &format!("{config:?}"), &format!("{:?}", config.bucket())] {
        assert!(!text.contains(SECRET), "{text}");
    }
    let table: toml::Table = shown.parse().expect("what is shown is TOML");
    for (section, keys) in &table {
        assert!(keys.is_table(), "{section}");
    }
    assert!(config.data.dir.is_absolute(), "below the file's folder");
    assert!((1..=64 << 20).contains(&config.intake().max_callback_size));
    assert!(config.fetch().max_size > 0);
    config.local_url().parse::<url::Url>().expect("a URL of this machine");
}
