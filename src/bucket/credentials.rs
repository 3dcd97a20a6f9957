//! S3 credentials where the configuration has none: the environment, the shared files, roles.

use std::path::PathBuf;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// What the shared files say for one profile.
#[derive(Default)]
struct Profile {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    region: Option<String>,
}

/// A builder with whatever the environment, else the shared files have, and whether that is credentials or where to
/// get them. If not, only the metadata service of an AWS machine is left to ask, which takes a network call.
pub(super) fn from_environment() -> (AmazonS3Builder, bool) {
    use AmazonS3ConfigKey as Key;
    let mut builder = AmazonS3Builder::from_env();
    let has = |builder: &AmazonS3Builder, key: Key| builder.get_config_value(&key).is_some_and(|it| !it.is_empty());
    let profile = shared_files(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    if !has(&builder, Key::Region)
        && let Some(region) = profile.region
    {
        builder = builder.with_region(region);
    }
    let unsigned = builder.get_config_value(&Key::SkipSignature).is_some_and(|value| value == "true");
    let elsewhere = [
        Key::AccessKeyId,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
    ];
    if unsigned || elsewhere.into_iter().any(|key| has(&builder, key)) {
        return (builder, true);
    }
    let (Some(id), Some(secret)) = (profile.access_key_id, profile.secret_access_key) else {
        return (builder, false);
    };
    builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    if let Some(token) = profile.session_token {
        builder = builder.with_token(token);
    }
    (builder, true)
}

/// Files and variables as in <https://docs.aws.amazon.com/sdkref/latest/guide/file-location.html>; of profiles only
/// those with keys of their own. A file that can't be read is one that is not there.
fn shared_files(variable: impl Fn(&str) -> Option<String>) -> Profile {
    let name = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let home = variable("HOME").map(|home| PathBuf::from(home).join(".aws"));
    let read = |own: &str, usual: &str| {
        let path = variable(own).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(usual)))?;
        std::fs::read_to_string(path).ok()
    };
    let mut profile = Profile::default();
    for text in [read("AWS_CONFIG_FILE", "config"), read("AWS_SHARED_CREDENTIALS_FILE", "credentials")] {
        profile.take(&text.unwrap_or_default(), &name);
    }
    profile
}

impl Profile {
    /// Takes over what the section of profile `name` says. In `config` it is called `[profile name]`.
    fn take(&mut self, text: &str, name: &str) {
        let mut ours = false;
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                let section = section.trim();
                ours = section.strip_prefix("profile ").unwrap_or(section).trim() == name;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| ours) {
                let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
                match key.trim() {
                    "aws_access_key_id" => self.access_key_id = value,
                    "aws_secret_access_key" => self.secret_access_key = value,
                    "aws_session_token" => self.session_token = value,
                    "region" => self.region = value,
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: Option<&str>) -> Profile {
        let directory = tempfile::tempdir().unwrap();
        let aws = directory.path().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        let credentials = "# keys\n[default]\naws_access_key_id = AK1\naws_secret_access_key=a/b+c==\n\n\
                           [work]\naws_access_key_id=AK2\naws_secret_access_key=s2\naws_session_token = t2\n";
        std::fs::write(aws.join("credentials"), credentials).unwrap();
        std::fs::write(aws.join("config"), "[default]\nregion=eu-west-1\n[profile work]\nregion = us-west-2\n")
            .unwrap();
        shared_files(|variable| match variable {
            "HOME" => directory.path().to_str().map(str::to_owned),
            "AWS_PROFILE" => name.map(str::to_owned),
            _ => None,
        })
    }

    #[test]
    fn the_shared_files_are_read_by_profile() {
        let default = profile(None);
        assert_eq!(default.access_key_id.as_deref(), Some("AK1"));
        assert_eq!(default.secret_access_key.as_deref(), Some("a/b+c=="));
        assert_eq!((default.session_token, default.region.as_deref()), (None, Some("eu-west-1")));
        let work = profile(Some("work"));
        assert_eq!((work.access_key_id.as_deref(), work.region.as_deref()), (Some("AK2"), Some("us-west-2")));
        assert_eq!(work.session_token.as_deref(), Some("t2"));
        assert!(profile(Some("other")).access_key_id.is_none());
    }
}
