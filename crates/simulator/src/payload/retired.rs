//! Music and speech, which the provider has given up but accounts still hold.

use serde_json::{Value, json};

use crate::job::{Job, Links, USER_ID};
use replyvault_domain::Kind;

pub(super) fn music(job: &Job, links: &dyn Links) -> Value {
    let Some(asset) = job.assets.first() else { return Value::Null };
    json!({
        "title": job.request.title, "lyrics": job.request.prompt, "style": "Urban",
        "coverURL": links.url(&asset.poster), "audioURL": links.url(&asset.plain), "status": 2,
        "statusLabel": "completed", "statusFinal": true, "createTime": job.created.millis(), "duration": 2,
        "musicId": job.id,
    })
}

pub(super) fn speech(job: &Job, links: &dyn Links) -> Value {
    let Some(asset) = job.assets.first() else { return Value::Null };
    let made = job.created.millis();
    json!({
        "audio_id": job.id, "audio_review": 0, "text": job.request.prompt, "audio_url": links.url(&asset.plain),
        "audio_title": job.request.title, "create_time": made, "emotion": "Auto", "language_boost": "Auto",
        "speed": 1, "pitch": 0, "update_time": made,
        // A trap: an id of a job's form that is none.
        "voice_info": {
            "voice_id": job.id.as_str().replace(&job.own, "1"), "parent_voice_id": "0", "voice_name": "Calm Woman",
            "tag_list": ["English", "Female"], "file_id": "", "cover_url": links.url(&asset.poster),
            "create_time": made, "update_time": made, "collected": false, "voice_status": 2, "sample_audio": "",
            "uniq_id": "English_CalmWoman", "group_id": "0",
        },
        "effects": {
            "deepen_lighten": 0, "stronger_softer": 0, "nasal_crisp": 0, "spacious_echo": false,
            "lofi_telephone": false, "robotic": false, "auditorium_echo": false,
        },
    })
}

/// What a list of speech shows of one.
pub(crate) fn listed(job: &Job, links: &dyn Links) -> Value {
    let Some(asset) = job.assets.first() else { return Value::Null };
    json!({
        "audio_id": job.id, "audio_review": 0, "user_id": USER_ID, "audio_title": job.request.title,
        "audio_url": links.url(&asset.plain), "update_time": job.created.millis(),
    })
}

/// What the call that makes one answers.
pub(crate) fn created(job: &Job, links: &dyn Links) -> Value {
    let Some(asset) = job.assets.first() else { return Value::Null };
    let url = links.url(&asset.plain);
    if job.kind() == Kind::Music {
        return json!({"musicId": job.id, "audioURL": url, "duration": 2});
    }
    json!({
        "audio_id": job.id, "audio_length": 1800, "audio_sample_rate": 22_050, "audio_size": asset.plain.file.len(),
        "bitrate": 48_000, "word_count": 0, "invisible_character_ratio": 0, "audio_format": "mp3", "audio_channel": 1,
        "usage_characters": job.request.prompt.chars().count(), "input_sensitive": false, "trace_id": job.batch,
        "chunks": 1, "audio_review": 0, "user_id": USER_ID,
        "audio_title": job.request.title, "audio_url": url, "update_time": job.created.millis(),
    })
}
