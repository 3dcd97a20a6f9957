//! The provider's side of a WebSocket with our signatures hidden, also where one is spread over several frames. Lengths stay
//! as they are, and so do all frames.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::veil::{Unclear, Veil};
use crate::intake::ReplyUrls;

/// The most that waits behind what may be a signature, in bytes.
const MAX_WAITING: usize = 64 << 10;

/// Frames on their way.
#[derive(Debug)]
pub(super) struct FrameVeil {
    urls: ReplyUrls,
    veil: Veil,
    state: State,
    /// Payload that came and is to be looked through, of several frames perhaps.
    payload: BytesMut,
    /// What follows one another, and how much of it waits.
    parts: VecDeque<Part>,
    /// Payload that can be passed on.
    ready: BytesMut,
}

#[derive(Debug)]
enum Part {
    /// As it is.
    Bytes(Bytes),
    /// So much payload.
    Payload(usize),
}

#[derive(Debug)]
enum State {
    /// The beginning of a frame's head.
    Head(Vec<u8>),
    /// In the payload of a message.
    Payload(u64),
    /// In the payload of a control frame, which may stand between two of a message: what there is of it, and what is to come.
    Control(Vec<u8>, usize),
    /// What comes is no WebSocket's.
    Raw,
}

/// What a head says.
enum Head {
    Begun,
    Message(u64),
    Control(usize),
    /// It is none that a server may send: masked, with a reserved bit or opcode, or a control frame that is too long or in
    /// pieces. Extensions, which could compress, were not offered.
    Wrong,
}

impl FrameVeil {
    pub(super) fn new(urls: &ReplyUrls) -> Self {
        Self {
            urls: urls.clone(),
            veil: Veil::new(urls),
            state: State::Head(Vec::new()),
            payload: BytesMut::new(),
            parts: VecDeque::new(),
            ready: BytesMut::new(),
        }
    }

    /// Takes what came; gives what can be passed on.
    pub(super) fn feed(&mut self, mut piece: &[u8]) -> Result<Bytes, Unclear> {
        while !piece.is_empty() {
            match &mut self.state {
                State::Head(begun) => {
                    let (first, rest) = piece.split_at(1);
                    begun.extend_from_slice(first);
                    piece = rest;
                    let next = match head(begun) {
                        Head::Begun => continue,
                        Head::Message(0) => State::Head(Vec::new()),
                        Head::Message(length) => State::Payload(length),
                        Head::Control(0) => State::Head(Vec::new()),
                        Head::Control(length) => State::Control(Vec::new(), length),
                        Head::Wrong => State::Raw,
                    };
                    let begun = std::mem::take(begun);
                    match next {
                        State::Raw => self.take_payload(&begun),
                        _ => self.parts.push_back(Part::Bytes(begun.into())),
                    }
                    self.state = next;
                }
                State::Payload(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                    *left -= length as u64;
                    if *left == 0 {
                        self.state = State::Head(Vec::new());
                    }
                    let (payload, rest) = piece.split_at(length);
                    piece = rest;
                    self.take_payload(payload);
                }
                State::Control(begun, left) => {
                    let (payload, rest) = piece.split_at((*left).min(piece.len()));
                    piece = rest;
                    begun.extend_from_slice(payload);
                    *left -= payload.len();
                    if *left == 0 {
                        let whole = std::mem::take(begun);
                        self.state = State::Head(Vec::new());
                        let hidden = Veil::over(&self.urls, &whole)?;
                        self.parts.push_back(Part::Bytes(hidden.unwrap_or(whole.into())));
                    }
                }
                State::Raw => {
                    self.take_payload(piece);
                    piece = &[];
                }
            }
        }
        self.ready.extend_from_slice(&self.veil.feed(&self.payload.split())?);
        let passed = self.passed_on();
        let waits: usize =
            self.parts.iter().map(|part| if let Part::Bytes(bytes) = part { bytes.len() } else { 0 }).sum();
        if waits > MAX_WAITING { Err(Unclear) } else { Ok(passed) }
    }

    /// What is left when there is no more.
    pub(super) fn finish(&mut self) -> Bytes {
        let rest = self.veil.finish();
        self.ready.extend_from_slice(&rest);
        if let State::Head(begun) | State::Control(begun, _) = &mut self.state {
            self.parts.push_back(Part::Bytes(std::mem::take(begun).into()));
        }
        self.passed_on()
    }

    fn take_payload(&mut self, payload: &[u8]) {
        self.payload.extend_from_slice(payload);
        match self.parts.back_mut() {
            Some(Part::Payload(length)) => *length += payload.len(),
            _ => self.parts.push_back(Part::Payload(payload.len())),
        }
    }

    fn passed_on(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        while let Some(part) = self.parts.front_mut() {
            match part {
                Part::Bytes(bytes) => out.extend_from_slice(bytes),
                Part::Payload(left) => {
                    let length = self.ready.len().min(*left);
                    out.extend_from_slice(&self.ready.split_to(length));
                    *left -= length;
                    if *left > 0 {
                        break;
                    }
                }
            }
            self.parts.pop_front();
        }
        out.freeze()
    }
}

/// Reads what there is of a head (RFC 6455, 5.2).
fn head(bytes: &[u8]) -> Head {
    const LONGEST_CONTROL: u64 = 125;
    let &[first, second, ref rest @ ..] = bytes else {
        return if bytes.first().is_some_and(|first| is_wrong(*first)) { Head::Wrong } else { Head::Begun };
    };
    let is_control = first & 0x08 != 0;
    let length = match (second & 0x7f, rest) {
        (126, &[a, b]) => u64::from(u16::from_be_bytes([a, b])),
        (127, &[a, b, c, d, e, f, g, h]) => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        (126 | 127, _) => {
            return if second & 0x80 != 0 || is_control { Head::Wrong } else { Head::Begun };
        }
        (length, _) => u64::from(length),
    };
    let is_masked = second & 0x80 != 0;
    match usize::try_from(length) {
        _ if is_masked || is_wrong(first) || (is_control && length > LONGEST_CONTROL) => Head::Wrong,
        Ok(length) if is_control => Head::Control(length),
        _ => Head::Message(length),
    }
}

/// A reserved bit or opcode, or a control frame in pieces.
fn is_wrong(first: u8) -> bool {
    let is_known = matches!(first & 0x0f, 0..=2 | 8..=10);
    first & 0x70 != 0 || !is_known || (first & 0x08 != 0 && first & 0x80 == 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::SecretString;
    use url::Url;

    use super::*;
    use crate::domain::Target;
    use crate::intake::ReplyKeys;

    fn urls() -> ReplyUrls {
        let keys = ReplyKeys::new(&[SecretString::from("key")]).unwrap();
        ReplyUrls::new(Url::parse("https://vault.example.com").unwrap(), keys)
    }

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let length = match payload.len() {
            short @ 0..126 => vec![short as u8],
            long => [&[126][..], &(long as u16).to_be_bytes()].concat(),
        };
        [&[opcode][..], &length, payload].concat()
    }

    proptest! {
        #[test]
        fn a_signature_is_hidden_however_it_is_spread_over_frames(
            cuts in proptest::collection::vec(1usize..60, 0..6),
            before in "[ -~]{0,200}",
            ping: bool,
            size in 1usize..300,
        ) {
            let url = urls().reply_url(&Target::parse("ref_01jd0000000000000000000000").unwrap());
            let text = format!("{{\"a\":\"{before} {url}\"}}");
            let mut rest = text.as_bytes();
            let mut sent = frame(0x89, b"there?");
            let mut expected = sent.clone();
            let hidden = text.replace(url.rsplit('/').next().unwrap(), &"*".repeat(43));
            let mut hidden = hidden.as_bytes();
            for (number, cut) in cuts.iter().enumerate() {
                let cut = (*cut).min(rest.len());
                let opcode = if number == 0 { 0x01 } else { 0x00 };
                sent.extend(frame(opcode, &rest[..cut]));
                expected.extend(frame(opcode, &hidden[..cut]));
                (rest, hidden) = (&rest[cut..], &hidden[cut..]);
                if ping {
                    sent.extend(frame(0x89, url.as_bytes()));
                    let last = url.len() - 43;
                    expected.extend(frame(0x89, format!("{}{}", &url[..last], "*".repeat(43)).as_bytes()));
                }
            }
            let opcode = if cuts.is_empty() { 0x81 } else { 0x80 };
            sent.extend(frame(opcode, rest));
            expected.extend(frame(opcode, hidden));
            sent.extend(frame(0x88, &[3, 232]));
            expected.extend(frame(0x88, &[3, 232]));
            let mut veil = FrameVeil::new(&urls());
            let mut out = Vec::new();
            for piece in sent.chunks(size) {
                out.extend_from_slice(&veil.feed(piece).unwrap());
            }
            out.extend_from_slice(&veil.finish());
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn any_stream_passes_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 0..400), size in 1usize..50) {
            let mut veil = FrameVeil::new(&urls());
            let mut out = Vec::new();
            for piece in bytes.chunks(size) {
                out.extend_from_slice(&veil.feed(piece).unwrap());
            }
            out.extend_from_slice(&veil.finish());
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn other_protocols_pass_at_once_and_are_searched_too() {
        let mut veil = FrameVeil::new(&urls());
        assert_eq!(veil.feed(b"hello").unwrap(), "hello");
        let url = urls().reply_url(&Target::Channel);
        assert!(veil.feed(url.as_bytes()).unwrap().ends_with(&[b'*'; 43]));
    }
}
