//! The blocks of one scan of a JPEG file, baseline or progressive (ITU T.81, F.2.2 and G.2).

use super::huffman::{Bits, Stop, Table};

/// Which coefficients a scan sends, and with which bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    /// First and last coefficient in zigzag order.
    pub(super) first: u32,
    pub(super) last: u32,
    /// Whether bits are added to coefficients that an earlier scan sent.
    pub(super) is_refined: bool,
    pub(super) is_progressive: bool,
}

/// The tables of one component in a scan.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) dc: Option<&'a Table>,
    pub(super) ac: Option<&'a Table>,
}

/// Reads blocks; a run of blocks without coefficients reaches over several.
pub(super) struct Blocks<'a> {
    pub(super) bits: Bits<'a>,
    end_of_band_run: u32,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self { bits: Bits::new(data, at), end_of_band_run: 0 }
    }

    /// Reads a block. `sent` has a bit for each of its coefficients that is not zero; of progressive scans alone.
    pub(super) fn read(&mut self, band: Band, tables: Tables<'_>, sent: Option<&mut u64>) -> Result<(), Stop> {
        let dc = || tables.dc.ok_or(Stop::Corrupt);
        let ac = || tables.ac.ok_or(Stop::Corrupt);
        match (band.is_progressive, band.first, band.is_refined) {
            (false, ..) => self.baseline(dc()?, ac()?),
            (true, 0, false) => self.dc(dc()?),
            (true, 0, true) => self.bits.skip(1),
            (true, _, is_refined) => {
                let sent = sent.ok_or(Stop::Corrupt)?;
                if is_refined { self.ac_refined(band, ac()?, sent) } else { self.ac_first(band, ac()?, sent) }
            }
        }
    }

    fn dc(&mut self, dc: &Table) -> Result<(), Stop> {
        let size = self.bits.symbol(dc)?;
        if size > 16 { Err(Stop::Corrupt) } else { self.bits.skip(u32::from(size)) }
    }

    fn baseline(&mut self, dc: &Table, ac: &Table) -> Result<(), Stop> {
        self.dc(dc)?;
        let mut at = 1;
        while at < 64 {
            let symbol = self.bits.symbol(ac)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => return Ok(()),
                _ => {
                    at += run + 1;
                    self.bits.skip(size)?;
                }
            }
        }
        // A run of 16 zeros may end with the block only by mistake; decoders let that pass.
        if at > 64 + 15 { Err(Stop::Corrupt) } else { Ok(()) }
    }

    /// The blocks that an end-of-band symbol ends, with this one.
    fn run(&mut self, size: u32) -> Result<u32, Stop> {
        Ok((1 << size) + self.bits.number(size)?)
    }

    fn ac_first(&mut self, band: Band, ac: &Table, sent: &mut u64) -> Result<(), Stop> {
        if self.end_of_band_run > 0 {
            self.end_of_band_run -= 1;
            return Ok(());
        }
        let mut at = band.first;
        while at <= band.last {
            let symbol = self.bits.symbol(ac)?;
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => {
                    self.end_of_band_run = self.run(run)? - 1;
                    return Ok(());
                }
                _ => {
                    at += run;
                    if at > band.last {
                        return Err(Stop::Corrupt);
                    }
                    self.bits.skip(size)?;
                    *sent |= 1 << at;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn ac_refined(&mut self, band: Band, ac: &Table, sent: &mut u64) -> Result<(), Stop> {
        let mut at = band.first;
        while self.end_of_band_run == 0 && at <= band.last {
            let symbol = self.bits.symbol(ac)?;
            let (mut run, size) = (u32::from(symbol >> 4), symbol & 15);
            if size > 0 {
                // The sign of a coefficient that is sent here first.
                self.bits.skip(1)?;
            } else if run < 15 {
                self.end_of_band_run = self.run(run)?;
                break;
            }
            while at <= band.last {
                if *sent >> at & 1 == 1 {
                    self.bits.skip(1)?;
                } else if run == 0 {
                    break;
                } else {
                    run -= 1;
                }
                at += 1;
            }
            if size > 0 {
                if at > band.last {
                    return Err(Stop::Corrupt);
                }
                *sent |= 1 << at;
            }
            at += 1;
        }
        if self.end_of_band_run > 0 {
            self.end_of_band_run -= 1;
            if at <= band.last {
                let left = *sent >> at & (u64::MAX >> (63 - (band.last - at)));
                for _ in 0..left.count_ones() {
                    self.bits.skip(1)?;
                }
            }
        }
        Ok(())
    }

    /// Goes over the restart marker with this number; the blocks begin again behind it.
    pub(super) fn restart(self, data: &'a [u8], number: u8) -> Result<Self, Stop> {
        let (at, unused) = self.bits.into_marker();
        match data.get(at + 1) {
            Some(marker) if *marker == 0xd0 + number && unused.iter().all(|byte| *byte == 0xff) => {
                Ok(Self::new(data, at + 2))
            }
            Some(_) => Err(Stop::Corrupt),
            None => Err(Stop::Short),
        }
    }
}
