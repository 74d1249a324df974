//! One test binary: the whole, and the rules that the code keeps.

mod arrows;
mod bad_input;
mod closed_loop;
mod doctor;
mod tidy;
mod zoo;
