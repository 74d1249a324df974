//! One test binary: the whole, and the rules that the code keeps.

mod arrows;
mod tidy;
