//! Bits and Huffman codes of a JPEG.

/// A source of bytes, read as segments or, within a scan, as bits.
pub(super) struct Bits<I> {
    bytes: I,
    bits: u32,
    count: u32,
    /// The marker that ended the scan's data.
    marker: Option<u8>,
}

impl<I: Iterator<Item = u8>> Bits<I> {
    pub(super) fn new(bytes: I) -> Self {
        Self { bytes, bits: 0, count: 0, marker: None }
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes.next()
    }

    /// The code of the next marker, behind strays and filling.
    pub(super) fn marker(&mut self) -> Option<u8> {
        if let Some(marker) = self.marker.take() {
            return Some(marker);
        }
        loop {
            while self.byte()? != 0xff {}
            let mut code = self.byte()?;
            while code == 0xff {
                code = self.byte()?;
            }
            if code != 0 {
                return Some(code);
            }
        }
    }

    /// What a segment holds.
    pub(super) fn segment(&mut self) -> Option<Vec<u8>> {
        let length = u16::from_be_bytes([self.byte()?, self.byte()?]).checked_sub(2)?;
        (0..length).map(|_| self.byte()).collect()
    }

    /// Begins with a whole byte of a scan.
    pub(super) fn begin(&mut self) {
        (self.bits, self.count, self.marker) = (0, 0, None);
    }

    /// Leaves the scan: the next marker is the one that ends it.
    pub(super) fn end(&mut self) {
        self.count = 0;
    }

    /// Goes on behind a restart marker.
    pub(super) fn restart(&mut self) -> Option<()> {
        let marker = self.marker()?;
        self.begin();
        (0xd0..=0xd7).contains(&marker).then_some(())
    }

    /// One bit; `None` where there is none any more.
    pub(super) fn bit(&mut self) -> Option<u32> {
        if self.count == 0 {
            if self.marker.is_some() {
                return None;
            }
            let byte = self.byte()?;
            if byte == 0xff {
                let mut code = self.byte()?;
                while code == 0xff {
                    code = self.byte()?;
                }
                if code != 0 {
                    self.marker = Some(code);
                    return None;
                }
            }
            (self.bits, self.count) = (byte.into(), 8);
        }
        self.count -= 1;
        Some(self.bits >> self.count & 1)
    }

    /// A number of up to sixteen bits.
    pub(super) fn take(&mut self, count: u8) -> Option<u32> {
        let mut number = 0;
        for _ in 0..count {
            number = number << 1 | self.bit()?;
        }
        Some(number)
    }

    pub(super) fn skip(&mut self, count: u8) -> Option<()> {
        self.take(count.min(16)).map(drop)
    }
}

/// A Huffman table (T.81, annex C): for each length the first code, and where its symbols begin.
pub(super) struct Table {
    first: [u32; 16],
    counts: [u8; 16],
    places: [usize; 16],
    symbols: Vec<u8>,
}

impl Table {
    /// `None` when there are more codes of a length than there can be.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let (mut first, mut places) = ([0; 16], [0; 16]);
        let (mut code, mut place) = (0_u32, 0);
        for (length, count) in counts.iter().enumerate() {
            first[length] = code;
            places[length] = place;
            place += usize::from(*count);
            code += u32::from(*count);
            if code > 2 << length {
                return None;
            }
            code <<= 1;
        }
        Some(Self { first, counts: *counts, places, symbols: symbols.to_vec() })
    }

    /// The next symbol.
    pub(super) fn read<I: Iterator<Item = u8>>(&self, bits: &mut Bits<I>) -> Option<u8> {
        let mut code = 0;
        for length in 0..16 {
            code = code << 1 | bits.bit()?;
            let offset = code.wrapping_sub(self.first[length]);
            if offset < u32::from(self.counts[length]) {
                return self.symbols.get(self.places[length] + offset as usize).copied();
            }
        }
        None
    }
}
