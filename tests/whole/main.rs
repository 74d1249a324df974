//! One test binary: the whole, and the rules that the code keeps.
#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

mod arrows;
mod bad_input;
mod closed_loop;
mod config;
mod decoders;
mod doctor;
mod engine;
mod faults;
mod hand_eye;
mod install;
mod pretraining;
mod probes;
mod replay;
mod rest;
mod robot;
mod signals;
mod tidy;
mod zoo;

#[global_allocator]
static ALLOCATOR: foresee_tests::memory::Watched = foresee_tests::memory::Watched;
