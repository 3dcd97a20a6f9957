//! What is neither film nor song in a container that players know: plain sound, WebP, PDF and a deck of slides.

use bytes::{BufMut, Bytes, BytesMut};

use super::checksums::crc32;

/// One pixel, lossless.
const PIXEL: [u8; 14] = [0x2F, 0, 0, 0, 0x10, 0x07, 0x10, 0x11, 0x11, 0x88, 0x88, 0xFE, 0x07, 0];

/// A tenth of a second of a tone, 8 kHz, one channel of 8 bits, with a comment in front.
pub(super) fn wav(stamp: &str) -> Bytes {
    let samples: Vec<u8> = (0..800).map(|at| if at / 10 % 2 == 0 { 118 } else { 138 }).collect();
    let mut format = BytesMut::new();
    format.put_u16_le(1);
    format.put_u16_le(1);
    format.put_u32_le(8000);
    format.put_u32_le(8000);
    format.put_u16_le(1);
    format.put_u16_le(8);
    let mut comment = BytesMut::from(b"INFO".as_slice());
    chunk(&mut comment, b"ICMT", stamp.as_bytes());
    riff(b"WAVE", &[(b"fmt ", &format), (b"LIST", &comment), (b"data", &samples)])
}

/// A picture of one pixel with its text behind it, where readers skip it.
pub(super) fn webp(stamp: &str) -> Bytes {
    let length = PIXEL.len() - 1;
    riff(b"WEBP", &[(b"VP8L", &PIXEL[..length]), (b"STMP", stamp.as_bytes())])
}

fn riff(form: &[u8; 4], chunks: &[(&[u8; 4], &[u8])]) -> Bytes {
    let mut body = BytesMut::from(form.as_slice());
    for (name, data) in chunks {
        chunk(&mut body, name, data);
    }
    let mut bytes = BytesMut::from(b"RIFF".as_slice());
    bytes.put_u32_le(body.len() as u32);
    bytes.put_slice(&body);
    bytes.freeze()
}

fn chunk(into: &mut BytesMut, name: &[u8; 4], data: &[u8]) {
    into.put_slice(name);
    into.put_u32_le(data.len() as u32);
    into.put_slice(data);
    if data.len() % 2 == 1 {
        into.put_u8(0);
    }
}

/// One empty page.
pub(super) fn pdf(stamp: &str) -> Bytes {
    let mut bytes = BytesMut::from(b"%PDF-1.4\n%".as_slice());
    bytes.put_slice(stamp.as_bytes());
    bytes.put_u8(b'\n');
    let objects = [
        "1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
        "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n",
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 320 180]>>endobj\n",
    ];
    let mut places = Vec::new();
    for object in objects {
        places.push(bytes.len());
        bytes.put_slice(object.as_bytes());
    }
    let start = bytes.len();
    bytes.put_slice(b"xref\n0 4\n0000000000 65535 f \n");
    for place in places {
        bytes.put_slice(format!("{place:010} 00000 n \n").as_bytes());
    }
    bytes.put_slice(format!("trailer<</Size 4/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n").as_bytes());
    bytes.freeze()
}

/// A ZIP archive with the parts by which a deck of slides is known, and its text as the archive's comment.
pub(super) fn pptx(stamp: &str) -> Bytes {
    const PARTS: [(&str, &str); 2] = [
        (
            "[Content_Types].xml",
            "<?xml version=\"1.0\"?><Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">\
             <Override PartName=\"/ppt/presentation.xml\" ContentType=\"application/vnd.openxmlformats-officedocument.\
             presentationml.presentation.main+xml\"/></Types>",
        ),
        ("ppt/presentation.xml", "<?xml version=\"1.0\"?><presentation/>"),
    ];
    let (mut bytes, mut directory) = (BytesMut::new(), BytesMut::new());
    for (name, text) in PARTS {
        let place = bytes.len() as u32;
        let mut entry = BytesMut::new();
        entry.put_slice(&[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]);
        entry.put_u32_le(crc32(text.as_bytes()));
        entry.put_u32_le(text.len() as u32);
        entry.put_u32_le(text.len() as u32);
        entry.put_u16_le(name.len() as u16);
        entry.put_u16_le(0);
        bytes.put_slice(b"PK\x03\x04");
        bytes.put_slice(&entry);
        bytes.put_slice(name.as_bytes());
        bytes.put_slice(text.as_bytes());
        directory.put_slice(b"PK\x01\x02\x14\0");
        directory.put_slice(&entry);
        directory.put_slice(&[0; 10]);
        directory.put_u32_le(place);
        directory.put_slice(name.as_bytes());
    }
    let (start, count) = (bytes.len() as u32, PARTS.len() as u16);
    bytes.put_slice(&directory);
    bytes.put_slice(b"PK\x05\x06\0\0\0\0");
    bytes.put_u16_le(count);
    bytes.put_u16_le(count);
    bytes.put_u32_le(directory.len() as u32);
    bytes.put_u32_le(start);
    bytes.put_u16_le(stamp.len() as u16);
    bytes.put_slice(stamp.as_bytes());
    bytes.freeze()
}
