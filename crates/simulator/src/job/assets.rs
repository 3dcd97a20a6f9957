use std::sync::Arc;
use std::time::Duration;

use crate::media::File;
pub(crate) use crate::media::Form;
use replyvault_domain::{JobId, Kind, Timestamp};

use super::Request;
use super::plan::{Offer, Plan, Variant};
use crate::apis::{self, FileSpec, Rendition};

/// A file and its place on the CDN.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) path: String,
    pub(crate) file: Arc<File>,
}

/// One thing a job made, in all the variants that payloads can name.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) form: Form,
    /// What an agent calls the file.
    pub(crate) name: &'static str,
    /// An agent can show a file as a node of its board, with the URLs there instead of at the file.
    pub(crate) is_node: bool,
    /// Said to be clean.
    pub(crate) clean: Published,
    /// Said to be nothing.
    pub(crate) plain: Published,
    /// Said to have a watermark.
    pub(crate) marked: Published,
    pub(crate) poster: Published,
    /// What an archive should choose of what the job offers.
    pub(crate) best: (Variant, Published),
    /// The same as another file of the job, in another container.
    pub(crate) is_other: bool,
    /// The call of the API that gives it; empty where a link does.
    pub(crate) call: String,
}

/// Writes the URLs that payloads carry.
pub(crate) trait Links {
    fn url(&self, published: &Published) -> String;

    /// What the provider's own URLs start with.
    fn base(&self) -> &str;
}

impl Asset {
    pub(crate) fn published(&self) -> [&Published; 4] {
        [&self.clean, &self.plain, &self.marked, &self.poster]
    }
}

/// How far China's clock is ahead, by which the provider names its folders.
const AHEAD: Duration = Duration::from_secs(8 * 3600);

/// The files of a job. Names on the CDN have the form the provider's have: the hour in the path, the id in the name.
pub(super) fn of(id: &JobId, own: u64, created: Timestamp, request: &Request, plan: &Plan) -> Vec<Asset> {
    let offer = plan.offer;
    let hour = created.after(AHEAD).to_string().chars().take(13).collect::<String>().replace('T', "-");
    let folder = |kind: &str| format!("/cdn/moss/prod/{hour}/{kind}");
    let make = |place: usize, form: Form, name: &'static str, is_node: bool| {
        let stem = format!("{own}-{place}");
        let publish = |kind: &str, form: Form, variant: &str, size| Published {
            path: format!("{}/{stem}{variant}.{}", folder(kind), form.extension()),
            file: Arc::new(File::new(form, &format!("{id} {place}{variant}"), size)),
        };
        let kind = match form {
            Form::Mp4 => "video",
            Form::Mp3 | Form::M4a | Form::Wav => "music",
            Form::Png | Form::Jpeg | Form::Webp => "image",
            Form::Pdf | Form::Pptx => "document",
        };
        let clean = publish(kind, form, "-clean", request.size);
        let plain = publish(kind, form, "", request.size);
        let marked = publish(kind, form, "-wm", request.size);
        let best = best(id.kind(), form, is_node, offer, [&clean, &plain, &marked]);
        let poster = publish("cover", Form::Jpeg, "", None);
        Asset { form, name, is_node, clean, plain, marked, poster, best, is_other: false, call: String::new() }
    };
    if let Some(made) = request.form {
        let files = if plan.is_inline && made.inline.is_some() { &made.files[..1] } else { made.files };
        let assets = files.iter().enumerate();
        return assets
            .map(|(place, spec)| by_table(make(place, spec.form, "", false), spec, made, own, id, offer))
            .collect();
    }
    match id.kind() {
        Kind::Video | Kind::Other => vec![make(0, Form::Mp4, "clip.mp4", false)],
        Kind::Image => vec![make(0, Form::Png, "still.png", false)],
        Kind::Music | Kind::Speech => vec![make(0, Form::Mp3, "sound.mp3", false)],
        Kind::Agent => {
            let forms = request.models.iter().map(|model| of_model(model));
            let mut assets: Vec<_> =
                forms.enumerate().map(|(place, (form, name))| make(place, form, name, false)).collect();
            // A large job also shows a clip the other way, under a name that is taken already.
            if assets.len() > 2 {
                assets.push(make(assets.len(), Form::Mp4, "clip.mp4", true));
            }
            assets
        }
    }
}

/// What the table says of a file.
fn by_table(asset: Asset, spec: &FileSpec, made: &apis::Form, own: u64, id: &JobId, offer: Offer) -> Asset {
    let has_clean = offer == Offer::Clean || (made.marked.is_none() && spec.call.is_empty());
    let (variant, rendition) = match spec.rendition {
        Rendition::Clean if !has_clean => (Variant::Watermarked, Rendition::Marked),
        rendition => (spec.variant, rendition),
    };
    let published = match rendition {
        Rendition::Clean => &asset.clean,
        Rendition::Marked => &asset.marked,
        Rendition::Plain | Rendition::Poster | Rendition::Inline => &asset.plain,
    };
    let best = (variant, published.clone());
    let call = apis::filled(spec.call, own, id.as_sent(), "");
    Asset { best, is_other: spec.is_other, call, ..asset }
}

fn of_model(model: &str) -> (Form, &'static str) {
    let is = |names: &[&str]| names.iter().any(|name| model.starts_with(name));
    if is(&["speech", "minimax-music"]) {
        (Form::Mp3, "a song.mp3")
    } else if is(&["nano-banana", "seedream", "kontext", "qwen", "kolors"]) {
        (Form::Png, "still.png")
    } else {
        (Form::Mp4, "clip.mp4")
    }
}

fn best(
    kind: Kind,
    form: Form,
    is_node: bool,
    offer: Offer,
    [clean, plain, marked]: [&Published; 3],
) -> (Variant, Published) {
    let (variant, published) = match (kind, form, offer) {
        (Kind::Music | Kind::Speech, ..) | (Kind::Agent, Form::Mp3 | Form::Png, _) => (Variant::Unknown, plain),
        (_, _, Offer::Clean) => (Variant::Clean, clean),
        (Kind::Agent, _, Offer::WatermarkOnly) if is_node => (Variant::Unknown, plain),
        // The other link of a video is that of the marked file.
        (Kind::Video, _, _) => (Variant::Watermarked, marked),
        (_, _, Offer::NoClean) => (Variant::Unknown, plain),
        (_, _, Offer::WatermarkOnly) => (Variant::Watermarked, marked),
    };
    (variant, published.clone())
}
