//! A small JPEG of an image, within bounds: what an image says of its own size costs nothing until it is believed.
//!
//! Its decoders are the `image` crate's, which has no unsafe code of its own and is fuzzed; even so a thumbnail is made on a
//! thread that may panic, and of nothing that is larger than what is allowed here.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage};

/// The longer side of a thumbnail, in pixels.
pub const MAX_SIDE: u32 = 480;
/// The largest source, in bytes.
pub const MAX_SOURCE_BYTES: u64 = 32 << 20;
/// The most pixels of a source: 50 megapixels.
const MAX_PIXELS: u64 = 50_000_000;
/// The most bytes of a decoded source: so many pixels of three bytes each, and fewer of more.
const MAX_DECODED_BYTES: u64 = 3 * MAX_PIXELS;
/// The most memory that a source takes when it is decoded, in bytes: as it is then, and what its decoder has beside it.
const MAX_BYTES: u64 = 256 << 20;
/// The most that a decoder may ask for beside it where that does not follow from the pixels: what is compressed in a PNG's
/// chunks, and a GIF's frame that is not as large as its screen.
const MAX_ASKED_FOR: u64 = 32 << 20;
/// The most pixels across. Of a row, a PNG's decoder has some at a time.
const MAX_WIDTH: u32 = 1 << 16;
/// Good enough for a grid, and some 20 kB.
const QUALITY: u8 = 78;

/// Why there is no thumbnail of an image.
#[derive(Debug, thiserror::Error)]
pub enum ThumbnailError {
    /// Nothing that is decoded here.
    #[error("expected a JPEG, PNG, WebP or GIF image")]
    Format,
    /// More pixels than are decoded, or more bytes.
    #[error("{width}x{height} of this kind take more memory than decoding may")]
    TooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// It cannot be decoded.
    #[error(transparent)]
    Damaged(#[from] image::ImageError),
}

/// Whether a thumbnail can be made of files of this type.
pub fn is_possible(content_type: &str) -> bool {
    matches!(content_type, "image/jpeg" | "image/png" | "image/webp" | "image/gif")
}

/// Makes a JPEG of at most [`MAX_SIDE`] pixels across and down. Takes a second for the largest image; blocks.
///
/// # Errors
/// When `source` is no image, is damaged, or is too large once it is decoded.
pub fn make(source: &[u8]) -> Result<Vec<u8>, ThumbnailError> {
    let mut reader = ImageReader::new(Cursor::new(source)).with_guessed_format().map_err(image::ImageError::from)?;
    let known = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif];
    let Some(format) = reader.format().filter(|format| known.contains(format)) else {
        return Err(ThumbnailError::Format);
    };
    reader.limits(limits());
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (pixels, decoded) = (u64::from(width) * u64::from(height), decoder.total_bytes());
    let needed = decoded + bytes_beside(format, source, pixels);
    if pixels > MAX_PIXELS || decoded > MAX_DECODED_BYTES || needed > MAX_BYTES {
        return Err(ThumbnailError::TooLarge { width, height });
    }
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    if width > MAX_SIDE || height > MAX_SIDE {
        image = image.thumbnail(MAX_SIDE, MAX_SIDE);
    }
    image.apply_orientation(orientation);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&on_grey(&image))?;
    Ok(jpeg)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_alloc) = (Some(MAX_WIDTH), Some(MAX_ASKED_FOR));
    limits
}

/// About how many bytes a decoder has beside the image without asking whether it may. Headers are not read as a decoder reads
/// them, which goes on in files that are damaged: what looks like one counts wherever it is.
fn bytes_beside(format: ImageFormat, source: &[u8], pixels: u64) -> u64 {
    match format {
        ImageFormat::Jpeg => 2 * u64::from(kept_components(source)) * pixels,
        ImageFormat::WebP => webp_bytes(source, pixels),
        _ => 0,
    }
}

/// Of how many components a JPEG's decoder keeps all coefficients, two bytes for each pixel, until later scans have refined or
/// completed them; none where one scan has it all. Among coded pixels nothing looks like a header.
fn kept_components(source: &[u8]) -> u8 {
    const PROGRESSIVE: u8 = 0xc2;
    let (mut in_frame, mut in_scan, mut is_progressive) = (1_u8, u8::MAX, false);
    for (at, _) in source.iter().enumerate().filter(|(_, byte)| **byte == 0xff) {
        let byte = |behind: usize| source.get(at + behind).copied();
        match byte(1) {
            Some(kind @ 0xc0..=PROGRESSIVE) => {
                is_progressive |= kind == PROGRESSIVE;
                in_frame = in_frame.max(byte(9).unwrap_or_default());
            }
            Some(0xda) => in_scan = in_scan.min(byte(4).unwrap_or_default()),
            _ => {}
        }
    }
    // More are not decoded.
    if is_progressive || in_scan < in_frame { in_frame.min(4) } else { 0 }
}

/// What a WebP's decoder has beside the image: of an animation a frame and what it is put on, of others less; the pixels that a
/// lossy frame says it has, which need not be the image's; and the tables that a lossless one has, of which some twelve bytes
/// make four kilobytes and more.
fn webp_bytes(source: &[u8], pixels: u64) -> u64 {
    const TABLE_BYTES: u64 = 600;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let side = |bytes: &[u8]| number(bytes) & 0x3fff;
    let (mut lossy, mut lossless) = (0_u64, 0_u64);
    for chunk in source.windows(18) {
        match &chunk[..4] {
            b"VP8 " => lossy = lossy.max(side(&chunk[14..16]) * side(&chunk[16..])),
            b"VP8L" | b"ALPH" => lossless = lossless.max(number(&chunk[4..8])),
            _ => {}
        }
    }
    9 * pixels + 2 * lossy + TABLE_BYTES * lossless.min(source.len() as u64)
}

/// A JPEG knows no transparency: what is behind it is a grey that suits light and dark.
fn on_grey(image: &DynamicImage) -> RgbImage {
    const GREY: u32 = 0x80;
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let pixels = image.to_rgba8();
    RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
        let [red, green, blue, alpha] = pixels.get_pixel(x, y).0.map(u32::from);
        Rgb([red, green, blue].map(|colour| ((colour * alpha + GREY * (255 - alpha)) / 255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use image::ImageEncoder;
    use image::codecs::png::{PngDecoder, PngEncoder};
    use image::codecs::webp::WebPEncoder;

    use super::*;

    fn png(width: u32, height: u32, alpha: u8) -> Vec<u8> {
        let mut png = Vec::new();
        let pixels = vec![[200, 100, 50, alpha]; (width * height) as usize].concat();
        PngEncoder::new(&mut png).write_image(&pixels, width, height, image::ExtendedColorType::Rgba8).unwrap();
        png
    }

    /// The same, as far as its header says what it has.
    fn of_size(mut png: Vec<u8>, width: u32, height: u32) -> Vec<u8> {
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &png[12..29]) as u32;
        png[29..33].copy_from_slice(&sum.to_be_bytes());
        png
    }

    #[test]
    fn an_image_becomes_small_and_keeps_its_shape() {
        for (width, height, expected) in [(1600, 800, (480, 240)), (30, 60, (30, 60)), (10, 4000, (1, 480))] {
            let made = image::load_from_memory(&make(&png(width, height, 255)).unwrap()).unwrap();
            assert_eq!((made.width(), made.height()), expected);
        }
        let clear = image::load_from_memory(&make(&png(8, 8, 0)).unwrap()).unwrap().to_rgb8();
        assert!(clear.get_pixel(4, 4).0.iter().all(|colour| colour.abs_diff(128) < 4));
    }

    #[test]
    fn what_is_no_image_or_says_it_is_vast_is_refused() {
        assert!(matches!(make(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), Err(ThumbnailError::Format)));
        assert!(matches!(make(&png(8, 8, 255)[..50]), Err(ThumbnailError::Damaged(_))));
        let vast = of_size(png(8, 8, 255), 65_536, 65_536);
        assert!(matches!(make(&vast), Err(ThumbnailError::TooLarge { width: 65_536, height: 65_536 })));
    }

    #[test]
    fn an_image_of_many_bytes_a_pixel_is_refused_although_it_has_few_pixels() {
        let mut deep = Vec::new();
        PngEncoder::new(&mut deep).write_image(&[0x80; 512], 8, 8, image::ExtendedColorType::Rgba16).unwrap();
        make(&deep).unwrap();
        let vast = of_size(deep, 7_000, 7_000);
        assert!(matches!(make(&vast), Err(ThumbnailError::TooLarge { width: 7_000, height: 7_000 })));
    }

    /// One of a single scan, as far as its header says of so many pixels.
    fn jpeg(width: u16, height: u16) -> Vec<u8> {
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&RgbImage::new(8, 8)).unwrap();
        let frame = place_of(&jpeg, &[0xff, 0xc0]);
        jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        jpeg
    }

    fn place_of(bytes: &[u8], wanted: &[u8]) -> usize {
        bytes.windows(wanted.len()).position(|found| found == wanted).unwrap()
    }

    #[test]
    fn a_jpeg_whose_coefficients_have_no_room_is_refused_before_it_is_decoded() {
        let mut vast = jpeg(7_000, 7_000);
        assert_eq!(bytes_beside(ImageFormat::Jpeg, &vast, 49_000_000), 0);
        let (frame, scan) = (place_of(&vast, &[0xff, 0xc0]), place_of(&vast, &[0xff, 0xda]));
        vast[frame + 1] = 0xc2;
        assert_eq!(bytes_beside(ImageFormat::Jpeg, &vast, 49_000_000), 294_000_000);
        assert!(matches!(make(&vast), Err(ThumbnailError::TooLarge { width: 7_000, height: 7_000 })));

        let mut of_many_scans = jpeg(7_000, 7_000);
        of_many_scans[scan + 4] = 1;
        assert_eq!(kept_components(&of_many_scans), 3);
    }

    #[test]
    fn a_webp_counts_with_all_that_its_decoder_makes_of_it() {
        let mut small = Vec::new();
        WebPEncoder::new_lossless(&mut small).write_image(&[9; 192], 8, 8, image::ExtendedColorType::Rgb8).unwrap();
        make(&small).unwrap();
        assert_eq!(webp_bytes(&[0; 99], 1_000), 9_000);
        let tables = [&b"....VP8L"[..], &500_000_u32.to_le_bytes(), &[0_u8; 1_000_000]].concat();
        assert!(webp_bytes(&tables, 64) > MAX_BYTES);
        let frame =
            [&b"RIFF....WEBPVP8X..........VP8 ...."[..], &[0, 0, 0, 0x9d, 1, 0x2a, 0xff, 0x3f, 0xff, 0x3f]].concat();
        assert!(webp_bytes(&frame, 64) > MAX_BYTES);
    }

    /// What is compressed there is inflated before anything is known of the image.
    #[test]
    fn a_profile_of_a_png_that_is_vast_once_it_is_inflated_is_left_out() {
        let mut encoded = Vec::new();
        let mut encoder = PngEncoder::new(&mut encoded);
        encoder.set_icc_profile(vec![0; MAX_ASKED_FOR as usize + 1]).unwrap();
        encoder.write_image(&[0x80; 192], 8, 8, image::ExtendedColorType::Rgb8).unwrap();
        make(&encoded).unwrap();
        let mut decoder = PngDecoder::with_limits(Cursor::new(&encoded), limits()).unwrap();
        assert_eq!(decoder.icc_profile().unwrap(), None);
    }
}
