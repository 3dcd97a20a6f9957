//! Files in miniature, as encoders, recorders and taggers write them.

pub(crate) fn small_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(8 + content.len() as u32).to_be_bytes()[..], kind, content].concat()
}

pub(crate) fn large_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], kind, &(16 + content.len() as u64).to_be_bytes(), content].concat()
}

pub(crate) fn open_box(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&[0; 4][..], kind, content].concat()
}

/// A `ftyp` box with this major brand and these compatible ones.
pub(crate) fn ftyp_box(major: &[u8; 4], compatible: &[&[u8; 4]]) -> Vec<u8> {
    small_box(
        b"ftyp",
        &[&major[..], &[0, 0, 2, 0], &compatible.iter().flat_map(|brand| brand.to_vec()).collect::<Vec<_>>()].concat(),
    )
}

pub(crate) fn ftyp() -> Vec<u8> {
    ftyp_box(b"isom", &[b"mp42"])
}

/// A movie's box with a track for each handler.
pub(crate) fn moov(handlers: &[&[u8; 4]]) -> Vec<u8> {
    let track = |handler: &&[u8; 4]| {
        let handler = [&[0; 8][..], *handler, &[0; 12], b"a handler\0"].concat();
        let data = small_box(b"hdlr", &[&[0; 8][..], b"dhlr", &[0; 13]].concat());
        let media = [small_box(b"mdhd", &[0; 24]), small_box(b"hdlr", &handler), small_box(b"minf", &data)].concat();
        small_box(b"trak", &[small_box(b"tkhd", &[0; 84]), small_box(b"mdia", &media)].concat())
    };
    // A handler of metadata is none of a track.
    let meta = [&[0; 4][..], &small_box(b"hdlr", &[&[0; 8][..], b"mdir", &[0; 13]].concat())].concat();
    let content: Vec<u8> = [small_box(b"mvhd", &[0; 100])]
        .into_iter()
        .chain(handlers.iter().map(track))
        .chain([small_box(b"udta", &small_box(b"meta", &meta))])
        .flatten()
        .collect();
    small_box(b"moov", &content)
}

pub(crate) fn mp4(moov: &[u8], mdat: &[u8], moov_first: bool) -> Vec<u8> {
    let (moov, mdat) = (small_box(b"moov", moov), large_box(b"mdat", mdat));
    let (first, second) = if moov_first { (moov, mdat) } else { (mdat, moov) };
    [ftyp(), small_box(b"free", b""), first, second].concat()
}

pub(crate) fn movie(brand: &[u8; 4], handlers: &[&[u8; 4]]) -> Vec<u8> {
    [ftyp_box(brand, &[b"isom"]), small_box(b"mdat", &[7; 300]), moov(handlers)].concat()
}

pub(crate) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[..], kind, data, b"crc."].concat()
}

pub(crate) fn png(data: &[u8]) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &[1; 13]), chunk(b"tEXt", data), chunk(b"IDAT", data)]
        .into_iter()
        .chain([chunk(b"IEND", b"")])
        .flatten()
        .collect()
}

pub(crate) fn segment(code: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, code], &(2 + data.len() as u16).to_be_bytes()[..], data].concat()
}

/// A progressive file: a thumbnail in its metadata, two scans with stuffing and a restart marker. `stray` bytes stand between
/// its segments.
pub(crate) fn stray_jpeg(data: &[u8], stray: &[u8]) -> Vec<u8> {
    let thumbnail = [b"\xff\xd8\xff\xdb", data, b"\xff\xd9"].concat();
    let scan: Vec<u8> = data.iter().flat_map(|byte| if *byte == 0xff { vec![0xff, 0] } else { vec![*byte] }).collect();
    [
        &[0xff, 0xd8][..],
        &segment(0xe1, &thumbnail),
        stray,
        &segment(0xc2, data),
        stray,
        &segment(0xda, &[1, 2, 3]),
        &scan,
        &[0xff, 0xd0],
        &scan,
        &[0xff, 0xff],
        &segment(0xc4, data)[1..],
        stray,
        &segment(0xda, b""),
        &scan,
        &[0xff, 0xd9],
    ]
    .concat()
}

pub(crate) fn jpeg(data: &[u8]) -> Vec<u8> {
    stray_jpeg(data, b"")
}

fn le_chunk(kind: &[u8; 4], size: u32, data: &[u8]) -> Vec<u8> {
    let padding = vec![0; data.len() % 2];
    [&kind[..], &size.to_le_bytes(), data, &padding].concat()
}

pub(crate) fn riff(form: &[u8; 4], chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let content: Vec<u8> = chunks.iter().flat_map(|(kind, data)| le_chunk(kind, data.len() as u32, data)).collect();
    [&b"RIFF"[..], &(4 + content.len() as u32).to_le_bytes(), form, &content].concat()
}

/// A WAV with these lengths in its header and its data chunk.
pub(crate) fn wav(riff_size: u32, data_size: u32, data: &[u8], behind: &[u8]) -> Vec<u8> {
    [
        &b"RIFF"[..],
        &riff_size.to_le_bytes(),
        b"WAVE",
        &le_chunk(b"fmt ", 16, &[1; 16]),
        b"data",
        &data_size.to_le_bytes(),
        data,
    ]
    .concat()
    .into_iter()
    .chain(behind.iter().copied())
    .collect()
}

pub(crate) fn rf64(data_size: u64, data: &[u8]) -> Vec<u8> {
    let lengths = [&(72 + data_size).to_le_bytes()[..], &data_size.to_le_bytes(), &[0; 12]].concat();
    let format = le_chunk(b"fmt ", 16, &[1; 16]);
    [&b"RF64\xff\xff\xff\xffWAVE"[..], &le_chunk(b"ds64", 28, &lengths), &format, b"data\xff\xff\xff\xff", data]
        .concat()
}

pub(crate) fn aiff(form_size: u32, sound_size: u32, data: &[u8]) -> Vec<u8> {
    let common = [&b"COMM"[..], &18_u32.to_be_bytes(), &[1; 18]].concat();
    [&b"FORM"[..], &form_size.to_be_bytes(), b"AIFF", &common, b"SSND", &sound_size.to_be_bytes(), data].concat()
}

/// Two frames with a comment and a stray terminator.
pub(crate) fn gif(data: &[u8]) -> Vec<u8> {
    let blocks: Vec<u8> =
        data.chunks(255).flat_map(|block| [&[block.len() as u8][..], block].concat()).chain([0]).collect();
    let frame = [&b"\x21\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\x80\0\0\0\xff\xff\xff\x02"[..], &blocks].concat();
    [&b"GIF89a\x01\0\x01\0\x81\0\0"[..], &[9; 12], b"\x21\xfe\x03abc\0", &frame, b"\0", &frame, b";"].concat()
}

pub(crate) fn bmp(width: i32, height: i32, bits: u16) -> Vec<u8> {
    let pixels = (width as usize * usize::from(bits)).div_ceil(32) * 4 * height.unsigned_abs() as usize;
    let info = [
        &40_u32.to_le_bytes()[..],
        &width.to_le_bytes(),
        &height.to_le_bytes(),
        &[1, 0],
        &bits.to_le_bytes(),
        &[0; 24],
    ];
    // What the header says about the whole is often nothing.
    [&b"BM\0\0\0\0\0\0\0\0\x36\0\0\0"[..], &info.concat(), &vec![5; pixels]].concat()
}

fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    [id, &(content.len() as u64 | 1 << 56).to_be_bytes(), content].concat()
}

fn open_element(id: &[u8], content: &[u8]) -> Vec<u8> {
    [id, b"\x01\xff\xff\xff\xff\xff\xff\xff", content].concat()
}

/// A recording with tracks of these types; of unknown length as a recorder writes it, or not.
pub(crate) fn ebml(doc_type: &[u8], tracks: &[u8], is_open: bool, data: &[u8]) -> Vec<u8> {
    let header = element(
        b"\x1a\x45\xdf\xa3",
        &[&b"\x42\x86\x81\x01\x42\x82"[..], &[0x80 | doc_type.len() as u8], doc_type].concat(),
    );
    let track = |kind: &u8| element(b"\xae", &[&b"\xd7\x81\x01\x83\x81"[..], &[*kind], b"\x86\x85A_ABC"].concat());
    let tracks = element(b"\x16\x54\xae\x6b", &tracks.iter().flat_map(track).collect::<Vec<_>>());
    let cluster = [b"\xe7\x81\0".to_vec(), element(b"\xa3", data), element(b"\xa0", &element(b"\xa1", data))].concat();
    let wrap = if is_open { open_element } else { element };
    let clusters = [wrap(b"\x1f\x43\xb6\x75", &cluster), wrap(b"\x1f\x43\xb6\x75", &cluster)].concat();
    let info = element(b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1\x83\x0f\x42\x40");
    [header, wrap(b"\x18\x53\x80\x67", &[info, tracks, clusters].concat())].concat()
}

pub(crate) fn ogg_page(flags: u8, packet: &[u8]) -> Vec<u8> {
    let mut lacing = vec![255; packet.len() / 255];
    lacing.push((packet.len() % 255) as u8);
    [&b"OggS\0"[..], &[flags], &[0; 20], &[lacing.len() as u8], &lacing, packet].concat()
}

pub(crate) fn ogg(first: &[u8], data: &[u8]) -> Vec<u8> {
    let first = [first, &[0; 12]].concat();
    [ogg_page(2, &first), ogg_page(0, &data[..data.len().min(60_000)]), ogg_page(0, b""), ogg_page(4, b"the end")]
        .concat()
}

pub(crate) fn crc16(bytes: &[u8]) -> [u8; 2] {
    let bit = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x8005 };
    bytes.iter().fold(0_u16, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, bit)).to_be_bytes()
}

/// Frames of 4,096 samples; `declared` of them in the header.
pub(crate) fn flac(declared: u64, data: &[&[u8]]) -> Vec<u8> {
    let info =
        [&[0x10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0xc4, 0x42, 0xf0][..4], &[0; 6], &[0x0a, 0xc4, 0x42]].concat();
    let samples = declared.to_be_bytes();
    let info = [&info[..], &[0xf0 | samples[3]], &samples[4..], &[0; 16]].concat();
    let frame = |(number, data): (usize, &&[u8])| {
        let header = [0xff, 0xf8, 0xc9, 0x18, number as u8];
        let crc8 = header.iter().fold(0_u8, |crc, byte| {
            (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 7 })
        });
        let frame = [&header[..], &[crc8], data].concat();
        [&frame[..], &crc16(&frame)].concat()
    };
    let frames: Vec<u8> = data.iter().enumerate().flat_map(frame).collect();
    [&b"fLaC\0\0\0\x22"[..], &info, b"\x84\0\0\x04tags", &frames].concat()
}

pub(crate) fn id3(length: usize, then: &[u8]) -> Vec<u8> {
    let size: Vec<u8> = [21, 14, 7, 0].iter().map(|shift| (length >> shift & 0x7f) as u8).collect();
    [&b"ID3\x04\0\0"[..], &size, &vec![0x33; length], then].concat()
}

pub(crate) fn frames(header: &[u8], length: usize, count: usize) -> Vec<u8> {
    let mut frame = header.to_vec();
    frame.resize(length, 0x55);
    frame.repeat(count)
}

pub(crate) fn mp3(count: usize) -> Vec<u8> {
    frames(b"\xff\xfb\x90\0", 417, count)
}

/// The same with a first frame that says how many bytes there are.
pub(crate) fn mp3_with_length(declared: u32, count: usize) -> Vec<u8> {
    let mut file = mp3(count);
    file[36..52].copy_from_slice(&[&b"Xing\0\0\0\x03\0\0\0\x09"[..], &declared.to_be_bytes()].concat());
    file
}

pub(crate) fn aac(count: usize) -> Vec<u8> {
    frames(b"\xff\xf1\x50\x80\x0c\x9f\xfc", 100, count)
}

pub(crate) fn asf(streams: &[&[u8; 16]], data: &[u8]) -> Vec<u8> {
    let object = |id: &[u8], content: &[u8]| [id, &(24 + content.len() as u64).to_le_bytes(), content].concat();
    let header = [&[0; 5000][..], &streams.iter().flat_map(|stream| stream.to_vec()).collect::<Vec<_>>()].concat();
    [
        object(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", &header),
        object(b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", data),
    ]
    .concat()
}

pub(crate) const ASF_SOUND: &[u8; 16] = b"\x40\x9e\x69\xf8\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b";
pub(crate) const ASF_PICTURES: &[u8; 16] = b"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b";

pub(crate) fn flv(data: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (data.len() as u32).to_be_bytes();
    let tag = [&[9, a, b, c, 0, 0, 0, 0, 0, 0, 0][..], data, &(11 + data.len() as u32).to_be_bytes()].concat();
    [&b"FLV\x01\x05\0\0\0\x09\0\0\0\0"[..], &tag, &tag].concat()
}

pub(crate) fn pdf(body: &[u8]) -> Vec<u8> {
    [b"%PDF-1.4\n", body, b"\nstartxref\n9\n%%EOF\n"].concat()
}

pub(crate) fn zip(body: &[u8]) -> Vec<u8> {
    [b"PK\x03\x04\x14\0\0\0\0\0", body, b"PK\x05\x06", &[0; 16], b"\x03\0abc"].concat()
}

pub(crate) fn ico(data: &[u8]) -> Vec<u8> {
    let entry = [&[16, 16, 0, 0, 1, 0, 32, 0][..], &(data.len() as u32).to_le_bytes(), &22_u32.to_le_bytes()].concat();
    [&b"\0\0\x01\0\x01\0"[..], &entry, data].concat()
}

/// A Core Audio file whose data say that they have `declared` bytes.
pub(crate) fn caf(declared: i64, data: &[u8], behind: &[u8]) -> Vec<u8> {
    let chunk = |name: &[u8; 4], size: i64, data: &[u8]| [&name[..], &size.to_be_bytes(), data].concat();
    [&b"caff\0\x01\0\0"[..], &chunk(b"desc", 32, &[7; 32]), &chunk(b"data", declared, data), behind].concat()
}

/// A Wave64 whose data say that they have `declared` bytes, with `data` behind that, unpadded.
pub(crate) fn wave64(declared: u64, data: &[u8]) -> Vec<u8> {
    const REST: &[u8; 12] = b"\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a";
    let chunk = |name: &[u8; 4], size: u64, data: &[u8]| [&name[..], REST, &(size + 24).to_le_bytes(), data].concat();
    let (format, data) = (chunk(b"fmt ", 16, &[1; 16]), chunk(b"data", declared, data));
    let length = (40 + format.len() + data.len()) as u64;
    [&b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"[..], &length.to_le_bytes(), b"wave", REST, &format, &data]
        .concat()
}

/// A transport stream of `count` packets with `lead` bytes in front of each.
pub(crate) fn transport_stream(count: usize, lead: usize) -> Vec<u8> {
    [&vec![1; lead][..], b"\x47", &[9; 187]].concat().repeat(count)
}
