//! What every decoder does with broken bytes: it refuses them, without a panic and without asking for memory that no file of its size needs.
//! Whole ones it takes.
//! The same list runs under a fuzzer in `tests/fuzz`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use foresee_tests::decoders::{DECODERS, Decoder};
use foresee_tests::memory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const NUM_MUTANTS: usize = 300;
/// Of any one request for memory while a mutant is decoded.
const MAX_REQUEST_BYTES: usize = 256 << 20;

/// Numbers at which lengths, offsets and counts break.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

fn mutate(seed: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            return bytes;
        }
        // Headers are at the beginning or the end; most of the rest is payload.
        let place = match random.random_range(0..4) {
            0 => random.random_range(0..bytes.len()),
            1 => bytes.len() - 1 - random.random_range(0..bytes.len().min(512)),
            _ => random.random_range(0..bytes.len().min(512)),
        };
        let edge = EDGES[random.random_range(0..EDGES.len())];
        match random.random_range(0..8) {
            0 => bytes[place] ^= 1 << random.random_range(0..8),
            1 => bytes[place] = random.random(),
            2 => bytes.truncate(place),
            3 => {
                drop(bytes.splice(place..place, std::iter::repeat_n(random.random::<u8>(), random.random_range(1..64))))
            }
            4 => {
                let end = (place + random.random_range(1..64)).min(bytes.len());
                drop(bytes.drain(place..end));
            }
            5 => overwrite(&mut bytes, place, &edge.to_le_bytes()),
            6 => overwrite(&mut bytes, place, &(edge as u32).to_le_bytes()),
            _ => overwrite(&mut bytes, place, edge.to_string().as_bytes()),
        }
    }
    bytes
}

fn overwrite(bytes: &mut [u8], place: usize, with: &[u8]) {
    bytes[place..].iter_mut().zip(with).for_each(|(byte, new)| *byte = *new);
}

#[test]
fn broken_bytes_are_refused_without_panic_or_a_flood_of_memory() {
    for decoder in DECODERS {
        let folder = tempfile::tempdir().unwrap();
        let seeds = (decoder.seeds)();
        assert!(!seeds.is_empty() && seeds.iter().all(|seed| !seed.is_empty()), "{}: no seeds", decoder.name);
        let check = |bytes: &[u8], what: &str| {
            memory::forget_largest();
            let outcome = catch_unwind(AssertUnwindSafe(|| (decoder.decode)(bytes, folder.path())));
            let largest = memory::largest_bytes();
            if outcome.is_err() || largest > MAX_REQUEST_BYTES {
                let kept = std::env::temp_dir().join(format!("foresee-{}-crash", decoder.name));
                std::fs::write(&kept, bytes).unwrap();
                panic!(
                    "{}: {what}: panicked or asked for {largest} bytes; the bytes are in {}",
                    decoder.name,
                    kept.display()
                );
            }
            outcome.is_ok_and(|is_taken| is_taken)
        };
        for (seed_idx, seed) in seeds.iter().enumerate() {
            assert!(check(seed, "its own seed"), "{}: seed {seed_idx} is refused", decoder.name);
            let mut random = StdRng::seed_from_u64(seed_idx as u64);
            // Few of the large ones, so that the whole takes seconds.
            let num_mutants = NUM_MUTANTS / seeds.len() / (1 + seed.len() / 100_000) + 20;
            for mutant in 0..num_mutants {
                check(&mutate(seed, &mut random), &format!("mutant {mutant} of seed {seed_idx}"));
            }
        }
        for bytes in [&b""[..], b"\0", b"\xff\xff\xff\xff\xff\xff\xff\xff", b"{", b"[[", b"\x80\x02."] {
            check(bytes, "a few bytes");
        }
    }
}

#[test]
fn every_decoder_has_its_fuzz_target() {
    let folder = foresee_tests::root().join("tests/fuzz");
    let manifest: toml::Table = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
    let targets: Vec<&str> =
        manifest["bin"].as_array().unwrap().iter().map(|target| target["name"].as_str().unwrap()).collect();
    assert_eq!(targets.len(), DECODERS.len());
    for Decoder { name, .. } in DECODERS {
        let text = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(targets.contains(name) && text.contains(&format!("fuzz(\"{name}\", bytes)")), "{name}");
    }
}

/// The watch over memory sees what it is to see.
#[test]
fn a_flood_of_memory_would_be_seen() {
    memory::forget_largest();
    drop(std::hint::black_box(Vec::<u8>::with_capacity(MAX_REQUEST_BYTES + 1)));
    assert!(memory::largest_bytes() > MAX_REQUEST_BYTES);
}
