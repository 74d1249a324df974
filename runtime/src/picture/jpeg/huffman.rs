//! Huffman tables and the bits of a scan, as far as they tell where each block ends.

/// Bits of a code that one look-up answers.
const LOOKUP_BITS: u32 = 10;

/// Why the bits of a scan lead no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The data end, or a marker comes, before the block is whole.
    Short,
    /// No table has such a code, or a block has more than 64 coefficients.
    Corrupt,
}

/// A code's length and its symbol; length 0 where the code is longer than a look-up.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    length: u8,
    symbol: u8,
}

/// A table of a DHT segment.
#[derive(Clone, Debug)]
pub(super) struct Table {
    lookup: [Code; 1 << LOOKUP_BITS],
    /// For each length: the first code above it, left-aligned in 16 bits, and what to add for the symbol's place.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: [u8; 256],
    num_symbols: usize,
}

impl Table {
    /// Of how many codes there are of each length from 1 to 16, and their symbols; `None` when they are no code.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            lookup: [Code::default(); 1 << LOOKUP_BITS],
            ends: [0; 17],
            offsets: [0; 17],
            symbols: [0; 256],
            num_symbols: symbols.len(),
        };
        table.symbols.get_mut(..symbols.len())?.copy_from_slice(symbols);
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, count) in (1_u32..).zip(counts) {
            let count = usize::from(*count);
            *table.offsets.get_mut(length as usize)? = place as i32 - code as i32;
            for symbol in symbols.get(place..place + count)? {
                if length <= LOOKUP_BITS {
                    let shift = LOOKUP_BITS - length;
                    let slots = table.lookup.get_mut((code << shift) as usize..((code + 1) << shift) as usize)?;
                    slots.fill(Code { length: length as u8, symbol: *symbol });
                }
                code += 1;
            }
            place += count;
            *table.ends.get_mut(length as usize)? = code << (16 - length);
            if code > 1 << length {
                return None;
            }
            code <<= 1;
        }
        Some(table)
    }

    /// A code longer than a look-up, in the upper of 16 bits.
    fn long(&self, bits: u32) -> Option<Code> {
        for length in LOOKUP_BITS + 1..=16 {
            if bits < *self.ends.get(length as usize)? {
                let place = (bits >> (16 - length)) as i32 + self.offsets.get(length as usize)?;
                let place = usize::try_from(place).ok().filter(|place| *place < self.num_symbols)?;
                return Some(Code { length: length as u8, symbol: *self.symbols.get(place)? });
            }
        }
        None
    }
}

/// The bits of a scan's data up to the next marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte that is not in `buffer`.
    at: usize,
    /// From the highest bit on.
    buffer: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// From byte `at` of a file on.
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self { data, at, buffer: 0, count: 0 }
    }

    /// At least 32 bits if the data have them.
    fn fill(&mut self) {
        if let Some(bytes) = self.data.get(self.at..).and_then(|data| data.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*bytes);
            // No byte of all ones: zeros of the complement are found as by `strlen`.
            let zeros = !word;
            if zeros.wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 == 0 {
                let num_bytes = (64 - self.count) / 8;
                let kept = word & (u64::MAX << (64 - 8 * num_bytes));
                self.buffer |= kept >> self.count;
                self.count += 8 * num_bytes;
                self.at += num_bytes as usize;
                return;
            }
        }
        while self.count <= 56 {
            let Some(byte) = self.data.get(self.at) else { return };
            if *byte == 0xff {
                match self.data.get(self.at + 1) {
                    Some(0) => self.at += 1,
                    _ => return,
                }
            }
            self.at += 1;
            self.buffer |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Leaves this many bits out, at most 32.
    pub(super) fn skip(&mut self, num_bits: u32) -> Result<(), Stop> {
        if self.count < num_bits {
            self.fill();
        }
        if self.count < num_bits {
            return Err(Stop::Short);
        }
        self.buffer <<= num_bits;
        self.count -= num_bits;
        Ok(())
    }

    /// The next bits as a number, at most 16.
    pub(super) fn number(&mut self, num_bits: u32) -> Result<u32, Stop> {
        if self.count < num_bits {
            self.fill();
        }
        let value = if num_bits == 0 { 0 } else { (self.buffer >> (64 - num_bits)) as u32 };
        self.skip(num_bits).map(|()| value)
    }

    /// The next symbol.
    pub(super) fn symbol(&mut self, table: &Table) -> Result<u8, Stop> {
        if self.count < 32 {
            self.fill();
        }
        let code = table.lookup.get((self.buffer >> (64 - LOOKUP_BITS)) as usize).copied().unwrap_or_default();
        let code = match code.length {
            0 => table.long((self.buffer >> 48) as u32),
            _ => Some(code),
        };
        let Some(code) = code else {
            return Err(if self.count < 16 { Stop::Short } else { Stop::Corrupt });
        };
        self.skip(u32::from(code.length)).map(|()| code.symbol)
    }

    /// Whether the bits of the last byte that no block used are ones, as encoders fill it (F.1.2.3).
    pub(super) fn is_filled_with_ones(&self) -> bool {
        let num_bits = self.count % 8;
        num_bits == 0 || self.buffer >> (64 - num_bits) == (1 << num_bits) - 1
    }

    /// Goes to the next marker: where it is, and the data bytes before it that no block used.
    pub(super) fn into_marker(mut self) -> (usize, &'a [u8]) {
        // Bytes that lie in the buffer were not used; a stuffed one counts once more, which is no matter.
        let start = self.at.saturating_sub((self.count / 8) as usize);
        while let Some(byte) = self.data.get(self.at) {
            if *byte == 0xff && !matches!(self.data.get(self.at + 1), Some(0 | 0xff)) {
                break;
            }
            self.at += 1;
        }
        (self.at, self.data.get(start..self.at).unwrap_or_default())
    }
}
