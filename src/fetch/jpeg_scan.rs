//! Whether a JPEG that ends without EOI lacks only that.
//!
//! Some encoders leave EOI out, and every decoder shows their pictures whole. From outside such a file looks like one that
//! was cut, so its entropy-coded data are read (ITU-T T.81, annexes F and G), as far as counting blocks takes it.

use super::jpeg_huffman::{Bits, Table};

/// Blocks of 8 by 8 that are kept note of, eight bytes each. An RGB picture of 40 megapixels has fewer.
const MAX_BLOCKS: usize = 2 << 20;
/// Scans of one picture. An encoder makes some ten.
const MAX_SCANS: usize = 64;

struct Component {
    id: u8,
    horizontal: usize,
    vertical: usize,
    /// Blocks in a line, and lines of them, as a scan of this component alone has them.
    width: usize,
    height: usize,
    /// Blocks in a line as they are kept, with the padding that a scan of several components has.
    stride: usize,
    /// Of a progressive picture, for each block: which coefficients are not zero.
    blocks: Vec<u64>,
    /// For each coefficient: how many bits are still to come. All of them at first.
    missing: [u8; 64],
}

struct Picture<I> {
    bits: Bits<I>,
    is_progressive: bool,
    components: Vec<Component>,
    columns: usize,
    rows: usize,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    restart: usize,
}

/// Whether the bytes are a JPEG of which nothing is missing but, perhaps, EOI. Of arithmetic coding, of pictures beyond 128
/// million samples, and of what does not fit `false`.
pub fn ends_in_a_whole_picture(bytes: impl Iterator<Item = u8>) -> bool {
    let mut picture = Picture {
        bits: Bits::new(bytes),
        is_progressive: false,
        components: Vec::new(),
        columns: 0,
        rows: 0,
        dc: [const { None }; 4],
        ac: [const { None }; 4],
        restart: 0,
    };
    let _ = picture.read();
    !picture.components.is_empty() && picture.components.iter().all(|component| component.missing == [0; 64])
}

impl<I: Iterator<Item = u8>> Picture<I> {
    /// Reads up to EOI or the end, or to where it does not fit; then it is `None`.
    fn read(&mut self) -> Option<()> {
        let mut scans = 0;
        loop {
            match self.bits.marker()? {
                0xd8 | 0x01 | 0xd0..=0xd7 => {}
                0xd9 => return Some(()),
                code => {
                    let mut segment = self.bits.segment()?;
                    match code {
                        0xc0..=0xc2 => self.frame(&segment, code == 0xc2)?,
                        // DHT, and of the others that begin alike none that is read here.
                        0xc4 => self.tables(&mut segment)?,
                        0xc3 | 0xc5..=0xcb | 0xcd..=0xcf => return None,
                        0xdd => self.restart = usize::from(u16::from_be_bytes([*segment.first()?, *segment.get(1)?])),
                        0xda => {
                            scans += 1;
                            if scans > MAX_SCANS {
                                return None;
                            }
                            self.scan(&segment)?;
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn frame(&mut self, segment: &[u8], is_progressive: bool) -> Option<()> {
        let [_, a, b, c, d, count, components @ ..] = segment else { return None };
        let (height, width) = (usize::from(u16::from_be_bytes([*a, *b])), usize::from(u16::from_be_bytes([*c, *d])));
        let components = components.get(..3 * usize::from(*count))?;
        if !self.components.is_empty() || !(1..=4).contains(count) || width == 0 || height == 0 {
            return None;
        }
        let factors = components.as_chunks::<3>().0.iter().map(|[id, factors, _]| (*id, factors >> 4, factors & 15));
        if !factors.clone().all(|(_, across, down)| (1..=4).contains(&across) && (1..=4).contains(&down)) {
            return None;
        }
        let widest = usize::from(factors.clone().map(|(_, horizontal, _)| horizontal).max()?);
        let highest = usize::from(factors.clone().map(|(_, _, vertical)| vertical).max()?);
        self.is_progressive = is_progressive;
        self.columns = width.div_ceil(8 * widest);
        self.rows = height.div_ceil(8 * highest);
        let mut room = MAX_BLOCKS;
        for (id, horizontal, vertical) in factors {
            let (horizontal, vertical) = (usize::from(horizontal), usize::from(vertical));
            let stride = self.columns * horizontal;
            let blocks = stride * self.rows * vertical;
            room = room.checked_sub(blocks)?;
            self.components.push(Component {
                id,
                horizontal,
                vertical,
                width: (width * horizontal).div_ceil(widest).div_ceil(8),
                height: (height * vertical).div_ceil(highest).div_ceil(8),
                stride,
                blocks: vec![0; if is_progressive { blocks } else { 0 }],
                missing: [u8::MAX; 64],
            });
        }
        Some(())
    }

    fn tables(&mut self, segment: &mut [u8]) -> Option<()> {
        let mut rest = &*segment;
        while let [kind, behind @ ..] = rest {
            let (counts, behind) = behind.split_first_chunk::<16>()?;
            let length = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, behind) = behind.split_at_checked(length)?;
            let tables = if kind >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(kind & 15))? = Some(Table::new(counts, symbols)?);
            rest = behind;
        }
        Some(())
    }

    fn scan(&mut self, segment: &[u8]) -> Option<()> {
        let (count, rest) = segment.split_first()?;
        let (selectors, rest) = rest.split_at_checked(2 * usize::from(*count))?;
        let [first, last, bits, ..] = *rest else { return None };
        let (first, last) = if self.is_progressive { (usize::from(first), usize::from(last)) } else { (0, 63) };
        let (high, low) = if self.is_progressive { (bits >> 4, bits & 15) } else { (0, 0) };
        let fits = first <= last && last < 64 && (first > 0 || last == 0 || !self.is_progressive);
        if !fits || self.is_progressive && first > 0 && *count != 1 {
            return None;
        }
        let mut parts = Vec::new();
        for [id, tables] in selectors.as_chunks::<2>().0 {
            let component = self.components.iter().position(|component| component.id == *id)?;
            parts.push((component, usize::from(tables >> 4), usize::from(tables & 15)));
        }
        let Self { bits: source, components, dc, ac, restart, columns, rows, .. } = self;
        let (columns, rows) = match parts[..] {
            [] => return None,
            [(alone, ..)] => (components[alone].width, components[alone].height),
            _ => (*columns, *rows),
        };
        let pass = Pass { is_progressive: self.is_progressive, first, last, high };
        let mut end_of_band = 0_u32;
        source.begin();
        for unit in 0..columns * rows {
            if *restart > 0 && unit > 0 && unit % *restart == 0 {
                source.restart()?;
                end_of_band = 0;
            }
            let (column, row) = (unit % columns, unit / columns);
            for (part, dc_table, ac_table) in &parts {
                let component = &mut components[*part];
                let tables = (dc.get(*dc_table)?.as_ref(), ac.get(*ac_table)?.as_ref());
                let (across, down) = if parts.len() == 1 { (1, 1) } else { (component.horizontal, component.vertical) };
                for block in 0..across * down {
                    let place = (row * down + block / across) * component.stride + column * across + block % across;
                    let mut none = 0;
                    let mask = component.blocks.get_mut(place).unwrap_or(&mut none);
                    pass.block(source, tables, mask, &mut end_of_band)?;
                }
            }
        }
        for (part, ..) in parts {
            components[part].missing[first..=last].fill(low);
        }
        source.end();
        Some(())
    }
}

/// What a scan has of each block.
struct Pass {
    is_progressive: bool,
    first: usize,
    last: usize,
    /// The bits that earlier scans had; 0 in the first one.
    high: u8,
}

impl Pass {
    fn block<I: Iterator<Item = u8>>(
        &self,
        bits: &mut Bits<I>,
        (dc, ac): (Option<&Table>, Option<&Table>),
        mask: &mut u64,
        end_of_band: &mut u32,
    ) -> Option<()> {
        if !self.is_progressive {
            let length = dc?.read(bits)?;
            bits.skip(length)?;
            return first_pass(bits, ac?, 1, 63, &mut 0, &mut 0, false);
        }
        match (self.first, self.high) {
            (0, 0) => {
                let length = dc?.read(bits)?;
                bits.skip(length)
            }
            (0, _) => bits.skip(1),
            (first, 0) => first_pass(bits, ac?, first, self.last, mask, end_of_band, true),
            (first, _) => refinement(bits, ac?, first, self.last, mask, end_of_band),
        }
    }
}

/// The coefficients of a block in a sequential scan, or in the first of progressive ones, where a band may end for several
/// blocks at once.
fn first_pass<I: Iterator<Item = u8>>(
    bits: &mut Bits<I>,
    table: &Table,
    first: usize,
    last: usize,
    mask: &mut u64,
    end_of_band: &mut u32,
    has_runs: bool,
) -> Option<()> {
    if *end_of_band > 0 {
        *end_of_band -= 1;
        return Some(());
    }
    let mut place = first;
    while place <= last {
        let symbol = table.read(bits)?;
        let (run, size) = (symbol >> 4, symbol & 15);
        match (run, size) {
            (15, 0) => place += 16,
            (0, 0) => break,
            (run, 0) if has_runs => {
                *end_of_band = (1 << run) - 1 + bits.take(run)?;
                break;
            }
            (_, 0) => break,
            (run, size) => {
                place += usize::from(run);
                if place > last {
                    return None;
                }
                bits.skip(size)?;
                *mask |= 1 << place;
                place += 1;
            }
        }
    }
    (place <= 64 + 15).then_some(())
}

/// One bit more of the coefficients that are not zero, and those that this bit makes so.
fn refinement<I: Iterator<Item = u8>>(
    bits: &mut Bits<I>,
    table: &Table,
    first: usize,
    last: usize,
    mask: &mut u64,
    end_of_band: &mut u32,
) -> Option<()> {
    let mut place = first;
    while *end_of_band == 0 && place <= last {
        let symbol = table.read(bits)?;
        let (mut run, size) = (symbol >> 4, symbol & 15);
        if size == 0 && run < 15 {
            *end_of_band = (1 << run) + bits.take(run)?;
            break;
        }
        if size > 0 {
            bits.skip(1)?;
        }
        while place <= last {
            if *mask >> place & 1 == 1 {
                bits.skip(1)?;
            } else if run == 0 {
                break;
            } else {
                run -= 1;
            }
            place += 1;
        }
        if size > 0 && place <= last {
            *mask |= 1 << place;
        }
        place += 1;
    }
    if *end_of_band > 0 {
        if place <= last {
            let band = (u64::MAX << place) & (u64::MAX >> (63 - last));
            for _ in 0..(*mask & band).count_ones() {
                bits.skip(1)?;
            }
        }
        *end_of_band -= 1;
    }
    Some(())
}

#[cfg(test)]
mod tests;
