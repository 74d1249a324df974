//! Whether a JPEG file holds every block of its picture. Decoders fill what is missing with grey or with the blocks before it; a robot
//! must not act on that, nor a model learn from it. Walks over the Huffman codes of every scan and decodes no pixel.

mod defaults;
mod huffman;
mod scan;

use defaults::{
    AC_CHROMA_COUNTS, AC_CHROMA_SYMBOLS, AC_LUMA_COUNTS, AC_LUMA_SYMBOLS, DC_CHROMA_COUNTS, DC_LUMA_COUNTS, DC_SYMBOLS,
};
use huffman::{Stop, Table};
use scan::{Band, Blocks, Tables};

/// Pixels a side that are read.
const MAX_SIDE: usize = 16_384;
/// Pixels in all.
const MAX_PIXELS: usize = 1 << 28;
/// A progressive file has about ten.
const MAX_SCANS: usize = 100;
/// Bytes between the last block and the next marker that a camera may leave as padding.
const MAX_PADDING: usize = 64;

/// Why a JPEG file is no whole picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JpegFault {
    /// It does not begin with the markers of a picture.
    #[error("not a JPEG image")]
    NoImage,
    /// The data end before the picture does.
    #[error("the JPEG image is cut short: {percent} % of {what} is there")]
    CutShort {
        /// Of the blocks.
        percent: usize,
        /// The picture, or a scan of a progressive one.
        what: Part,
    },
    /// Blocks that cannot be read, or a restart marker out of turn.
    #[error("the JPEG image is corrupt: {percent} % of {what} can be read")]
    Corrupt {
        /// Of the blocks.
        percent: usize,
        /// The picture, or a scan of a progressive one.
        what: Part,
    },
    /// Arithmetic coding, lossless, hierarchical, or beyond a limit.
    #[error("the JPEG image is of a kind that is not read: {0}; save it as a baseline or progressive JPEG")]
    Unsupported(&'static str),
}

/// What a percentage is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A baseline file sends all of a block at once.
    Picture,
    /// The number of a scan, from 1.
    Scan(usize),
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Picture => formatter.write_str("the picture"),
            Self::Scan(number) => write!(formatter, "scan {number}"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Component {
    id: u8,
    /// Blocks of a unit of all components.
    columns: usize,
    rows: usize,
    /// Blocks that the picture needs.
    width: usize,
    height: usize,
    /// Blocks from one row to the next, and before the first, in [`JpegCheck::sent`].
    stride: usize,
    start: usize,
    /// Coefficients whose last bit was sent.
    is_sent: u64,
    has_begun: bool,
}

#[derive(Clone, Debug, Default)]
struct Picture {
    is_progressive: bool,
    /// Units of all components.
    columns: usize,
    rows: usize,
    components: Vec<Component>,
}

/// Checks one file after another; keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct JpegCheck {
    /// Four for the first coefficient, four for the others.
    tables: Vec<Option<Table>>,
    picture: Picture,
    restart_interval: usize,
    /// A bit for each coefficient that is not zero, of progressive files alone.
    sent: Vec<u64>,
    num_scans: usize,
}

impl JpegCheck {
    /// Whether every block of the first picture of a file is there. Bytes behind its end are no matter, nor is a missing end marker where
    /// nothing else is missing.
    ///
    /// # Errors
    /// [`JpegFault`] with how much of it is there.
    pub fn check(&mut self, data: &[u8]) -> Result<(), JpegFault> {
        if !data.starts_with(&[0xff, 0xd8]) {
            return Err(JpegFault::NoImage);
        }
        self.tables.clear();
        self.tables.resize_with(8, || None);
        for [class, slot] in [[0, 0], [0, 1], [1, 0], [1, 1]] {
            self.fill_default(class, slot);
        }
        self.picture.components.clear();
        self.sent.clear();
        (self.restart_interval, self.num_scans) = (0, 0);
        let mut at = 2;
        loop {
            let Some((marker, body)) = next_segment(data, at) else { return self.ended() };
            at = body;
            if marker == 0xd9 {
                return self.ended();
            }
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                continue;
            }
            let length =
                data.get(body..).and_then(|data| data.first_chunk::<2>()).map(|bytes| u16::from_be_bytes(*bytes));
            let Some(length) = length.map(usize::from).filter(|length| *length >= 2) else { return self.ended() };
            let Some(segment) = data.get(body + 2..body + length) else { return self.ended() };
            at = body + length;
            match marker {
                0xc4 => self.huffman_tables(segment)?,
                0xc0..=0xc2 => self.header(segment, marker == 0xc2)?,
                0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => {
                    return Err(JpegFault::Unsupported("lossless or hierarchical"));
                }
                0xc9 | 0xca => return Err(JpegFault::Unsupported("arithmetic coding")),
                0xdd => {
                    self.restart_interval = segment.first_chunk::<2>().map_or(0, |two| u16::from_be_bytes(*two).into())
                }
                0xda => at = self.scan(segment, data, at)?,
                _ => {}
            }
        }
    }

    /// Where a file has no more segments: whether all of its picture was sent.
    fn ended(&self) -> Result<(), JpegFault> {
        let components = &self.picture.components;
        let is_whole = |component: &Component| match self.picture.is_progressive {
            // A file that lacks its last scans is blurred, also where it was ended in order.
            true => component.is_sent == u64::MAX,
            false => component.has_begun,
        };
        match components.iter().all(is_whole) && !components.is_empty() {
            true => Ok(()),
            false => {
                let num_whole = components.iter().filter(|component| is_whole(component)).count();
                let percent = 100 * num_whole / components.len().max(1);
                let what = if self.num_scans > 0 { Part::Scan(self.num_scans + 1) } else { Part::Picture };
                Err(JpegFault::CutShort { percent: if self.num_scans > 0 { 0 } else { percent }, what })
            }
        }
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<(), JpegFault> {
        let corrupt = JpegFault::Corrupt { percent: 0, what: Part::Picture };
        while let Some((head, rest)) = segment.split_first() {
            let (class, slot) = (usize::from(head >> 4), usize::from(head & 15));
            let counts = rest.first_chunk::<16>().ok_or(corrupt)?;
            let num_symbols: usize = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = rest.get(16..16 + num_symbols).ok_or(corrupt)?;
            let place = self.tables.get_mut(4 * class + slot).filter(|_| class < 2 && slot < 4).ok_or(corrupt)?;
            *place = Some(Table::new(counts, symbols).ok_or(corrupt)?);
            segment = rest.get(16 + num_symbols..).unwrap_or_default();
        }
        Ok(())
    }

    /// Cameras leave out the tables of the standard (K.3.3).
    fn fill_default(&mut self, class: usize, slot: usize) {
        let (counts, symbols) = match (class, slot) {
            (0, 0) => (&DC_LUMA_COUNTS, DC_SYMBOLS.as_slice()),
            (0, _) => (&DC_CHROMA_COUNTS, DC_SYMBOLS.as_slice()),
            (_, 0) => (&AC_LUMA_COUNTS, AC_LUMA_SYMBOLS.as_slice()),
            _ => (&AC_CHROMA_COUNTS, AC_CHROMA_SYMBOLS.as_slice()),
        };
        if let Some(place) = self.tables.get_mut(4 * class + slot) {
            *place = Table::new(counts, symbols);
        }
    }

    fn header(&mut self, segment: &[u8], is_progressive: bool) -> Result<(), JpegFault> {
        let corrupt = JpegFault::Corrupt { percent: 0, what: Part::Picture };
        let [_, h1, h0, w1, w0, num_components] = *segment.first_chunk::<6>().ok_or(corrupt)?;
        let [height, width] = [[h1, h0], [w1, w0]].map(|bytes| usize::from(u16::from_be_bytes(bytes)));
        if !self.picture.components.is_empty() {
            return Err(JpegFault::Unsupported("more than one frame header"));
        }
        if width == 0 || height == 0 {
            return Err(JpegFault::Unsupported("a height that comes after the picture"));
        }
        if width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS {
            return Err(JpegFault::Unsupported("more than 16384 pixels a side or 268 million in all"));
        }
        let parts = segment.get(6..).unwrap_or_default().as_chunks::<3>().0;
        let parts = parts.get(..usize::from(num_components)).ok_or(corrupt)?;
        if !(1..=4).contains(&parts.len()) {
            return Err(corrupt);
        }
        let sampling = |part: &[u8; 3]| [usize::from(part[1] >> 4), usize::from(part[1] & 15)];
        if parts.iter().flat_map(sampling).any(|factor| !(1..=4).contains(&factor)) {
            return Err(corrupt);
        }
        let most = |axis: usize| parts.iter().filter_map(|part| sampling(part).get(axis).copied()).max().unwrap_or(1);
        let [columns, rows] = [most(0), most(1)];
        self.picture.is_progressive = is_progressive;
        (self.picture.columns, self.picture.rows) = (width.div_ceil(8 * columns), height.div_ceil(8 * rows));
        let mut start = 0;
        for part in parts {
            let [own_columns, own_rows] = sampling(part);
            let stride = self.picture.columns * own_columns;
            self.picture.components.push(Component {
                id: part[0],
                columns: own_columns,
                rows: own_rows,
                width: (width * own_columns).div_ceil(8 * columns),
                height: (height * own_rows).div_ceil(8 * rows),
                stride,
                start,
                is_sent: 0,
                has_begun: false,
            });
            start += stride * self.picture.rows * own_rows;
        }
        if is_progressive {
            self.sent.resize(start, 0);
        }
        Ok(())
    }

    /// Reads a scan whose data begin at `at`; where the segment behind it begins.
    fn scan(&mut self, segment: &[u8], data: &[u8], at: usize) -> Result<usize, JpegFault> {
        self.num_scans += 1;
        let what = if self.picture.is_progressive { Part::Scan(self.num_scans) } else { Part::Picture };
        let corrupt = JpegFault::Corrupt { percent: 0, what };
        if self.num_scans > MAX_SCANS {
            return Err(JpegFault::Unsupported("more than 100 scans"));
        }
        let (num_parts, rest) = segment.split_first().ok_or(corrupt)?;
        let parts = rest.as_chunks::<2>().0.get(..usize::from(*num_parts)).filter(|parts| !parts.is_empty());
        let parts = parts.ok_or(corrupt)?;
        let [first, last, bits] =
            *rest.get(2 * parts.len()..).and_then(|rest| rest.first_chunk::<3>()).ok_or(corrupt)?;
        let is_progressive = self.picture.is_progressive;
        let band = Band { first: first.into(), last: last.into(), is_refined: bits >> 4 > 0, is_progressive };
        if is_progressive && (last > 63 || first > last || first > 0 && parts.len() > 1) {
            return Err(corrupt);
        }
        let mut members = [None; 4];
        for (member, [id, tables]) in members.iter_mut().zip(parts) {
            let idx = self.picture.components.iter().position(|component| component.id == *id).ok_or(corrupt)?;
            let table =
                |slot: u8, class: usize| self.tables.get(4 * class + usize::from(slot)).and_then(Option::as_ref);
            let component = self.picture.components.get_mut(idx).ok_or(corrupt)?;
            component.has_begun |= first == 0;
            if is_progressive && bits & 15 == 0 {
                component.is_sent |= (u64::MAX >> (63 - (last - first))) << first;
            }
            *member = Some((*component, Tables { dc: table(tables >> 4 & 3, 0), ac: table(tables & 3, 1) }));
        }
        let mut walk = Walk {
            data,
            band,
            blocks: Blocks::new(data, at),
            sent: &mut self.sent,
            restart_interval: self.restart_interval,
            num_units: 0,
        };
        let (walked, num_units) = match members {
            [Some(only), None, ..] => (walk.single(only), only.0.width * only.0.height),
            _ => (walk.all(&members, &self.picture), self.picture.columns * self.picture.rows),
        };
        let percent = 100 * walk.num_units / num_units.max(1);
        walked.map_err(|stop| match stop {
            Stop::Short => JpegFault::CutShort { percent, what },
            Stop::Corrupt => JpegFault::Corrupt { percent, what },
        })?;
        let is_encoders_end = walk.blocks.bits.is_filled_with_ones() && !has_equal_end(data);
        let (end, unused) = walk.blocks.bits.into_marker();
        // Much data that no block used are blocks that were read wrongly.
        let is_padding = unused.iter().all(|byte| Some(byte) == unused.first());
        if unused.len() > MAX_PADDING && !is_padding {
            return Err(corrupt);
        }
        // A buffer that was filled up where the data ended: the last blocks may be of that filling.
        if end >= data.len() && !(unused.is_empty() && is_encoders_end) {
            return Err(JpegFault::CutShort { percent: 99, what });
        }
        Ok(end)
    }
}

/// Whether the last two bytes are the same, as those of a buffer that was filled up.
fn has_equal_end(data: &[u8]) -> bool {
    matches!(data, [.., last_but_one, last] if last_but_one == last)
}

type Member<'a> = (Component, Tables<'a>);

/// The way over one scan's blocks.
struct Walk<'a> {
    data: &'a [u8],
    band: Band,
    blocks: Blocks<'a>,
    sent: &'a mut Vec<u64>,
    restart_interval: usize,
    /// Done.
    num_units: usize,
}

impl Walk<'_> {
    /// A scan of one component has the blocks that the picture needs, row by row.
    fn single(&mut self, (component, tables): Member<'_>) -> Result<(), Stop> {
        for row in 0..component.height {
            for column in 0..component.width {
                self.begin_unit()?;
                let place = component.start + row * component.stride + column;
                self.blocks.read(self.band, tables, self.sent.get_mut(place))?;
                self.num_units += 1;
            }
        }
        Ok(())
    }

    /// A scan of several has units of the blocks of each.
    fn all(&mut self, members: &[Option<Member<'_>>], picture: &Picture) -> Result<(), Stop> {
        for unit in 0..picture.columns * picture.rows {
            self.begin_unit()?;
            let [unit_row, unit_column] = [unit / picture.columns, unit % picture.columns];
            for (component, tables) in members.iter().flatten() {
                let corner =
                    component.start + unit_row * component.rows * component.stride + unit_column * component.columns;
                for block in 0..component.rows * component.columns {
                    let place = corner + block / component.columns * component.stride + block % component.columns;
                    self.blocks.read(self.band, *tables, self.sent.get_mut(place))?;
                }
            }
            self.num_units += 1;
        }
        Ok(())
    }

    /// Goes over the restart marker that is due.
    fn begin_unit(&mut self) -> Result<(), Stop> {
        let interval = self.restart_interval;
        if interval == 0 || self.num_units == 0 || !self.num_units.is_multiple_of(interval) {
            return Ok(());
        }
        let number = ((self.num_units / interval - 1) % 8) as u8;
        let blocks = std::mem::replace(&mut self.blocks, Blocks::new(self.data, self.data.len()));
        self.blocks = blocks.restart(self.data, number)?;
        Ok(())
    }
}

/// The next marker at or behind `at`, and where its segment begins; filling bytes and stray ones are passed over.
fn next_segment(data: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        let [first, second] = *data.get(at..)?.first_chunk::<2>()?;
        if first == 0xff && !matches!(second, 0 | 0xff) {
            return Some((second, at + 2));
        }
        at += 1;
    }
}
