//! Which values the provider's pages allow for the parameters of its calls. What they do not mention is not checked.

use crate::Shared;
use replyvault_domain::Kind;

use super::ApiError;
use super::fields::Fields;

/// An image model: its resolutions and aspect ratios, the longest prompt in characters, the most reference images.
struct ImageModel {
    name: &'static str,
    resolutions: &'static [&'static str],
    aspect_ratios: &'static [&'static str],
    max_prompt: usize,
    max_references: usize,
}

const ALL_RATIOS: [&str; 11] = ["auto", "16:9", "5:4", "4:3", "3:2", "1:1", "2:3", "3:4", "4:5", "9:16", "21:9"];

/// The first is the default.
const IMAGE_MODELS: [ImageModel; 4] = [
    ImageModel {
        name: "image-01",
        resolutions: &["HD"],
        aspect_ratios: &["16:9", "4:3", "1:1", "3:4", "9:16", "21:9"],
        max_prompt: 1250,
        max_references: 0,
    },
    ImageModel {
        name: "nano-banana-pro",
        resolutions: &["1K", "2K", "4K"],
        aspect_ratios: &ALL_RATIOS,
        max_prompt: 5000,
        max_references: 14,
    },
    ImageModel {
        name: "gpt-image-1.5",
        resolutions: &["1K", "2K", "4K"],
        aspect_ratios: &["auto", "1:1", "3:2", "2:3"],
        max_prompt: 1250,
        max_references: 3,
    },
    ImageModel {
        name: "seedream-4.5",
        resolutions: &["2K", "4K"],
        aspect_ratios: &ALL_RATIOS,
        max_prompt: 1250,
        max_references: 14,
    },
];

/// Video models and their `options`.
const VIDEO_MODELS: [(&str, &[&str]); 14] = [
    ("T2V-01", &[]),
    ("I2V-01", &[]),
    ("I2V-01-live", &[]),
    ("S2V-01", &[]),
    ("T2V-01-Director", &[]),
    ("I2V-01-Director", &[]),
    ("02", &["512p-6sec", "512p-10sec", "768p-6sec", "768p-10sec", "1080p-6sec"]),
    ("T2V-2.3", &["768p-6sec", "768p-10sec", "1080p-6sec"]),
    ("I2V-2.3", &["768p-6sec", "768p-10sec", "1080p-6sec"]),
    ("I2V-2.3-Fast", &["768p-6sec", "768p-10sec", "1080p-6sec"]),
    ("Sora-2", &["720p-4sec", "720p-8sec", "720p-12sec"]),
    ("Veo-3.1", &["veo-720p-8sec", "veo-1080p-8sec"]),
    ("Veo-3.1-Fast", &["veo-720p-8sec", "veo-1080p-8sec"]),
    ("Veo-3.1-S2V", &["veo-720p-8sec", "veo-1080p-8sec"]),
];

const AGENT_MODELS: [&str; 15] = [
    "hailuo-2.3",
    "hailuo-2.3-fast",
    "hailuo-02",
    "veo-3.1",
    "veo-3.1-fast",
    "sora-2",
    "nano-banana-2",
    "nano-banana",
    "seedream",
    "kontext",
    "qwen",
    "kolors",
    "speech-2.5-hd-preview",
    "speech-2.5-turbo-preview",
    "minimax-music-2.0",
];

const SPEECH_MODELS: [&str; 4] = ["speech-02-hd", "speech-01-hd", "speech-02-turbo", "speech-01-turbo"];

/// The longest lyrics, in characters.
const MAX_LYRICS: usize = 600;

/// Calls that take `account` from the query and want it where several accounts are configured.
const ACCOUNT_IN_QUERY: [(&str, &str); 15] = [
    ("DELETE", "llm"),
    ("GET", "llm"),
    ("GET", "audio"),
    ("GET", "audio/config"),
    ("GET", "audio/voices"),
    ("GET", "features"),
    ("GET", "files"),
    ("GET", "images"),
    ("GET", "music"),
    ("GET", "music/create"),
    ("GET", "music/styles"),
    ("GET", "videos"),
    ("GET", "videos/agent-templates"),
    ("GET", "videos/characters"),
    ("POST", "files"),
];

/// Whose account is meant has to be said where there are several.
pub(super) fn account(shared: &Shared, account: Option<&str>) -> Result<(), ApiError> {
    if account.is_none() && shared.belongings.accounts.all().len() > 1 {
        return Err(ApiError::BadRequest("Parameter account is required".into()));
    }
    Ok(())
}

/// The same for a call by its method, its path below the API's, and its query.
pub(super) fn account_in_query(shared: &Shared, method: &str, path: &str, query: &str) -> Result<(), ApiError> {
    let path = path.trim_matches('/');
    let asks = ACCOUNT_IN_QUERY.contains(&(method, path))
        || (method == "GET" && path.starts_with("llm/"))
        || (method == "POST" && path == "audio/upload-sample");
    if !asks {
        return Ok(());
    }
    let pairs = Fields::from_pairs(query.as_bytes());
    account(shared, pairs.get("account"))
}

/// Whether a call that makes jobs of a kind says only what its page allows.
pub(super) fn check(kind: Kind, fields: &Fields) -> Result<(), ApiError> {
    match kind {
        Kind::Video | Kind::Other => video(fields),
        Kind::Image => image(fields),
        Kind::Agent => {
            let models = fields.get("models").unwrap_or_default();
            models
                .split(',')
                .map(str::trim)
                .filter(|model| !model.is_empty())
                .try_for_each(|model| one_of("models", Some(model), &AGENT_MODELS))
        }
        Kind::Music => longest("prompt", fields.get("prompt"), MAX_LYRICS),
        Kind::Speech => speech(fields),
    }
}

fn video(fields: &Fields) -> Result<(), ApiError> {
    one_of("promptOptimization", fields.get("promptOptimization"), &["true", "false"])?;
    let names: Vec<_> = VIDEO_MODELS.iter().map(|(name, _)| *name).collect();
    one_of("model", fields.get("model"), &names)?;
    let Some(options) = fields.get("options") else { return Ok(()) };
    // Without a model it is the default one, which has no options.
    let allowed = VIDEO_MODELS.iter().find(|(name, _)| Some(*name) == fields.get("model"));
    one_of("options", Some(options), allowed.map(|(_, options)| *options).unwrap_or_default())?;
    if options.starts_with("512p") && fields.get("fileID").is_none() {
        return Err(ApiError::BadRequest(format!("Parameter fileID is required for options {options}")));
    }
    Ok(())
}

fn image(fields: &Fields) -> Result<(), ApiError> {
    one_of("promptOptimization", fields.get("promptOptimization"), &["true", "false"])?;
    let names = IMAGE_MODELS.map(|model| model.name);
    one_of("model", fields.get("model"), &names)?;
    let wanted = fields.get("model").unwrap_or(names[0]);
    let Some(model) = IMAGE_MODELS.iter().find(|model| model.name == wanted) else { return Ok(()) };
    one_of("resolution", fields.get("resolution"), model.resolutions)?;
    one_of("aspectRatio", fields.get("aspectRatio"), model.aspect_ratios)?;
    longest("prompt", fields.get("prompt"), model.max_prompt)?;
    let beyond = (model.max_references + 1..=14).map(|number| format!("referenceFileId{number}"));
    if let Some(name) = beyond.into_iter().find(|name| fields.get(name).is_some()) {
        return Err(ApiError::BadRequest(format!("Parameter {name} is not supported by {}", model.name)));
    }
    if model.max_references > 0 && fields.get("characterFileId").is_some() {
        return Err(ApiError::BadRequest(format!("Parameter characterFileId is not supported by {}", model.name)));
    }
    Ok(())
}

fn speech(fields: &Fields) -> Result<(), ApiError> {
    one_of("model", fields.get("model"), &SPEECH_MODELS)?;
    within("speed", fields, 0.5, 2.0)?;
    within("pitch", fields, -12.0, 12.0)?;
    for name in ["deepen_lighten", "stronger_softer", "nasal_crisp"] {
        within(name, fields, -100.0, 100.0)?;
    }
    for name in ["spacious_echo", "lofi_telephone", "robotic", "auditorium_echo"] {
        one_of(name, fields.get(name), &["true", "false"])?;
    }
    Ok(())
}

fn one_of(name: &str, value: Option<&str>, allowed: &[&str]) -> Result<(), ApiError> {
    match value {
        Some(value) if !allowed.contains(&value) => Err(ApiError::BadRequest(format!(
            "Parameter {name} ({value}) has invalid value, supported values: {}",
            allowed.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn longest(name: &str, value: Option<&str>, most: usize) -> Result<(), ApiError> {
    match value {
        Some(value) if value.chars().nth(most).is_some() => {
            Err(ApiError::BadRequest(format!("Parameter {name} is longer than {most} characters")))
        }
        _ => Ok(()),
    }
}

fn within(name: &str, fields: &Fields, least: f64, most: f64) -> Result<(), ApiError> {
    let Some(value) = fields.get(name) else { return Ok(()) };
    match value.parse::<f64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(()),
        _ => Err(ApiError::BadRequest(format!("Parameter {name} ({value}) is from {least} to {most}"))),
    }
}
