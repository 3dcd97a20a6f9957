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
/// The most memory that a decoder may ask for, in bytes; the image itself comes on top.
const MAX_DECODER_BYTES: u64 = 256 << 20;
/// Good enough for a grid, and some 20 kB.
const QUALITY: u8 = 78;

/// Why there is no thumbnail of an image.
#[derive(Debug, thiserror::Error)]
pub enum ThumbnailError {
    /// Nothing that is decoded here.
    #[error("expected a JPEG, PNG, WebP or GIF image")]
    Format,
    /// More pixels than are decoded, or more bytes.
    #[error("{width}x{height} are more pixels of their kind than are decoded")]
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
    let reader = ImageReader::new(Cursor::new(source)).with_guessed_format().map_err(image::ImageError::from)?;
    let known = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif];
    if !reader.format().is_some_and(|format| known.contains(&format)) {
        return Err(ThumbnailError::Format);
    }
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(ThumbnailError::TooLarge { width, height });
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    decoder.set_limits(limits)?;
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
    use image::codecs::png::PngEncoder;

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
}
