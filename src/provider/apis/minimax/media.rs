//! Which URL is the media, and whether it is clean.

use crate::domain::{AssetId, AssetSource, FileName, Kind, MissingReason, Role, Variant};
use crate::provider::json::Object;
use crate::provider::media::{sidecar, source};

/// An attachment's file and what goes with it.
pub(super) struct Attachment {
    pub(super) media: AssetSource,
    pub(super) sidecars: Vec<AssetSource>,
}

/// The files of a job that makes one: none when the provider names no URL.
pub(super) fn single(kind: Kind, object: &Object<'_>) -> Vec<AssetSource> {
    let watermarked = object.object("videoURLs").and_then(|urls| urls.text("downloadURLWithWatermark"));
    let name = match kind {
        Kind::Video | Kind::Agent | Kind::Other => "video.mp4",
        Kind::Image => "image.png",
        Kind::Music | Kind::Speech => "audio.mp3",
    };
    let candidates = match kind {
        Kind::Video | Kind::Agent | Kind::Other => {
            let clean = object.text("downloadURL");
            // The page of GET videos/{videoId} says that this one is marked. Beside a clean one that is not taken for certain.
            let other = if clean.is_some() { Variant::Unknown } else { Variant::Watermarked };
            vec![(clean, Variant::Clean), (object.text("videoURL"), other)]
        }
        Kind::Image => vec![
            (object.text("downloadURL"), Variant::Clean),
            (object.text("videoURL"), Variant::Unknown),
            (watermarked.clone(), Variant::Watermarked),
        ],
        // Music of 2026 has the same field as speech.
        Kind::Music => {
            vec![(object.text("audio_url"), Variant::Unknown), (object.text("audioURL"), Variant::Unknown)]
        }
        Kind::Speech => vec![(object.text("audio_url"), Variant::Unknown)],
    };
    // So it is with all that only tell of progress.
    if candidates.iter().all(|(url, _)| url.is_none()) {
        return Vec::new();
    }
    let media = source(Role::Media, FileName::clean(name), candidates, watermarked.as_deref());
    let media = AssetSource { slot: AssetId::media(), ..media };
    let poster = match kind {
        // An image's cover is the same picture again, resized.
        Kind::Image | Kind::Agent | Kind::Speech | Kind::Other => None,
        Kind::Video | Kind::Music => sidecar(Role::Poster, "poster.jpg", object.text("coverURL")),
    };
    let poster = poster.map(|poster| AssetSource { slot: media.slot.sidecar(Role::Poster), ..poster });
    std::iter::once(media).chain(poster).collect()
}

/// The file of an agent's attachment, at 1-based `place`; `None` when the attachment is words and no file.
pub(super) fn attachment(attachment: &Object<'_>, place: usize) -> Option<Attachment> {
    let file = attachment.object("file").unwrap_or_default();
    let extra = file.object("extra").unwrap_or_default();
    let agent_file = attachment.object("node").and_then(|node| node.object("agentFile")).unwrap_or_default();
    let watermarked = extra.text("watermark_url");
    let candidates = vec![
        (extra.text("no_watermark_url"), Variant::Clean),
        (agent_file.text("noWatermarkUrl"), Variant::Clean),
        (file.text("fileUrl"), Variant::Unknown),
        (extra.text("url"), Variant::Unknown),
        (agent_file.text("url"), Variant::Unknown),
        (watermarked.clone(), Variant::Watermarked),
    ];
    let media = source(Role::Media, FileName::clean(""), candidates, watermarked.as_deref());
    let nothing_named = media.candidates.is_empty() && media.missing == MissingReason::NoUrl;
    let is_file = attachment.get("file").is_some() || attachment.get("node").is_some();
    if nothing_named && (!is_file || attachment.text("text").is_some()) {
        return None;
    }
    let url_name = media.candidates.first().map(|candidate| candidate.url.file_name().to_owned());
    let name = file.text("fileName").or_else(|| agent_file.text("name")).or(url_name).unwrap_or_default();
    let name = named(&name, &file, &extra).numbered(place);
    let cover = agent_file.object("coverInfo").and_then(|cover| cover.text("coverURL"));
    let stem = name.stem();
    let sidecars = [
        sidecar(Role::Poster, &format!("{stem}-poster.jpg"), file.text("posterUrl").or(cover)),
        sidecar(
            Role::Thumbnail,
            &format!("{stem}-thumbnail.jpg"),
            extra.text("thumbnail_url").or_else(|| agent_file.text("thumbnailUrl")),
        ),
        sidecar(Role::Subtitle, &format!("{stem}-subtitle.srt"), extra.text("subtitle_path")),
    ];
    Some(Attachment {
        media: AssetSource { file: name.clone(), ..media },
        sidecars: sidecars.into_iter().flatten().collect(),
    })
}

/// The provider's file name with an extension: its own, else the one its MIME type or format says.
fn named(name: &str, file: &Object<'_>, extra: &Object<'_>) -> FileName {
    let name = FileName::clean(name);
    if !name.extension().is_empty() {
        return name;
    }
    let mime = file.text("type").unwrap_or_default();
    let format = extra.text("format").or_else(|| extra.text("type")).unwrap_or_default();
    let extension = match (mime.as_str(), format.as_str()) {
        ("image/jpeg", _) | (_, "jpg" | "jpeg") => "jpg",
        ("image/webp", _) | (_, "webp") => "webp",
        ("audio/wav" | "audio/x-wav", _) | (_, "wav") => "wav",
        (mime, _) if mime.starts_with("video/") => "mp4",
        (mime, _) if mime.starts_with("image/") => "png",
        (mime, _) if mime.starts_with("audio/") => "mp3",
        (_, "mp4" | "video") => "mp4",
        (_, "png" | "image") => "png",
        (_, "mp3" | "audio") => "mp3",
        ("text/html", _) => "html",
        ("text/plain", _) => "txt",
        ("text/markdown", _) => "md",
        ("text/csv", _) => "csv",
        ("application/json", _) => "json",
        // The bytes will show it.
        _ => "",
    };
    name.with_extension(extension)
}
