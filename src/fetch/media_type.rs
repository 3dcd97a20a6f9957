use std::fmt;

/// What people would call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Moving pictures.
    Video,
    /// Still or animated pictures.
    Image,
    /// Sound alone.
    Audio,
    /// Timed text.
    Subtitles,
    /// No media: where media was expected, an error page, or an archive of something.
    Document,
}

impl MediaKind {
    /// Whether it is what a job for a video, a picture or a song is for.
    pub const fn is_media(self) -> bool {
        matches!(self, Self::Video | Self::Image | Self::Audio)
    }
}

/// What a file's bytes say it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaType {
    /// What people would call it.
    pub kind: MediaKind,
    /// The MIME type to store it under.
    pub mime: &'static str,
    /// The usual file name extension, without a dot.
    pub extension: &'static str,
    pub(super) format: Format,
}

/// The container, as far as checking its wholeness goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    /// ISO base media file (ISO/IEC 14496-12) or QuickTime, with a movie.
    Movie,
    /// The same with pictures.
    Heif,
    /// JPEG XL in boxes (ISO/IEC 18181-2).
    Jxl,
    /// JPEG 2000 in boxes (ISO/IEC 15444-1).
    Jp2,
    Png,
    Jpeg,
    Gif,
    Bmp,
    /// RIFF, RIFX, RF64: WAV, WebP, AVI.
    Riff,
    /// EA IFF 85: AIFF.
    Iff,
    /// Matroska and WebM.
    Ebml,
    Ogg,
    Flac,
    /// MPEG audio, layer II or III.
    Mpeg,
    /// AAC in ADTS.
    Adts,
    /// Windows Media.
    Asf,
    Flv,
    /// Core Audio Format.
    Caf,
    /// Sony Wave64.
    Wave64,
    /// MPEG transport stream.
    TransportStream,
    Pdf,
    Zip,
    /// The head says how long the file is at least.
    Sized,
    /// Text in any encoding.
    Text,
    /// Nothing is checked.
    Other,
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mime)
    }
}

impl MediaType {
    const fn new(kind: MediaKind, mime: &'static str, extension: &'static str, format: Format) -> Self {
        Self { kind, mime, extension, format }
    }

    /// Whether it is text.
    pub fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// The type of this MIME type and extension; `None` for what this version does not know.
    pub(super) fn find(mime: &str, extension: &str) -> Option<Self> {
        KNOWN.iter().copied().find(|known| known.mime == mime && known.extension == extension)
    }

    /// The usual extension of a MIME type that is recorded here, or of another name for it.
    pub fn extension_of(mime: &str) -> Option<&'static str> {
        let mime = match mime {
            "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => "audio/wav",
            "audio/mp3" | "audio/x-mp3" | "audio/x-mpeg" | "audio/mpeg3" => "audio/mpeg",
            "audio/x-m4a" | "audio/m4a" | "audio/aacp" => "audio/mp4",
            "audio/x-aac" => "audio/aac",
            "audio/x-flac" => "audio/flac",
            "audio/x-aiff" => "audio/aiff",
            "audio/matroska" => "audio/x-matroska",
            "video/matroska" => "video/x-matroska",
            "video/avi" | "video/msvideo" | "video/vnd.avi" => "video/x-msvideo",
            "video/x-m4v" => "video/mp4",
            "video/flv" => "video/x-flv",
            "image/jpg" | "image/pjpeg" => "image/jpeg",
            "image/x-icon" | "image/ico" => "image/vnd.microsoft.icon",
            "image/x-ms-bmp" | "image/x-bmp" => "image/bmp",
            "image/jpeg2000" | "image/jpx" => "image/jp2",
            mime => mime,
        };
        KNOWN.iter().find(|known| known.mime == mime).map(|known| known.extension)
    }

    /// The type with this extension.
    pub(super) fn by_extension(extension: &str) -> Option<Self> {
        KNOWN.iter().copied().find(|known| known.extension == extension)
    }

    /// JSON that tells what is said when.
    pub(super) fn timed_json() -> Option<Self> {
        KNOWN.iter().copied().find(|known| known.kind == MediaKind::Subtitles && known.extension == "json")
    }

    /// The same container with sound alone.
    pub(super) fn without_pictures(self) -> Self {
        let extension = match self.extension {
            "mp4" => "m4a",
            "webm" => "weba",
            "mkv" => "mka",
            "wmv" => "wma",
            "3gp" => return Self::find("audio/3gpp", "3gp").unwrap_or(self),
            "3g2" => return Self::find("audio/3gpp2", "3g2").unwrap_or(self),
            _ => return self,
        };
        Self::by_extension(extension).unwrap_or(self)
    }
}

const fn video(mime: &'static str, extension: &'static str, format: Format) -> MediaType {
    MediaType::new(MediaKind::Video, mime, extension, format)
}

const fn image(mime: &'static str, extension: &'static str, format: Format) -> MediaType {
    MediaType::new(MediaKind::Image, mime, extension, format)
}

const fn audio(mime: &'static str, extension: &'static str, format: Format) -> MediaType {
    MediaType::new(MediaKind::Audio, mime, extension, format)
}

const fn subtitles(mime: &'static str, extension: &'static str) -> MediaType {
    MediaType::new(MediaKind::Subtitles, mime, extension, Format::Text)
}

const fn text(mime: &'static str, extension: &'static str) -> MediaType {
    MediaType::new(MediaKind::Document, mime, extension, Format::Text)
}

const fn document(mime: &'static str, extension: &'static str, format: Format) -> MediaType {
    MediaType::new(MediaKind::Document, mime, extension, format)
}

/// All types there are, each once. Of those of one extension the usual one comes first.
const KNOWN: &[MediaType] = &[
    video("video/mp4", "mp4", Format::Movie),
    video("video/quicktime", "mov", Format::Movie),
    video("video/3gpp", "3gp", Format::Movie),
    video("video/3gpp2", "3g2", Format::Movie),
    video("video/webm", "webm", Format::Ebml),
    video("video/x-matroska", "mkv", Format::Ebml),
    video("video/ogg", "ogv", Format::Ogg),
    video("video/x-msvideo", "avi", Format::Riff),
    video("video/x-ms-wmv", "wmv", Format::Asf),
    video("video/x-flv", "flv", Format::Flv),
    video("video/mp2t", "ts", Format::TransportStream),
    video("video/mpeg", "mpg", Format::Other),
    video("video/x-ivf", "ivf", Format::Other),
    video("application/mxf", "mxf", Format::Other),
    image("image/png", "png", Format::Png),
    image("image/jpeg", "jpg", Format::Jpeg),
    image("image/webp", "webp", Format::Riff),
    image("image/gif", "gif", Format::Gif),
    image("image/avif", "avif", Format::Heif),
    image("image/heic", "heic", Format::Heif),
    image("image/heif", "heif", Format::Heif),
    image("image/jxl", "jxl", Format::Jxl),
    image("image/jp2", "jp2", Format::Jp2),
    image("image/j2c", "j2k", Format::Other),
    image("image/bmp", "bmp", Format::Bmp),
    image("image/tiff", "tif", Format::Sized),
    image("image/vnd.microsoft.icon", "ico", Format::Sized),
    image("image/vnd.adobe.photoshop", "psd", Format::Other),
    image("image/vnd.ms-photo", "jxr", Format::Other),
    image("image/x-canon-cr2", "cr2", Format::Other),
    image("image/x-canon-cr3", "cr3", Format::Movie),
    image("image/x-exr", "exr", Format::Other),
    image("image/vnd.radiance", "hdr", Format::Other),
    image("image/vnd.ms-dds", "dds", Format::Other),
    image("image/x-qoi", "qoi", Format::Other),
    image("image/x-xcf", "xcf", Format::Other),
    image("image/icns", "icns", Format::Other),
    audio("audio/mp4", "m4a", Format::Movie),
    audio("audio/3gpp", "3gp", Format::Movie),
    audio("audio/3gpp2", "3g2", Format::Movie),
    audio("audio/webm", "weba", Format::Ebml),
    audio("audio/x-matroska", "mka", Format::Ebml),
    audio("audio/mpeg", "mp3", Format::Mpeg),
    audio("audio/mpeg", "mp2", Format::Mpeg),
    audio("audio/aac", "aac", Format::Adts),
    audio("audio/wav", "wav", Format::Riff),
    audio("audio/x-w64", "w64", Format::Wave64),
    audio("audio/flac", "flac", Format::Flac),
    audio("audio/ogg", "opus", Format::Ogg),
    audio("audio/ogg", "ogg", Format::Ogg),
    audio("audio/aiff", "aiff", Format::Iff),
    audio("audio/amr", "amr", Format::Other),
    audio("audio/amr-wb", "awb", Format::Other),
    audio("audio/x-ms-wma", "wma", Format::Asf),
    audio("audio/basic", "au", Format::Sized),
    audio("audio/x-caf", "caf", Format::Caf),
    audio("audio/midi", "mid", Format::Other),
    audio("audio/x-ape", "ape", Format::Other),
    audio("audio/x-dsf", "dsf", Format::Other),
    audio("audio/x-wavpack", "wv", Format::Other),
    audio("audio/x-tta", "tta", Format::Other),
    audio("audio/ac3", "ac3", Format::Other),
    subtitles("text/vtt", "vtt"),
    subtitles("application/x-subrip", "srt"),
    subtitles("application/ttml+xml", "ttml"),
    subtitles("text/x-ssa", "ass"),
    subtitles("text/x-lrc", "lrc"),
    subtitles("text/x-sbv", "sbv"),
    subtitles("application/smil+xml", "smi"),
    text("text/html", "html"),
    text("image/svg+xml", "svg"),
    text("application/xml", "xml"),
    text("application/json", "json"),
    subtitles("application/json", "json"),
    text("text/plain", "txt"),
    document("application/pdf", "pdf", Format::Pdf),
    document("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx", Format::Zip),
    document("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx", Format::Zip),
    document("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx", Format::Zip),
    document("application/epub+zip", "epub", Format::Zip),
    document("application/vnd.oasis.opendocument.text", "odt", Format::Zip),
    document("application/vnd.oasis.opendocument.spreadsheet", "ods", Format::Zip),
    document("application/vnd.oasis.opendocument.presentation", "odp", Format::Zip),
    document("application/zip", "zip", Format::Zip),
    document("application/msword", "doc", Format::Other),
    document("application/vnd.ms-excel", "xls", Format::Other),
    document("application/vnd.ms-powerpoint", "ppt", Format::Other),
    document("application/gzip", "gz", Format::Other),
    document("application/x-bzip2", "bz2", Format::Other),
    document("application/x-xz", "xz", Format::Other),
    document("application/zstd", "zst", Format::Other),
    document("application/x-7z-compressed", "7z", Format::Other),
    document("application/vnd.rar", "rar", Format::Other),
    document("application/x-tar", "tar", Format::Other),
    document("application/vnd.sqlite3", "sqlite", Format::Other),
    document("application/wasm", "wasm", Format::Other),
    document("model/gltf-binary", "glb", Format::Other),
    document("application/octet-stream", "bin", Format::Other),
];
