//! A picture of 256 by 144 pixels: the same pixels for all, with colours of each file's own.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};

use super::checksums::crc32;
use replyvault_domain::Digest;

const WIDTH: u32 = 256;
const HEIGHT: u32 = 144;

pub(super) fn parts(stamp: &str) -> Vec<Bytes> {
    static FRAME: OnceLock<[Bytes; 2]> = OnceLock::new();
    let [head, pixels] = FRAME.get_or_init(|| [head(), pixels()]);
    let mut own = BytesMut::new();
    chunk(&mut own, b"PLTE", &palette(stamp));
    chunk(&mut own, b"tEXt", &[b"Comment\0".as_slice(), stamp.as_bytes()].concat());
    vec![head.clone(), own.freeze(), pixels.clone()]
}

fn head() -> Bytes {
    let mut bytes = BytesMut::from(b"\x89PNG\r\n\x1a\n".as_slice());
    let mut header = BytesMut::new();
    header.put_u32(WIDTH);
    header.put_u32(HEIGHT);
    header.put_slice(&[8, 3, 0, 0, 0]);
    chunk(&mut bytes, b"IHDR", &header);
    bytes.freeze()
}

/// A fade between two colours taken from the stamp.
fn palette(stamp: &str) -> Vec<u8> {
    let colours = *Digest::of(stamp.as_bytes()).as_bytes();
    let blend = move |step: u32, channel: usize| {
        let (from, to) = (u32::from(colours[channel]), u32::from(colours[channel + 3]));
        ((from * (255 - step) + to * step) / 255) as u8
    };
    (0..256).flat_map(|step| [blend(step, 0), blend(step, 1), blend(step, 2)]).collect()
}

fn pixels() -> Bytes {
    let rows = (0..HEIGHT).flat_map(|y| {
        std::iter::once(0).chain((0..WIDTH).map(move |x| {
            let (from_x, from_y) = (x.abs_diff(WIDTH / 2), y.abs_diff(HEIGHT / 2));
            (from_x * from_x + from_y * from_y).isqrt().min(255) as u8
        }))
    });
    let mut bytes = BytesMut::new();
    chunk(&mut bytes, b"IDAT", &stored(&rows.collect::<Vec<u8>>()));
    chunk(&mut bytes, b"IEND", &[]);
    bytes.freeze()
}

/// A zlib stream of one uncompressed block.
fn stored(data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    let mut stream = vec![0x78, 0x01, 1];
    stream.extend_from_slice(&length.to_le_bytes());
    stream.extend_from_slice(&(!length).to_le_bytes());
    stream.extend_from_slice(data);
    let (low, high) = data.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    stream.extend_from_slice(&(high << 16 | low).to_be_bytes());
    stream
}

fn chunk(into: &mut BytesMut, name: &[u8; 4], data: &[u8]) {
    into.put_u32(data.len() as u32);
    into.put_slice(name);
    into.put_slice(data);
    into.put_u32(crc32(&[name.as_slice(), data].concat()));
}
