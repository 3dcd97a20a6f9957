use serde::{Deserialize, Serialize};

use super::{ContainerError, Expected, fill, skip};

/// The blocks of a GIF (GIF89a specification) up to its trailer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gif {
    has_picture: bool,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Signature and logical screen.
    Screen {
        bytes: [u8; 13],
        filled: usize,
    },
    Table {
        left: u64,
    },
    /// What comes next.
    Introducer,
    Label,
    /// The place and size of a picture.
    Descriptor {
        bytes: [u8; 9],
        filled: usize,
    },
    /// The colours of a picture, and how its data begin.
    LocalTable {
        left: u64,
    },
    BlockLength,
    Block {
        left: u64,
    },
    Whole,
    #[serde(skip)]
    Malformed(Expected),
}

impl Gif {
    /// For a file whose signature was recognised.
    pub(super) fn new() -> Self {
        Self { has_picture: false, state: State::Screen { bytes: [0; 13], filled: 0 } }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            self.state = match &mut self.state {
                State::Screen { bytes: screen, filled } => {
                    if !fill(screen, filled, &mut bytes) {
                        return;
                    }
                    match table(screen[10]) {
                        0 => State::Introducer,
                        left => State::Table { left },
                    }
                }
                State::Table { left } | State::LocalTable { left } | State::Block { left } => {
                    skip(left, &mut bytes);
                    if *left > 0 {
                        return;
                    }
                    match self.state {
                        State::Table { .. } => State::Introducer,
                        _ => State::BlockLength,
                    }
                }
                State::Descriptor { bytes: descriptor, filled } => {
                    if !fill(descriptor, filled, &mut bytes) {
                        return;
                    }
                    // Behind the table stands the code size of the data.
                    State::LocalTable { left: table(descriptor[8]) + 1 }
                }
                state @ (State::Introducer | State::Label | State::BlockLength) => {
                    bytes = rest;
                    match (state, *byte) {
                        (State::Label, _) => State::BlockLength,
                        (State::BlockLength, 0) => State::Introducer,
                        (State::BlockLength, length) => State::Block { left: length.into() },
                        (_, b'!') => State::Label,
                        (_, b',') => {
                            self.has_picture = true;
                            State::Descriptor { bytes: [0; 9], filled: 0 }
                        }
                        (_, b';') if self.has_picture => State::Whole,
                        // One end of a block too many.
                        (_, 0) => State::Introducer,
                        _ => State::Malformed("an extension, a picture, or the trailer behind one"),
                    }
                }
                State::Whole | State::Malformed(_) => return,
            };
        }
    }

    /// Whether nothing that may follow can make it whole.
    pub(super) fn is_malformed(&self) -> bool {
        matches!(self.state, State::Malformed(_))
    }

    pub(super) fn finish(&self) -> Result<(), ContainerError> {
        match self.state {
            State::Whole => Ok(()),
            State::Malformed(expected) => Err(ContainerError::Malformed { expected }),
            _ => Err(ContainerError::Truncated { expected: "blocks up to the trailer" }),
        }
    }
}

/// The length of the colour table that these flags announce.
fn table(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}
